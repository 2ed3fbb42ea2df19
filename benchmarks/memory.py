"""The memory of a process and all below it; what several share counts once, in parts."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Tree:
    """The memory of a process and its descendants, in bytes (PSS)."""

    root_bytes: int
    bytes: int
    processes: int


def tree(pid: int) -> Tree:
    """Measures a process and its descendants."""
    root = psutil.Process(pid)
    sizes = []
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            sizes.append(process.memory_full_info().pss)
    return Tree(sizes[0], sum(sizes), len(sizes))

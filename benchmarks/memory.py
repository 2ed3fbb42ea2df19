"""The memory of a process and all below it; what several share counts once, in parts."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import psutil

_CELL_DEPTH = 3
"""In how many pid namespaces a process of a cell is: the machine's, the launcher's, the cell's."""


@dataclass(frozen=True)
class Tree:
    """The memory of a process and its descendants, in bytes (PSS)."""

    root_bytes: int
    bytes: int
    processes: int
    zygotes_bytes: list[int]
    """Each zygote by itself."""
    keepers_bytes: list[int]
    """The keeper of each cell, used or not, by itself; none where there are no pid namespaces."""
    keepers_own_bytes: list[int]
    """What they share with nobody."""


def tree(pid: int) -> Tree:
    """Measures a process and its descendants."""
    root = psutil.Process(pid)
    sizes: list[int] = []
    zygotes, keepers, own = [], [], []
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = process.memory_full_info()
            size = memory.pss
            sizes.append(size)
            if "workers.zygote" in _command(process) and "workers.zygote" not in _command(
                process.parent()
            ):
                zygotes.append(size)
            elif _is_keeper(process):
                keepers.append(size)
                own.append(memory.uss)
    return Tree(sizes[0], sum(sizes), len(sizes), zygotes, keepers, own)


def _command(process: psutil.Process | None) -> str:
    return "" if process is None else " ".join(process.cmdline())


def _is_keeper(process: psutil.Process) -> bool:
    """Whether a process is pid 1 of a cell: of a pid namespace within the launcher's own."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (pids,) = (line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
    return len(pids) == _CELL_DEPTH and pids[-1] == "1"

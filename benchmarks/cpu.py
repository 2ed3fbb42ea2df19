"""The CPU time of processes, in nanoseconds: what other things on the machine hardly change."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil


def cpu_time_s(pid: int) -> float:
    """Returns the CPU time of the threads that a process has, in seconds."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def cpu_time_below_s(pid: int) -> float:
    """Returns the CPU time of all that descends from a process, in seconds."""
    total = 0.0
    for process in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(OSError):
            total += cpu_time_s(process.pid)
    return total

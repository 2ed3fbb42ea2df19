"""What processes use of the machine, from /proc (see proc(5))."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterable

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def measure(pids: Iterable[int]) -> dict[str, float]:
    """Measures processes, and adds the CPU time of this process's children that have ended.

    Args:
        pids: Which; one that ends meanwhile is left out.

    Returns:
        `processes`: how many are alive; `cpu`: CPU time in seconds; `memory`: their resident memory in
        bytes, shared pages counted in full; `own`: that which no other process shares, in bytes.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = {"processes": 0, "cpu": ended.ru_utime + ended.ru_stime, "memory": 0, "own": 0}
    for pid in pids:
        with contextlib.suppress(OSError):
            _add(total, f"/proc/{pid}")
    return total


def _add(total: dict[str, float], folder: str) -> None:
    with open(f"{folder}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()  # after the name, which may hold anything
    if fields[0] == b"Z":
        total["cpu"] += sum(map(int, fields[11:15])) / _TICKS
        return
    with open(f"{folder}/statm", "rb") as file:
        resident = int(file.read().split()[1]) * _PAGE
    own = 0
    with open(f"{folder}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Private_"):
                own += int(line.split()[1]) * 1024
    total["processes"] += 1
    total["cpu"] += sum(map(int, fields[11:15])) / _TICKS
    total["memory"] += resident
    total["own"] += own

"""What processes use of the machine, from /proc (see proc(5))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

_TICKS = os.sysconf("SC_CLK_TCK")


def measure(pids: Iterable[int], ended_s: float) -> dict[str, float]:
    """Measures processes.

    Args:
        pids: Which; one that ends meanwhile is left out.
        ended_s: CPU time of others that have ended, in seconds, which is added.

    Returns:
        `processes`: how many are alive; `cpu`: CPU time in seconds; `memory`: their resident memory in
        bytes, shared pages counted in full; `own`: that which no other process shares, in bytes.
    """
    pids = list(pids)
    alive = [pid for pid in pids if _stat(pid)[:1] not in ([], [b"Z"], [b"X"])]
    return {
        "processes": len(alive),
        "cpu": measure_cpu_time(pids) + ended_s,
        "memory": sum(resident for resident, _ in _resident(alive)),
        "own": sum(_rollup(alive, b"Private_")),
    }


def measure_cpu_time(pids: Iterable[int]) -> float:
    """Returns the CPU time of processes, and of children that they have waited for, in seconds."""
    ticks = 0
    for pid in pids:
        ticks += sum(map(int, _stat(pid)[11:15]))
    return ticks / _TICKS


def measure_memory(pids: Iterable[int]) -> int:
    """Returns the memory that processes would give back, in bytes, quickly.

    Pages that they share with each other, after a fork, are counted for each of them.
    """
    return sum(resident - file for resident, file in _resident(pids))


def measure_own_memory(pids: Iterable[int]) -> int:
    """Returns the memory that processes would give back, in bytes, exactly.

    A page that is shared counts for each of its users by its part; see `smaps_rollup` in proc(5).
    """
    return sum(_rollup(pids, b"Pss_Anon", b"Pss_Shmem"))


def _resident(pids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Returns all resident memory of each process, and that of files, in bytes."""
    for pid in pids:
        status = dict(
            line.split(b":", 1) for line in _read(pid, "status").splitlines() if line[:3] == b"Rss"
        )
        anonymous, file, shared = (
            int(status.get(name, b"0 kB").split()[0]) * 1024
            for name in (b"RssAnon", b"RssFile", b"RssShmem")
        )
        yield anonymous + file + shared, file


def _rollup(pids: Iterable[int], *prefixes: bytes) -> Iterator[int]:
    for pid in pids:
        lines = _read(pid, "smaps_rollup").splitlines()
        for line in lines:
            if line.startswith(prefixes):
                yield int(line.split()[1]) * 1024
        if not lines:
            # It has ended, or has made itself undumpable: what it seems to use then counts in full.
            yield sum(resident - file for resident, file in _resident([pid]))


def _stat(pid: int) -> list[bytes]:
    """Returns what stands after the name, which may hold anything: the state, the parent, and so on."""
    return _read(pid, "stat").rpartition(b")")[2].split()


def _read(pid: int, name: str) -> bytes:
    """Reads one of a process's files; empty if it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()
    return b""

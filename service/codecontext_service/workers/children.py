"""Waiting for child processes, and ending all of them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any, NamedTuple


class EndedChild(NamedTuple):
    """A child that was reaped."""

    pid: int
    exit_code: int
    """Its exit status, or the negative number of the signal that killed it."""
    cpu_time_s: float
    """CPU time of it and of the children that it waited for."""
    peak_memory_bytes: int
    """The most resident memory that it had."""

    def report(self) -> dict[str, Any]:
        """Returns the message that tells the server of it."""
        return {
            "exited": self.pid,
            "code": self.exit_code,
            "cpu": self.cpu_time_s,
            "peak": self.peak_memory_bytes,
        }


class ChildWatch:
    """A descriptor that becomes readable when a child has ended."""

    def __init__(self) -> None:
        """Takes over SIGCHLD of this process."""
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def fileno(self) -> int:
        """Returns the descriptor."""
        return self._read

    @property
    def descriptors(self) -> tuple[int, int]:
        """All descriptors that it has."""
        return self._read, self._write

    def reap(self) -> Iterator[EndedChild]:
        """Reaps every child that has ended by now."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            yield EndedChild(
                pid,
                os.waitstatus_to_exitcode(status),
                usage.ru_utime + usage.ru_stime,
                usage.ru_maxrss * 1024,
            )

    def close(self) -> None:
        """Gives SIGCHLD back: for a forked child, which has its own children."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._read)
        os.close(self._write)


def all_others() -> set[int]:
    """Returns the pids of all processes that /proc shows, without this one."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} - {os.getpid()}


def descendants(spare: frozenset[int] = frozenset()) -> set[int]:
    """Returns the pids of all that descends from this process.

    Args:
        spare: Processes that are left out, with all that descends from them.
    """
    parents: dict[int, int] = {}
    for pid in all_others() - spare:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as stat:
            # pid (name) state ppid …, where the name may hold anything
            parents[pid] = int(stat.read().rpartition(b")")[2].split()[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


_CHASES = 1000
"""How often children are killed one by one before all processes are looked at."""


def _signal_all(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end_all_children(spare: frozenset[int] = frozenset()) -> None:
    """Kills all that descends from this process, which must be a subreaper, until nothing is left.

    Args:
        spare: Children that stay, with all that descends from them.
    """
    while True:
        _chase(spare)
        stopped: set[int] = set()
        # Stopped first, so that none forks away while others are killed.
        while fresh := descendants(spare) - stopped:
            _signal_all(fresh, signal.SIGSTOP)
            stopped |= fresh
        if not stopped:
            return
        _signal_all(stopped, signal.SIGKILL)
        for pid in stopped:
            # A grandchild can't be waited for until its parent's end has made it a child.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _chase(spare: frozenset[int]) -> None:
    """Kills the children of this process as fast as it can, until there are none or that does not help.

    What runs away, forking and ending for ever, is always a child of this process: it has ended before
    a look at all processes is over, but not before a look at this process's own children.
    """
    for _ in range(_CHASES):
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
                children = set(map(int, file.read().split())) - spare
        except OSError:  # a kernel without that file
            return
        if not children:
            return
        _signal_all(children, signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

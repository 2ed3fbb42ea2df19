"""Waiting for child processes, and ending all of them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from . import syscalls


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
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        syscalls.hear_of_ends_alone()  # the server stops what gives way to others
        self._open()

    def _open(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def fileno(self) -> int:
        """Returns the descriptor."""
        return self._read

    @property
    def is_behind(self) -> bool:
        """Whether a child has ended since the last `reap`."""
        return bool(select.select([self._read], [], [], 0)[0])

    @property
    def descriptors(self) -> tuple[int, int]:
        """All descriptors that it has."""
        return self._read, self._write

    def reap(self, before: Callable[[int], object] | None = None) -> Iterator[EndedChild]:
        """Reaps every child that has ended by now.

        Args:
            before: Is called with the pid of each before it is reaped.
        """
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
        while True:
            which = -1
            try:
                if before is not None:
                    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    if ended is None:
                        return
                    which = ended.si_pid
                    before(which)
                pid, status, usage = os.wait4(which, os.WNOHANG)
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

    def renew(self) -> None:
        """Becomes that of a forked child, which watches its own children."""
        os.close(self._read)
        os.close(self._write)
        self._open()

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
        with contextlib.suppress(OSError):
            parents[pid] = parent_of(pid)
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def descends(pid: int) -> bool:
    """Returns whether a process descends from this one, without a look at all others."""
    parent = pid
    while parent not in (0, os.getpid()):
        try:
            parent = parent_of(parent)
        except OSError:
            return False
    return parent not in (0, pid)


def parent_of(pid: int) -> int:
    """Returns the pid of a process's parent.

    Raises:
        OSError: It has ended.
    """
    with open(f"/proc/{pid}/stat", "rb") as stat:
        # pid (name) state ppid …, where the name may hold anything
        return int(stat.read().rpartition(b")")[2].split()[1])


def own_children() -> set[int]:
    """Returns the pids of this process's children: at once, but some may be missed while others come and go."""
    try:
        with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children", "rb") as children:
            return set(map(int, children.read().split()))
    except OSError:  # a kernel without such a list
        return set()


def _is_childless() -> bool:
    """Whether nothing descends from this process, which must be a subreaper."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _kill_all(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        # A grandchild can't be waited for until its parent's end has made it a child.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def end_all_children(spare: frozenset[int] = frozenset()) -> None:
    """Kills all that descends from this process, which must be a subreaper, until nothing is left.

    SIGKILL ends a fork that is under way, where SIGSTOP would come too late for the child.

    Args:
        spare: Children that stay, with all that descends from them.
    """
    while True:
        # Who forks and ends at once has ended before all of /proc is read; but then its child is this
        # process's own, and these are found fast enough.
        while children := own_children() - spare:
            _kill_all(children)
        if _is_childless() or not (found := descendants(spare)):
            return
        _kill_all(found)

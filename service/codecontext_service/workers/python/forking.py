"""Copies of the interpreter that become contexts of their own: what a fork must put right."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import resource
import selectors
import signal
import stat
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from IPython.core import async_helpers

from codecontext_service.workers import containment, landlock

_ROOM = 8
"""How many descriptors below the limit on open files the channel is at least."""

_ENDING_S = 0.2
"""How long a thread may take to end that nobody in Python knows any more: it may have been joined just now."""

_fork = os.fork  # the code may have put something else there


def other_threads() -> list[str]:
    """Returns the names of all threads but the main one: those of Python, then those of libraries."""
    known = {thread.native_id: thread for thread in threading.enumerate()}
    found = [thread.name for thread in known.values() if thread is not threading.main_thread()]
    for name in os.listdir("/proc/self/task"):
        if int(name) not in known and int(name) != os.getpid():
            with contextlib.suppress(OSError):  # it ends at this moment
                comm = Path(f"/proc/self/task/{name}/comm").read_text(errors="replace").strip()
                found.append(f"{comm} (native)")
    return found


def lasting_threads() -> list[str]:
    """Returns the names of all threads but the main one that stay: those of Python, then those of libraries.

    After a `join` the kernel may have a thread for a moment, under no name of Python's. So if there are only
    such, it waits until they have ended, for 0.2 s at most: those of libraries do not end.
    """
    deadline = time.monotonic() + _ENDING_S
    while found := other_threads():
        if threading.active_count() > 1 or time.monotonic() > deadline:
            break
        time.sleep(0.001)
    return found


def fork() -> int:
    """Forks this process, with all that libraries have registered to be done at a fork.

    Returns:
        The child's pid; 0 in the child.

    Raises:
        OSError: The kernel refused.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads are left behind, which was accepted
        return _fork()


class Offspring:
    """The children that are contexts of their own: reaped as soon as they end, for the server to know how.

    All others are left to the code, which may wait for them. Once there is one, this has SIGCHLD, unless
    the code has a handler of its own; then children are reaped at the end of a run.
    """

    def __init__(self) -> None:
        """Starts without any."""
        self._pids: set[int] = set()
        self.on_ended: Callable[[], None] = lambda: None
        """Is called when there is news in `ended`."""
        self.ended: list[dict[str, Any]] = []
        """How those ended that were reaped and not told of yet."""
        self.cpu_time_s = 0.0
        """The CPU time of those that were reaped, which counts as this process's children's."""

    def add(self, pid: int) -> None:
        """Takes a child."""
        self._pids.add(pid)
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL:
            signal.signal(signal.SIGCHLD, self._on_signal)

    def disown(self) -> None:
        """Forgets all, in a process that was forked: they are its parent's."""
        self._pids.clear()
        self.ended.clear()
        if signal.getsignal(signal.SIGCHLD) == self._on_signal:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def reap(self) -> None:
        """Reaps those that have ended by now."""
        for pid in list(self._pids):
            try:
                found, status, usage = os.wait4(pid, os.WNOHANG)
            except ChildProcessError:  # the code has waited for it: nobody knows how it ended
                self._pids.discard(pid)
                continue
            if found:
                self._pids.discard(pid)
                cpu_time_s = usage.ru_utime + usage.ru_stime
                self.cpu_time_s += cpu_time_s
                self.ended.append(
                    {
                        "exited": pid,
                        "code": os.waitstatus_to_exitcode(status),
                        "cpu": cpu_time_s,
                        "peak": usage.ru_maxrss * 1024,
                    }
                )

    def _on_signal(self, number: int, frame: Any) -> None:
        self.reap()
        with contextlib.suppress(OSError):  # the server is gone, which is noticed elsewhere
            self.on_ended()


class Outlets:
    """Where the descriptors of an interpreter lead, however often the code has copied them."""

    def __init__(self, *descriptors: int) -> None:
        """Remembers what descriptors lead to at the begin."""
        self._files = [_identity(fd) for fd in descriptors]

    def redirect(self, *targets: int) -> None:
        """Has everything that leads to one of those lead to another one, in this process.

        Args:
            *targets: Where to, for each of the descriptors that were remembered.
        """
        by_file = dict(zip(self._files, targets, strict=True))
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            try:
                target = by_file.get(_identity(fd))
            except OSError:  # that of the list itself is closed by now
                continue
            if target is not None:
                os.dup2(target, fd, inheritable=os.get_inheritable(fd))
        self._files = [_identity(fd) for fd in targets]

    def close(self) -> None:
        """Closes everything that leads to one of those, in this process."""
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if _identity(int(name)) in self._files:
                    os.close(int(name))


def move_up(fd: int, lowest: int) -> int:
    """Returns a copy of a descriptor that is out of the way, or as far as the limit on open files allows."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, min(lowest, limit - _ROOM))


def _identity(fd: int) -> tuple[int, int, int]:
    found = os.fstat(fd)
    return stat.S_IFMT(found.st_mode), found.st_dev, found.st_ino


def keep_apart() -> None:
    """Keeps this process, and all that it starts, from the processes that it has been forked from."""
    try:
        if landlock.abi():
            landlock.restrict(containment.of_copy())
    except OSError as error:
        if error.errno != errno.E2BIG:  # a copy of a copy of …: the kernel keeps 16 domains apart
            raise


def lower_limits(limits: Mapping[str, int]) -> None:
    """Lowers limits of this process for good; 0 leaves one as it is.

    Args:
        limits: `open_files`, `file_size` and `processes`.
    """
    for name, kind in (
        ("open_files", resource.RLIMIT_NOFILE),
        ("file_size", resource.RLIMIT_FSIZE),
        ("processes", resource.RLIMIT_NPROC),
    ):
        if value := limits[name]:
            resource.setrlimit(kind, (value, value))


def reseed() -> None:
    """Gives random number generators that a fork has copied a state of their own.

    That of `random` sees to it itself, right after each fork.
    """
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].seed()


def renew_libraries() -> None:
    """Has libraries forget what they know of the process that this one was copied from."""
    if process := sys.modules.get("multiprocessing.process"):
        process.__dict__["_children"] = set()  # as in its own forked children
    with contextlib.suppress(Exception):  # a policy of the code's
        current = getattr(getattr(asyncio.get_event_loop_policy(), "_local", None), "_loop", None)
        for loop in {async_helpers._asyncio_event_loop, current}:
            if loop is not None and not loop.is_closed():
                _renew_loop(loop)


def _renew_loop(loop: Any) -> None:
    """Gives asyncio's own loop a selector of its own: epoll's is shared by a fork, and so are its changes."""
    old = getattr(loop, "_selector", None)
    if not isinstance(old, selectors.BaseSelector):
        return
    new = type(old)()
    for key in list(old.get_map().values()):
        new.register(key.fileobj, key.events, key.data)
    loop._selector = new
    old.close()
    loop._close_self_pipe()
    loop._make_self_pipe()
    if loop._signal_handlers:
        signal.set_wakeup_fd(loop._csock.fileno())

"""The server's own group in one hierarchy of control groups, version 1 or 2: how it is made, and removed."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from .locks import lock, locked

logger = logging.getLogger(__name__)

MEMORY, CPU, CPU_TIME = "memory", "cpu", "cpuacct"

_PREFIX = "codecontext-"
_LEAF = "server"

_START_WAIT_S = 10.0
"""How long other servers may take to start. Whoever can read the directory could hold the lock."""

_LEFTOVERS_WAIT_S = 2.0
"""How long the processes of a server that was killed may take to end, at the next one's start."""


class Tree:
    """The server's group in one hierarchy, and what it has to do there."""

    def __init__(self, parent: Path, version: int, controllers: Iterable[str]) -> None:
        """Makes the server's group, and removes those of servers that were killed.

        Args:
            parent: The group that the server runs in.
            version: 1 or 2.
            controllers: What the hierarchy has to limit or count.

        Raises:
            OSError: It can't be used; the text says why.
        """
        self.version = version
        self.controllers = frozenset(controllers)
        self._parent = parent
        self._enabled: list[str] = []
        self._moved = False
        # One server at a time, or one would take the other's group, not locked yet, for a dead one's.
        with locked(parent, _START_WAIT_S):
            _remove_leftovers(parent)
            self.own = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
            self._lock = lock(self.own)
        if version == 2:
            try:
                self._delegate()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Removes the server's group and all below it, and leaves the rest as it was found."""
        try:
            _remove(self.own, spare=(self.own, self.own / _LEAF))
            if self._enabled:
                write(self.own / "cgroup.subtree_control", _minus(self._wanted()))
                with contextlib.suppress(OSError):  # another server needs them
                    write(self._parent / "cgroup.subtree_control", _minus(self._enabled))
            if self._moved:
                write(self._parent / "cgroup.procs", str(os.getpid()))
            _remove(self.own)
        except OSError as error:
            logger.warning("a control group is left: %s", error)
        finally:
            os.close(self._lock)

    def _wanted(self) -> list[str]:
        return sorted(self.controllers - {CPU_TIME})  # which version 2 counts anyway

    def _delegate(self) -> None:
        """Has the groups below the server's one limit what they are to limit."""
        given = read(self._parent / "cgroup.controllers").split()
        if missing := [each for each in self._wanted() if each not in given]:
            raise OSError(errno.ENOENT, f"{self._parent} is not given {' and '.join(missing)}")
        control = self._parent / "cgroup.subtree_control"
        enabled = read(control).split()
        wanted = [each for each in self._wanted() if each not in enabled]
        if wanted:
            try:
                write(control, _plus(wanted))
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                # A group that has processes itself can't pass controllers on.
                self._move_into_leaf()
                write(control, _plus(wanted))
            self._enabled = wanted
        write(self.own / "cgroup.subtree_control", _plus(self._wanted()))

    def _move_into_leaf(self) -> None:
        (self.own / _LEAF).mkdir()
        write(self.own / _LEAF / "cgroup.procs", str(os.getpid()))
        self._moved = True
        if others := read(self._parent / "cgroup.procs").split():
            raise OSError(
                errno.EBUSY,
                f"{self._parent} has other processes than the server ({', '.join(others[:5])}): "
                "give the server a control group of its own",
            )


def read(path: Path) -> str:
    """Returns what one of the kernel's files says."""
    return path.read_text()


def write(path: Path, text: str) -> None:
    """Writes to one of the kernel's files.

    Raises:
        OSError: The kernel refused; the text names the file.
    """
    try:
        path.write_text(text)
    except OSError as error:
        raise OSError(error.errno, f"{path}: {os.strerror(error.errno or 0)}") from None


def _remove_leftovers(parent: Path) -> None:
    """Removes the groups of servers that live no more."""
    for group in parent.glob(f"{_PREFIX}*"):
        try:
            held = lock(group, wait_s=0.0)
        except OSError:
            continue  # it lives, or somebody else was faster
        try:
            _remove(group)
            logger.info("removed a dead server's control group", extra={"group": group.name})
        except OSError as error:
            logger.warning("a dead server's control group is left: %s", error)
        finally:
            os.close(held)


def _remove(group: Path, spare: Iterable[Path] = ()) -> None:
    """Removes a group with all below it; waits a while for processes that are about to end."""
    deadline = time.monotonic() + _LEFTOVERS_WAIT_S
    for folder, _, _ in os.walk(group, topdown=False):
        if Path(folder) in spare:
            continue
        while True:
            try:
                os.rmdir(folder)  # noqa: PTH106  # as os.walk names it
                break
            except FileNotFoundError:
                break
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _plus(controllers: Iterable[str]) -> str:
    return " ".join(f"+{each}" for each in controllers)


def _minus(controllers: Iterable[str]) -> str:
    return " ".join(f"-{each}" for each in controllers)

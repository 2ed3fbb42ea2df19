"""Cells: what a context's processes are locked into, held by their pid 1.

A bare cell is a pid namespace with its own /proc. A full one has a mount, network, IPC, UTS and control
group namespace too, and files of its own. Cells of one sandbox share all but the pid namespace.

Whoever makes cells or forks into them is single-threaded: `setns` and `unshare` change the pid namespace
of the children to come, and are taken back right after the fork.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass

from . import mounts, syscalls
from .jail import CACHES, PRIVATE, WORKSPACE, under
from .prepared import Call, in_turn

_SHARED = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWCGROUP
    | syscalls.CLONE_NEWNET
)
_HOST_NAME = "sandbox"


@dataclass(frozen=True)
class CellSpec:
    """What a full cell is like."""

    uid: int
    """The user and group of its processes; -1 leaves them as they are, in a user namespace of their own."""

    workspace_bytes: int
    """How much its workspace may hold, and also /tmp and /dev/shm, each for itself."""

    workspace_inodes: int
    """How many files and directories each of these may have."""

    host_network: bool = False
    """Whether it has the network of the machine, and not just a loopback of its own."""

    @property
    def joins(self) -> int:
        """The namespaces, beside that of pids, that a process must join to be in it."""
        network = syscalls.CLONE_NEWNET if self.host_network else 0
        user = syscalls.CLONE_NEWUSER if self.uid < 0 else 0
        return (_SHARED & ~network) | user

    def furnishing(self, shown: tuple[str, ...]) -> Call:
        """Makes it ready to make the namespaces and files of a cell that is the first of its sandbox.

        Args:
            shown: What the jail shows: where a file system of the cell's covers it, it is shown again.

        Returns:
            What does it, in the pid 1 of the cell, or raises OSError where the kernel refuses.
        """
        return functools.partial(
            _furnishing(
                self.joins & ~syscalls.CLONE_NEWUSER,
                self.workspace_bytes,
                self.workspace_inodes,
                shown,
            ),
            self.uid,
        )

    def sharing(self, sibling: int) -> Call:
        """Makes it ready to join the namespaces of another cell of the same sandbox.

        Args:
            sibling: A pidfd of the other cell's pid 1.

        Returns:
            What does it, in the pid 1 of the new cell, or raises OSError where the kernel refuses, for
            instance since the other cell has ended.
        """
        shared = syscalls.setns.ready(sibling, self.joins & ~syscalls.CLONE_NEWUSER)
        user = [syscalls.setns.ready(sibling, syscalls.CLONE_NEWUSER)] if self.uid < 0 else []
        return in_turn(shared, _own_proc(), *user)


class _Furnishing:
    """What makes cells that differ in their users only."""

    def __init__(
        self, namespaces: int, size_bytes: int, inodes: int, shown: tuple[str, ...]
    ) -> None:
        network = [syscalls.bring_up_loopback] if namespaces & syscalls.CLONE_NEWNET else []
        self._enter = in_turn(
            syscalls.unshare.ready(namespaces), *network, syscalls.set_hostname.ready(_HOST_NAME)
        )
        self._private = [
            mounts.OwnedTmpfs(
                folder,
                size_bytes=size_bytes,
                inodes=inodes,
                mode=0o700 if folder == WORKSPACE else 0o1777,
            )
            for folder in PRIVATE
        ]
        # What is below another one that is shown comes with it.
        self._covered = [
            path for path in shown if under(path, PRIVATE) and not under(path, {*shown} - {path})
        ]
        self._restrict = in_turn(
            mounts.restrict_mount.ready(CACHES, read_only=True), mounts.mount_proc.ready()
        )

    def __call__(self, uid: int) -> None:
        self._enter()
        covered = [(path, os.open(path, os.O_PATH)) for path in self._covered]
        for each in self._private:
            each.mount(uid)
        for path, fd in covered:
            _show_again(path, fd)
        self._restrict()
        if uid < 0:
            syscalls.new_user_namespace()


_furnishing = functools.lru_cache(maxsize=64)(_Furnishing)


def _show_again(path: str, fd: int) -> None:
    if os.path.isdir(f"/proc/self/fd/{fd}"):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "x").close()
    mounts.bind(f"/proc/self/fd/{fd}", path)
    mounts.restrict_mount(path, read_only=True)
    os.close(fd)


@functools.cache
def _own_proc() -> Call:
    """Returns what shows a /proc of its own to the pid 1 of a cell that shares all else."""
    return in_turn(syscalls.unshare.ready(syscalls.CLONE_NEWNS), mounts.mount_proc.ready())


BARE_JOINS = syscalls.CLONE_NEWNS
"""The namespaces, beside that of pids, that a process must join to be in a bare cell."""


def furnish_bare() -> None:
    """Gives the pid 1 of a bare cell its /proc.

    Raises:
        OSError: The kernel refused.
    """
    syscalls.mount_own_proc()


def fork(run: Callable[[], object]) -> int:
    """Forks a child that does one thing and ends, with status 1 if that fails.

    Returns:
        Its pid.

    Raises:
        OSError: The kernel refused.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            run()
            status = 0
        except BaseException as error:
            os.write(2, f"codecontext: a process could not start: {error!r}\n".encode())
        finally:
            os._exit(status)
    return pid


class Nursery:
    """Forks children into pid namespaces, and stays in its own."""

    def __init__(self) -> None:
        """Remembers the pid namespace of this process."""
        self._home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        # Ready, since a page that this process writes to between two forks is one more for each child.
        self._leave_home = syscalls.unshare.ready(syscalls.CLONE_NEWPID)
        self._return_home = syscalls.setns.ready(self._home, syscalls.CLONE_NEWPID)

    def fork_cell(self, run: Callable[[], object]) -> int:
        """Forks pid 1 of a new cell, which is still to be furnished.

        Args:
            run: What it does.

        Returns:
            Its pid.

        Raises:
            OSError: The kernel refused.
        """
        self._leave_home()
        return self._fork(run)

    def fork_into(self, cell: int, joins: int, run: Callable[[], object]) -> int:
        """Forks a child into a cell.

        Args:
            cell: A pidfd of the cell's pid 1.
            joins: The namespaces that it must join beside that of pids.
            run: What it does there.

        Returns:
            Its pid.

        Raises:
            OSError: The kernel refused, for instance since the cell has ended.
        """

        def begin() -> None:
            syscalls.setns(cell, joins)
            run()

        syscalls.setns(cell, syscalls.CLONE_NEWPID)
        return self._fork(begin)

    def _fork(self, run: Callable[[], object]) -> int:
        try:
            return fork(run)
        finally:  # in the parent: the child never comes back
            self._return_home()


def check_bare_cells() -> None:
    """Makes a bare cell and forks into it: the test of whether this machine allows that.

    Raises:
        OSError: It does not.
    """
    nursery = Nursery()
    ready, made = os.pipe()
    stay, leave = os.pipe()

    def hold() -> None:
        os.close(leave)
        furnish_bare()
        os.write(made, b"x")
        os.read(stay, 1)

    def look() -> None:
        if os.readlink("/proc/self") != str(os.getpid()):
            raise OSError("a cell that shows another /proc")

    cell = nursery.fork_cell(hold)
    os.close(made)
    if not os.read(ready, 1):
        raise OSError("a cell can't be made")
    member = nursery.fork_into(os.pidfd_open(cell), BARE_JOINS, look)
    if os.waitpid(member, 0)[1] != 0:
        raise OSError("a cell can't be entered")
    os.close(leave)
    os.waitpid(cell, 0)

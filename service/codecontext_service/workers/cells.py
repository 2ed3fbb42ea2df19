"""Cells: a pid namespace with its own /proc, held by its pid 1, which processes are forked into.

Whoever makes cells or forks into them is single-threaded: `setns` and `unshare` change the namespace of
the children to come, and are taken back right after the fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from . import syscalls


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

    def fork_cell(self, run: Callable[[], object]) -> int:
        """Forks pid 1 of a new cell.

        Args:
            run: What it does, once it has its own /proc.

        Returns:
            Its pid.

        Raises:
            OSError: The kernel refused.
        """

        def begin() -> None:
            syscalls.mount_own_proc()
            run()

        syscalls.unshare(syscalls.CLONE_NEWPID)
        return self._fork(begin)

    def fork_into(self, cell: int, run: Callable[[], object]) -> int:
        """Forks a child into a cell.

        Args:
            cell: A pidfd of the cell's pid 1.
            run: What it does there.

        Returns:
            Its pid.

        Raises:
            OSError: The kernel refused, for instance since the cell has ended.
        """

        def begin() -> None:
            syscalls.setns(cell, syscalls.CLONE_NEWNS)
            run()

        syscalls.setns(cell, syscalls.CLONE_NEWPID)
        return self._fork(begin)

    def _fork(self, run: Callable[[], object]) -> int:
        try:
            return fork(run)
        finally:  # in the parent: the child never comes back
            syscalls.setns(self._home, syscalls.CLONE_NEWPID)


def check_cells() -> None:
    """Makes a cell and forks into it: the test of whether this machine allows that.

    Raises:
        OSError: It does not.
    """
    nursery = Nursery()
    ready, made = os.pipe()
    stay, leave = os.pipe()

    def hold() -> None:
        os.close(leave)
        os.write(made, b"x")
        os.read(stay, 1)

    def look() -> None:
        if os.readlink("/proc/self") != str(os.getpid()):
            raise OSError("a cell that shows another /proc")

    cell = nursery.fork_cell(hold)
    os.close(made)
    if not os.read(ready, 1):
        raise OSError("a cell can't be made")
    member = nursery.fork_into(os.pidfd_open(cell), look)
    if os.waitpid(member, 0)[1] != 0:
        raise OSError("a cell can't be entered")
    os.close(leave)
    os.waitpid(cell, 0)

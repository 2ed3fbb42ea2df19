"""Marks: whose a process is, where several contexts live under one keeper.

A context that was forked from another lives in its parent's pid namespace. So that its end is the end of
its own processes and of no others, each process has a mark that it hands down to all that it starts,
daemons too: the hard limit RLIMIT_LOCKS, of which no kernel since 2.4.25 takes any other notice. It can
only be lowered, and the filter of a cell denies even that; the keeper sets it for a new context's first
process. The first context of a keeper needs none.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Collection, Iterable
from typing import NamedTuple

from .filters import RLIMIT_LOCKS
from .lowering import lower_limit

_LINE = b"Max file locks"
_HIGHEST = 1 << 40


class Found(NamedTuple):
    """What was found of what must end."""

    pids: set[int]
    owners: Collection[int | None]
    """The members that may have processes still."""
    missed: bool
    """Whether a process ended before it could be looked at: it may have started another."""


class Marks:
    """The marks of one keeper's members, which are known by their numbers; the first is number 0."""

    def __init__(self) -> None:
        """Starts with the first member, whose processes have the same limit as this one."""
        self._unmarked = resource.getrlimit(RLIMIT_LOCKS)[1]
        unlimited = self._unmarked == resource.RLIM_INFINITY
        self._next = _HIGHEST if unlimited else min(_HIGHEST, self._unmarked)
        self._members = {self._unmarked: 0}
        self.shared = False
        """Whether there was ever more than one member."""

    def give(self, pid: int, number: int) -> None:
        """Marks a process as the first one of a member; it must not have started any other yet.

        Args:
            pid: The process.
            number: The member's.

        Raises:
            OSError: It has ended, or the kernel refused.
        """
        self._next -= 1  # lower than all that were given before, of which one may be its parent's
        if self._next < 0:
            raise OSError("this process has no limit on file locks left to mark others with")
        lower_limit(pid, RLIMIT_LOCKS, self._next)
        self.forget(number)
        self._members[self._next] = number
        self.shared = True

    def forget(self, number: int) -> None:
        """Forgets the mark of a member that has no processes any more."""
        if number:
            self._members = {mark: each for mark, each in self._members.items() if each != number}

    def owner(self, pid: int) -> int | None:
        """Returns whose a process is; None if it has ended, or has given itself a mark that nobody has."""
        try:
            with open(f"/proc/{pid}/limits", "rb") as limits:
                line = next(each for each in limits if each.startswith(_LINE))
        except (OSError, StopIteration):
            return None
        hard = line[len(_LINE) :].split()[1]
        return self._members.get(resource.RLIM_INFINITY if hard == b"unlimited" else int(hard))

    def by_owner(self, pids: Iterable[int]) -> dict[int, set[int]]:
        """Returns whose some processes are: by the number of each member that has any, those that it has."""
        found: dict[int, set[int]] = {}
        for pid in pids:
            if (owner := self.owner(pid)) is not None:
                found.setdefault(owner, set()).add(pid)
        return found

    def to_end(self, numbers: Collection[int], pids: Iterable[int]) -> Found:
        """Finds what must end with some members: all their processes, and those that are nobody's.

        Args:
            numbers: The members'.
            pids: The processes to look at.
        """
        owners: set[int | None] = set()
        alive: set[int] = set()
        missed = False
        for pid in pids:
            owner = self.owner(pid)
            if _is_alive(pid):
                if owner is None or owner in numbers:
                    owners.add(owner)
                    alive.add(pid)
            elif owner is None and not os.path.exists(f"/proc/{pid}"):
                missed = True
        return Found(alive, set(numbers) if None in owners else owners, missed)


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False

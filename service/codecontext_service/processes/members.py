"""What a keeper holds for one context: its processes, and no others'."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codecontext_service.domain.limits import Limits

from .control_groups import ControlGroup
from .peer import OrderError
from .process import Process, ProcessExit

if TYPE_CHECKING:  # each of them has the other
    from .keeper import Keeper


@dataclass(frozen=True)
class Usage:
    """What a context uses, or several together."""

    cpu_time_s: float
    memory_bytes: int
    own_memory_bytes: int
    processes: int

    def plus(self, other: Usage) -> Usage:
        """Returns what this one and another use together."""
        return Usage(
            self.cpu_time_s + other.cpu_time_s,
            self.memory_bytes + other.memory_bytes,
            self.own_memory_bytes + other.own_memory_bytes,
            self.processes + other.processes,
        )


class Member:
    """One of the contexts that a keeper holds: mostly there is one, and more where it was forked."""

    def __init__(self, keeper: Keeper, number: int, group: ControlGroup | None) -> None:
        """Makes a member without processes; see `Keeper.join`.

        Args:
            keeper: What holds it.
            number: By which the keeper knows it. The first one is 0.
            group: Where its processes are, if the machine has control groups for them.
        """
        self.keeper = keeper
        self.number = number
        self.group = group
        self.leaving = False
        """Whether its end was asked for."""
        self.pending_interrupts = 0
        """How many interrupts were ordered and not yet sent on."""
        self.exceeded = ""
        """The limit for which it was ended: `memory` or `cpu_time`; empty if it was not."""
        self.on_interrupted: Callable[[], None] = lambda: None
        """Is called when an interrupt was sent on."""
        self._is_watched = False  # a keeper that is left alone takes less memory
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done once all its processes are gone, its control group too; with the last one the keeper."""
        self._departure: asyncio.Task[None] | None = None
        self._removal: asyncio.Future[None] | None = None

    def interrupt(self, group: int) -> None:
        """Has SIGINT sent to a process group: an interpreter, and what it runs in the foreground.

        Args:
            group: Its number, as the interpreter sees it.
        """
        with contextlib.suppress(OSError):
            self.keeper.send({"interrupt": group, "member": self.number})
            self.pending_interrupts += 1

    def limit(self, limits: Limits) -> None:
        """Has them share processors, and ended once they use more memory or CPU time than they may.

        Raises:
            OSError: The kernel refused.
        """
        order = {"memory_bytes": limits.memory_bytes, "cpu_time_s": limits.cpu_time_s}
        if self.group is not None:  # then the kernel looks at memory, and at nothing too late
            self.group.limit(memory_bytes=limits.memory_bytes, cpus=limits.cpus)
            order["memory_bytes"] = 0
        if self._is_watched or any(order.values()):
            self._is_watched = True
            with contextlib.suppress(OSError):  # it has ended, which is told elsewhere
                self.keeper.send({"limit": order, "member": self.number})

    async def lower(self, pid: int, limits: Limits) -> None:
        """Lowers the limits of an interpreter that can't do it itself, before it runs code.

        Args:
            pid: Its pid as the keeper sees it.
            limits: Those on its open files, on the size of a file and on processes count here.

        Raises:
            OSError: The keeper is gone, or does not read.
            OrderError: The kernel refused.
        """
        order = {
            "pid": pid,
            "open_files": limits.open_files,
            "file_size": limits.file_size_bytes,
            "processes": limits.processes,
        }
        await self.keeper.order("lower", order)

    def read_news(self) -> None:
        """Takes what its keeper has said by now, which may be why a process has ended."""
        self.keeper.read_news()

    def note_run(self) -> None:
        """Takes note that a run begins: who was killed before has nothing to do with it."""
        if self.group is not None:
            self.group.note_oom_kills()

    def reason_of(self, exit_: ProcessExit) -> str:
        """Returns the limit for which an interpreter was ended, see `exceeded`.

        The kernel does not tell whom it has killed for want of memory: it is taken for the interpreter
        if that was killed in a run in which the kernel has killed any.

        Args:
            exit_: How it ended, by nobody's order.
        """
        killed = exit_.code in (None, -signal.SIGKILL)
        if not self.exceeded and killed and self.group is not None and self.group.oom_killed:
            return "memory"
        return self.exceeded

    async def usage(self) -> Usage:
        """Measures what its processes use.

        Raises:
            OSError: The keeper is gone, or does not read.
        """
        answer, _ = await self.keeper.order("usage", {"member": self.number})
        cpu_time_s = None if self.group is None else self.group.cpu_time_s()
        if cpu_time_s is None:
            cpu_time_s = answer["cpu"]  # without interpreters of before, which others have reaped
        return Usage(cpu_time_s, answer["memory"], answer["own"], answer["processes"])

    async def adopt(self, pid: int, parent: int) -> Process:
        """Takes a process as its first one: an interpreter that has run no code of its own yet.

        Args:
            pid: Its pid as the keeper sees it, as somebody says who may lie.
            parent: The number of the member whose process it is so far.

        Raises:
            OSError: The keeper is gone, or does not read.
            OrderError: It is no such process.
        """
        process = Process(pid, await self._adopt(pid, parent))
        self.keeper.expect(process)
        return process

    async def readopt(self, pid: int) -> None:
        """Takes an interpreter that was started for it anew, and that others reap.

        Args:
            pid: Its pid as the keeper sees it.

        Raises:
            OSError: The keeper is gone, or does not read.
            OrderError: It has ended.
        """
        if self.number:  # else it needs no mark
            os.close(await self._adopt(pid, 0))

    async def _adopt(self, pid: int, parent: int) -> int:
        order = {"pid": pid, "parent": parent, "member": self.number}
        _, (pidfd,) = await self.keeper.order("adopt", order)
        return pidfd

    async def empty(self) -> None:
        """Ends all its processes, and returns once they are gone; others can come, if it has a cell.

        Raises:
            OSError: The keeper is gone, or does not read.
        """
        if not self.keeper.stays:
            self.kill()
            await asyncio.shield(self.gone)
            return
        await self._end_processes()
        self.exceeded = ""
        self.pending_interrupts = 0
        self.on_interrupted = lambda: None

    def kill(self) -> None:
        """Ends all its processes; `gone` tells when it is done. The last member ends the keeper too.

        May be repeated.
        """
        self.leaving = True
        if all(member.leaving for member in self.keeper.members.values()):
            self.keeper.kill()
        elif self._departure is None or (self._departure.done() and not self.gone.done()):
            self._departure = self._loop.create_task(self._depart())

    def remove_group(self, *, vacated: bool) -> asyncio.Future[None]:
        """Begins to remove its control group, if it has one and that does not go on already.

        Args:
            vacated: Whether all its processes have ended, reaped or not; else it goes now if that is so.

        Returns:
            What is done once the group is gone.
        """
        if vacated and self.group is not None:
            self.group.on_vacated()
        if self._removal is None:
            if self.group is not None:
                self._removal = asyncio.ensure_future(self.group.remove())
            else:
                self._removal = self._loop.create_future()
                self._removal.set_result(None)
        return self._removal

    def on_keeper_gone(self) -> None:
        """Hears that the keeper is gone, and all that it held."""
        if not self.gone.done():
            self.gone.set_result(None)

    def close(self) -> None:
        """Closes what the server holds of its keeper, if that is gone."""
        if self.keeper.gone.done():
            self.keeper.close()

    async def _end_processes(self) -> None:
        await self.keeper.order("empty", {"member": self.number, "leaves": self.leaving})

    async def _depart(self) -> None:
        try:
            await self._end_processes()
        except (OSError, OrderError):
            return  # the keeper is gone, or about to be: then all that it held is
        await self.remove_group(vacated=True)
        self.keeper.members.pop(self.number, None)
        self.on_keeper_gone()

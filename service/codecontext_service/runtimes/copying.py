"""Copies of an interpreter: how it is told to fork, and what it tells of those that were forked from it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from codecontext_service.domain.limits import Limits
from codecontext_service.processes.members import Member
from codecontext_service.processes.peer import OrderError
from codecontext_service.processes.process import Process
from codecontext_service.workers import channel
from codecontext_service.workers.descriptors import close_all

from .base import InterpreterError, ThreadsError
from .decoding import ForkAnswer, decode_exited, decode_forked

SendFork = Callable[[dict[str, object], Sequence[int]], None]


def rlimits(limits: Limits) -> dict[str, int]:
    """Returns the limits that an interpreter sets for itself, as it is told of them."""
    return {
        "open_files": limits.open_files,
        "file_size": limits.file_size_bytes,
        "processes": limits.processes,
    }


def can_lower(now: Limits, wanted: Limits) -> bool:
    """Returns whether an interpreter can go from limits that it has set for itself to others.

    Args:
        now: Those that it has; nobody takes them back, see setrlimit(2).
        wanted: The others.
    """
    new = rlimits(wanted)
    return all(not old or 0 < new[name] <= old for name, old in rlimits(now).items())


class Copies:
    """What one interpreter's channel says of its copies."""

    KINDS = (channel.FORKED, channel.EXITED)
    """The messages that are meant for this."""

    def __init__(self, send: SendFork) -> None:
        """Starts without any.

        Args:
            send: Sends an order to fork, and descriptors; raises OSError.
        """
        self._send = send
        self._numbers = itertools.count(1)
        self._orders: dict[int, asyncio.Future[ForkAnswer]] = {}
        self._processes: dict[int, Process] = {}

    async def fork(
        self,
        member: Member,
        parent: Member,
        limits: Limits,
        streams: Sequence[int],
        *,
        allow_threads: bool,
    ) -> tuple[Process, list[str]]:
        """Has the interpreter fork, and its keeper take the child.

        Args:
            member: What the child is to be of the keeper.
            parent: What the interpreter is of it.
            limits: Those of the child.
            streams: The child's ends of what leads to it.
            allow_threads: Whether to fork although there are threads.

        Returns:
            The child, and the names of the threads that it has not.

        Raises:
            ThreadsError: There are threads.
            InterpreterError: There could be no child; the text says why.
        """
        try:
            answer = await self._order(member, limits, streams, allow_threads=allow_threads)
            if answer.refused:
                raise ThreadsError(answer.threads)
            if answer.error:
                raise InterpreterError(f"it could not fork: {answer.error}")
            process = await member.adopt(answer.pid, parent.number)
        except (OSError, OrderError) as error:
            raise InterpreterError(f"it could not be copied: {error}") from error
        self._processes[answer.pid] = process
        process.ended.add_done_callback(lambda ended: self._forget(process))
        return process, answer.threads

    async def _order(
        self, member: Member, limits: Limits, streams: Sequence[int], *, allow_threads: bool
    ) -> ForkAnswer:
        number = next(self._numbers)
        answered: asyncio.Future[ForkAnswer] = asyncio.get_running_loop().create_future()
        self._orders[number] = answered
        order: dict[str, object] = {
            "number": number,
            "allow_threads": allow_threads,
            "apart": member.keeper.launcher.containment.tier != "none",
            "rlimits": rlimits(limits),
        }
        entries: list[int] = []
        try:
            entries = [] if member.group is None else member.group.open_entries()
            self._send(order, [*streams, *entries])
            return await answered
        finally:
            del self._orders[number]
            close_all(entries)

    def take(self, kind: bytes, content: bytes) -> None:
        """Takes a message.

        Raises:
            ProtocolError: It is none.
        """
        if kind == channel.FORKED:
            number, answer = decode_forked(content)
            if (waiting := self._orders.get(number)) is not None and not waiting.done():
                waiting.set_result(answer)
        else:
            report: dict[str, Any] = decode_exited(content)
            if (process := self._processes.get(report["exited"])) is not None:
                process.on_hearsay(report)

    @property
    def waiting(self) -> list[asyncio.Future[ForkAnswer]]:
        """Those who wait for an answer."""
        return list(self._orders.values())

    def _forget(self, process: Process) -> None:
        if self._processes.get(process.pid) is process:  # the pid may be another's by now
            del self._processes[process.pid]

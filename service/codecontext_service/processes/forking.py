"""Interpreters that are forked, by a zygote or by the launcher, with what leads to them."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

from codecontext_service.workers.containment import Place
from codecontext_service.workers.descriptors import close_all

from .keeper import CellKeeper, SubreaperKeeper
from .launcher import Launcher, OnExit
from .members import Member
from .peer import OrderError, Peer
from .process import Process
from .streams import Streams, streams


@dataclass
class Forked:
    """An interpreter that was forked for a context, with the server's ends of what leads to it."""

    process: Process
    member: Member
    streams: Streams


class Forker(ABC):
    """Has a process below the server fork interpreters, see `workers.placing`."""

    framed = False
    """Whether the channels of these interpreters are streams, see `workers.channel`."""

    def __init__(self, launcher: Launcher) -> None:
        """Knows the launcher, which reaps what nobody else does."""
        self._launcher = launcher

    async def fork(self, cell: Member | None, place: Place | None = None) -> Forked:
        """Forks an interpreter.

        Args:
            cell: Where to; None has a keeper forked too. Stays the caller's if this fails.
            place: Without a cell, where its sandbox's files are, if it is to be kept to them.

        Raises:
            ZygoteLost: Of a zygote: it ended, or does not read.
            LauncherLost: Of the launcher: it ended.
            OSError: Of the launcher: it does not read.
            OrderError: The kernel refused, or the cell has ended.
            KeeperLost: Without a cell: the keeper ended at once.
        """
        with streams(framed=self.framed) as (ours, theirs):
            if cell is not None:
                return Forked(await self._fork_into(cell, theirs), cell, ours)
            process, keeper = await self._fork_with_keeper(theirs, place or Place(""))
            return Forked(process, keeper.first, ours)

    @abstractmethod
    async def order(self, descriptors: list[int], where: dict[str, Any]) -> tuple[int, int]:
        """Has the process forked that begins there; see `fork` for what it raises.

        Args:
            descriptors: What it gets.
            where: Where it is to be.

        Returns:
            Its pid as its parent sees it, and a pidfd of it.
        """

    def watch(self, pid: int, on_report: OnExit) -> None:
        """Has a function called with what the parent reports once it has reaped a child."""
        self._launcher.watch(pid, on_report)

    def forget(self, pid: int, on_report: OnExit) -> None:
        """Forgets about a child that has ended; its pid may be another's by now."""
        self._launcher.unwatch(pid, on_report)

    def keeper(self, pid: int, pidfd: int, end: socket.socket) -> SubreaperKeeper:
        """Takes over what leads to a keeper that was forked."""
        return SubreaperKeeper(self._launcher, pid, pidfd, end)

    async def _fork_into(self, cell: Member, streams: list[int]) -> Process:
        keeper = cell.keeper
        if not isinstance(keeper, CellKeeper):
            raise OrderError("it is no cell")
        where = {"joins": keeper.joins, "uid": keeper.spec.uid}
        try:
            entries = [] if cell.group is None else cell.group.open_entries()
        except OSError as error:  # it goes with its cell
            raise OrderError(f"the cell has no control group any more: {error}") from error
        try:
            pid, pidfd = await self.order([*streams, keeper.pidfd, *entries], where)
        finally:
            close_all(entries)
        process = Process(pid, pidfd)
        self.watch(pid, process.on_report)
        process.ended.add_done_callback(lambda ended: self.forget(pid, process.on_report))
        return process

    async def _fork_with_keeper(
        self, streams: list[int], place: Place
    ) -> tuple[Process, SubreaperKeeper]:
        end, theirs = Peer.pair()
        try:
            with theirs:
                pid, pidfd = await self.order([*streams, theirs.fileno()], {"place": asdict(place)})
        except BaseException:
            end.close()
            raise
        keeper = self.keeper(pid, pidfd, end)
        self.watch(pid, keeper.on_reaped)
        keeper.gone.add_done_callback(lambda gone: self.forget(pid, keeper.on_reaped))
        try:
            return await asyncio.shield(keeper.interpreter), keeper
        except BaseException:
            keeper.kill()
            keeper.gone.add_done_callback(lambda gone: keeper.close())
            raise

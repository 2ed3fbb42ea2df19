"""The server's side of keepers, see `workers/keeper.py`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
from abc import ABC, abstractmethod
from typing import Any

from codecontext_service.workers.cells import BARE_JOINS, CellSpec

from .control_groups import ControlGroup
from .launcher import Launcher
from .members import Member
from .peer import Peer
from .process import Process


class KeeperLost(Exception):
    """A keeper ended before it was ready."""


class Keeper(ABC):
    """The process that holds a context's processes together, and those of its forks."""

    stays = True
    """Whether it stays when the interpreter has ended that it was made for."""

    def __init__(self, launcher: Launcher, pid: int, pidfd: int, end: socket.socket) -> None:
        """Takes over the pidfd and the socket of a keeper that was just forked."""
        self.launcher = launcher
        self.pidfd = pidfd
        self._pid = pid
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done once the keeper is reaped, and with it all that it held is gone."""
        self.members: dict[int, Member] = {}
        """The contexts that it holds, by their numbers."""
        self._numbers = itertools.count()
        self._processes: dict[int, Process] = {}
        self._peer = Peer(end, self._on_message, self._on_closed)
        launcher.watch(pid, self.on_reaped)
        self._launcher_lost = launcher.lost
        self._launcher_lost.add_done_callback(self._on_launcher_lost)

    def join(self, group: ControlGroup | None) -> Member:
        """Takes a member more.

        Args:
            group: Where its processes are to be, if the machine has control groups; removed with it.
        """
        member = Member(self, next(self._numbers), group)
        self.members[member.number] = member
        return member

    def expect(self, process: Process) -> None:
        """Takes a process whose end is told by this keeper, if it becomes its child, or else by its parent."""
        self._processes[process.pid] = process
        process.ended.add_done_callback(lambda ended: self._forget(process))

    def _forget(self, process: Process) -> None:
        if self._processes.get(process.pid) is process:  # the pid may be another's by now
            del self._processes[process.pid]

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message.

        Raises:
            OSError: It is gone, or does not read.
        """
        self._peer.send(message)

    async def order(self, verb: str, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """Tells it to do something, and waits for its answer; see `Peer.order`.

        Raises:
            OSError: It is gone, or does not read.
            OrderError: It could not do it.
        """
        return await self._peer.order(verb, message)

    def read_news(self) -> None:
        """Takes what it has said by now."""
        self._peer.read()

    @abstractmethod
    def kill(self) -> None:
        """Ends every process that it holds, and itself; `gone` tells when it is done. May be repeated."""

    @abstractmethod
    def on_reaped(self, report: dict[str, Any]) -> None:
        """Hears from its parent that it is reaped."""

    def close(self) -> None:
        """Closes what the server holds of it."""
        self._peer.close()
        self.launcher.unwatch(self._pid, self.on_reaped)
        self._launcher_lost.remove_done_callback(self._on_launcher_lost)
        if self.pidfd >= 0:
            self._loop.remove_reader(self.pidfd)
            os.close(self.pidfd)
        self.pidfd = -1

    def _kill_process(self) -> None:
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def _on_message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "exited" in message:
            if process := self._processes.get(message["exited"]):
                process.on_report(message)
        elif (member := self.members.get(message["member"])) is None:
            pass  # it has left
        elif "interrupted" in message:
            member.pending_interrupts -= 1
            member.on_interrupted()
        elif "exceeded" in message:
            member.exceeded = message["exceeded"]

    @abstractmethod
    def _on_closed(self) -> None:
        """Hears that the keeper has closed its socket: it has ended, and is not reaped yet."""

    def _on_launcher_lost(self, lost: asyncio.Future[None]) -> None:
        # It was pid 1 of the namespace that they all live in, or else their reaper of last resort,
        # without which they must not go on. Nobody is left who would tell of their end.
        self.kill()
        if not self.gone.done():
            self._loop.add_reader(self.pidfd, self._on_ended_alone)

    def _on_ended_alone(self) -> None:
        self._loop.remove_reader(self.pidfd)
        self._on_gone()

    def _on_gone(self) -> None:
        for process in list(self._processes.values()):
            process.expect_no_report()
        for member in self.members.values():
            member.on_keeper_gone()
        if not self.gone.done():
            self.gone.set_result(None)


class CellKeeper(Keeper):
    """Pid 1 of a cell: the end of it is the end of all in the cell, its files too if nobody shares them."""

    def __init__(
        self,
        launcher: Launcher,
        pid: int,
        pidfd: int,
        end: socket.socket,
        *,
        spec: CellSpec,
        group: ControlGroup | None,
    ) -> None:
        """Knows a keeper that the launcher has just forked, and takes over its cell's control group."""
        self.spec = spec
        self._reaped = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once its cell can be entered."""
        self.workspace = -1
        """A descriptor of the cell's workspace, if it has one and is ready."""
        super().__init__(launcher, pid, pidfd, end)
        self.first = self.join(group)

    @property
    def joins(self) -> int:
        """The namespaces that a process must join to be in the cell."""
        return self.spec.joins if self.launcher.containment.cells == "full" else BARE_JOINS

    def close(self) -> None:
        """Closes what the server holds of it."""
        super().close()
        if self.workspace >= 0:
            os.close(self.workspace)
            self.workspace = -1

    def kill(self) -> None:
        """Ends every process of the cell; `gone` tells when it is done. May be repeated."""
        self._kill_process()
        if self.pidfd >= 0 and not self._launcher_lost.done():
            self._loop.add_reader(self.pidfd, self._on_ended)

    def on_reaped(self, report: dict[str, Any]) -> None:
        """Hears from the launcher that it is reaped: the kernel reaps it after all others."""
        self._on_gone()

    def _on_ended(self) -> None:
        """Hears that it has ended, and all others with it: its groups are removed while it is reaped."""
        self._loop.remove_reader(self.pidfd)
        self._remove_groups()

    def _remove_groups(self) -> list[asyncio.Future[None]]:
        removals = [each.remove_group(vacated=True) for each in self.members.values()]
        return [removal for removal in removals if not removal.done()]

    def _on_gone(self) -> None:
        if self._reaped:
            return
        self._reaped = True
        if not (removals := self._remove_groups()):
            super()._on_gone()
        else:
            asyncio.gather(*removals).add_done_callback(
                lambda removal: super(CellKeeper, self)._on_gone()
            )

    def _on_message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "ready" in message:
            (self.workspace,) = descriptors or (-1,)
            if not self.ready.done():  # else whoever waited for it has given up
                self.ready.set_result(None)
        elif "failed" in message:
            if not self.ready.done():
                self.ready.set_exception(KeeperLost(message["failed"]))
                self.ready.exception()  # nobody may be waiting for it
        else:
            super()._on_message(message, descriptors)

    def _on_closed(self) -> None:
        if not self.ready.done():
            self.ready.set_exception(KeeperLost("the cell has ended before it was ready"))
            self.ready.exception()  # nobody may be waiting for it


class SubreaperKeeper(Keeper):
    """The parent of an interpreter where there are no pid namespaces."""

    stays = False

    def __init__(self, launcher: Launcher, pid: int, pidfd: int, end: socket.socket) -> None:
        """Knows a keeper that the zygote has just forked."""
        self.interpreter: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        """The interpreter, once it is forked."""
        super().__init__(launcher, pid, pidfd, end)
        self.first = self.join(None)
        with contextlib.suppress(OSError):  # the launcher is gone, and this keeper soon
            launcher.keep(pid)

    def kill(self) -> None:
        """Ends every process that descends from it; `gone` tells when it is done. May be repeated."""
        if self.gone.done() or self.pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGCONT)
        with contextlib.suppress(OSError):
            self._peer.send({"kill": True})

    def on_reaped(self, report: dict[str, Any]) -> None:
        """Hears from the zygote, or from the launcher, that it is reaped."""
        if self.gone.done():
            return
        if report["code"] == 0:
            self._on_gone()
        else:  # it did not end its processes: they are the launcher's now
            sweep = asyncio.ensure_future(self.launcher.sweep())
            sweep.add_done_callback(self._on_swept)

    def check_reaped(self) -> None:
        """Looks whether it is reaped, where the process that would tell has died."""
        if not self.gone.done():
            try:
                signal.pidfd_send_signal(self.pidfd, 0)
            except ProcessLookupError:
                self.on_reaped({"code": None})  # nobody knows how: it may have left processes

    def _on_swept(self, swept: asyncio.Future[None]) -> None:
        swept.exception()  # without a launcher its processes are gone too
        self._on_gone()

    def _on_message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "pid" in message:
            interpreter = Process(message["pid"], descriptors[0])
            self.expect(interpreter)
            self.interpreter.set_result(interpreter)
        else:
            super()._on_message(message, descriptors)

    def _on_closed(self) -> None:
        if not self.interpreter.done():
            self.interpreter.set_exception(KeeperLost("the keeper has ended at once"))
            self.interpreter.exception()  # as above
        elif not self.interpreter.exception():
            self.interpreter.result().expect_no_report()

"""The server's side of keepers, see `workers/keeper.py`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from codecontext_service.domain.limits import Limits
from codecontext_service.workers.cells import BARE_JOINS, CellSpec

from .control_groups import ControlGroup
from .launcher import Launcher
from .peer import Peer
from .process import Process, ProcessExit


class KeeperLost(Exception):
    """A keeper ended before it was ready."""


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


class Keeper(ABC):
    """The process that holds one context's processes together."""

    def __init__(self, launcher: Launcher, pid: int, pidfd: int, end: socket.socket) -> None:
        """Takes over the pidfd and the socket of a keeper that was just forked."""
        self.launcher = launcher
        self.pidfd = pidfd
        self.group: ControlGroup | None = None
        """Where its interpreters are, but not itself, if the machine has control groups for them."""
        self._pid = pid
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done once the keeper is reaped, and with it all that it held is gone."""
        self.pending_interrupts = 0
        """How many interrupts were ordered and not yet sent on."""
        self.exceeded = ""
        """The limit for which it has ended all: `memory` or `cpu_time`; empty if it has not."""
        self.on_interrupted: Callable[[], None] = lambda: None
        """Is called when an interrupt was sent on."""
        self._peer = Peer(end, self._on_message, self._on_closed)
        launcher.watch(pid, self.on_reaped)
        self._launcher_lost = launcher.lost
        self._launcher_lost.add_done_callback(self._on_launcher_lost)

    def interrupt(self, group: int) -> None:
        """Has SIGINT sent to a process group: an interpreter, and what it runs in the foreground.

        Args:
            group: Its number, as the interpreter sees it.
        """
        with contextlib.suppress(OSError):
            self._peer.send({"interrupt": group})
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
        with contextlib.suppress(OSError):  # it has ended, which is told elsewhere
            self._peer.send({"limit": order})

    def read_news(self) -> None:
        """Takes what it has said by now, which may be why a process has ended."""
        self._peer.read()

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
        answer, _ = await self._peer.order("usage")
        cpu_time_s = None if self.group is None else self.group.cpu_time_s()
        if cpu_time_s is None:
            cpu_time_s = answer["cpu"]  # without interpreters of before, which others have reaped
        return Usage(cpu_time_s, answer["memory"], answer["own"], answer["processes"])

    @abstractmethod
    def kill(self) -> None:
        """Ends every process that it holds, and itself; `gone` tells when it is done. May be repeated."""

    @abstractmethod
    async def empty(self) -> None:
        """Ends every process that it holds, and returns once they are gone. A cell's keeper stays.

        Raises:
            OSError: It is gone, or does not read.
        """

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
        if "interrupted" in message:
            self.pending_interrupts -= 1
            self.on_interrupted()
        elif "exceeded" in message:
            self.exceeded = message["exceeded"]

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
        self._removal: asyncio.Task[None] | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once its cell can be entered."""
        self.workspace = -1
        """A descriptor of the cell's workspace, if it has one and is ready."""
        super().__init__(launcher, pid, pidfd, end)
        self.group = group

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

    async def empty(self) -> None:
        """Ends every other process of the cell, and returns once they are gone: it can be used again.

        Raises:
            OSError: It is gone, or does not read.
        """
        await self._peer.order("empty")
        self.exceeded = ""
        self.pending_interrupts = 0
        self.on_interrupted = lambda: None

    def on_reaped(self, report: dict[str, Any]) -> None:
        """Hears from the launcher that it is reaped: the kernel reaps it after all others."""
        self._on_gone()

    def _on_gone(self) -> None:
        if self.group is None:
            super()._on_gone()
        elif self._removal is None:
            self._removal = self._loop.create_task(self.group.remove())
            self._removal.add_done_callback(lambda removal: super(CellKeeper, self)._on_gone())

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

    def __init__(self, launcher: Launcher, pid: int, pidfd: int, end: socket.socket) -> None:
        """Knows a keeper that the zygote has just forked."""
        self.interpreter: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        """The interpreter, once it is forked."""
        super().__init__(launcher, pid, pidfd, end)
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

    async def empty(self) -> None:
        """Ends every process that descends from it, and itself: it is the parent of one interpreter."""
        self.kill()
        await asyncio.shield(self.gone)

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
            self.interpreter.set_result(Process(message["pid"], descriptors[0]))
        elif "exited" in message:
            self.interpreter.result().on_report(message)
        else:
            super()._on_message(message, descriptors)

    def _on_closed(self) -> None:
        if not self.interpreter.done():
            self.interpreter.set_exception(KeeperLost("the keeper has ended at once"))
            self.interpreter.exception()  # as above
        elif not self.interpreter.exception():
            self.interpreter.result().expect_no_report()

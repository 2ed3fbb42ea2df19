"""The server process: starts, serves until it is told to stop, drains, and ends with a truthful status."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from codecontext_service.config import Config
from codecontext_service.config_error import ConfigError
from codecontext_service.contexts.manager import ContextManager
from codecontext_service.contexts.provision import usual_setup
from codecontext_service.contexts.sandbox_manager import SandboxManager
from codecontext_service.domain.ids import IdMaker
from codecontext_service.processes.containment import Containment
from codecontext_service.processes.launcher import LauncherLost
from codecontext_service.runtimes.base import InterpreterError
from codecontext_service.runtimes.kernelspecs import with_kernels
from codecontext_service.runtimes.languages import make_runtime
from codecontext_service.runtimes.registry import Runtimes
from codecontext_service.sandboxes.sandbox import Sandboxes
from codecontext_service.workers.jail import WORKSPACE

from .containing import Contained, contain
from .isolation import check_required, open_control_groups, uncontained
from .memory import keep_buffers
from .state_dir import StateDirectory

if TYPE_CHECKING:
    from .endpoint import Endpoint

logger = logging.getLogger(__name__)

_STOP_S = 2.0
"""How long calls that still go on have after everything is gone, for instance health watches."""


@dataclass(frozen=True)
class _Parts:
    manager: ContextManager
    sandboxes: SandboxManager
    runtimes: Runtimes
    contained: Contained
    endpoint: Endpoint


class Server:
    """One server: `start`, then `wait_closed` or `drain` and `stop`."""

    def __init__(self, config: Config) -> None:
        """Makes a server that is not started yet."""
        self.config = config
        self.addresses: list[str] = []
        """What it listens on, once it is started."""
        self._force = asyncio.Event()

    async def start(self) -> None:
        """Starts everything, and returns once the server is SERVING.

        Raises:
            ConfigError: An option can't be used.
            InterpreterError: A runtime can't be started that must be; see `Runtimes.start`.
        """
        self.config.check()
        config = self.config = with_kernels(self.config)
        try:
            self._state = StateDirectory(config.state_dir)
        except OSError as error:
            raise ConfigError(f"state_dir: {error}") from error
        self._groups = await asyncio.to_thread(open_control_groups, config)
        try:
            await self._start_parts()
        except BaseException:
            await self._give_back()
            raise
        logger.info(
            "serving",
            extra={
                "addresses": ",".join(self.addresses),
                "runtimes": ",".join(r.config.name for r in self._parts.runtimes),
            },
        )

    async def _start_parts(self) -> None:
        config = self.config
        contained = await contain(config, self._state, self._groups)
        launcher, cells = contained.launcher, contained.cells
        runtimes = Runtimes(
            make_runtime(each, launcher, cells, self._state.path / f"runtime-{each.name}")
            for each in config.runtimes
        )
        ids = IdMaker()
        places = Sandboxes(self._state.path / "sandboxes", ids, cells, config)
        manager = ContextManager(config, ids, places, cells.right_of_way)
        sandboxes = SandboxManager(config, manager, places)
        if launcher.containment.tier == "none" and not launcher.containment.cells:
            launcher.containment = uncontained(pid_namespaces=False)
            try:
                check_required(config, launcher.containment)  # it is less than was chosen
            except ConfigError:
                await contained.end()
                raise
        if cells.full:  # the workspace has the same name in all
            limits = config.default_limits.without(launcher.containment.unkept_limits)
            for runtime in runtimes:
                runtime.usual = usual_setup(runtime, WORKSPACE, limits)
        _log_guarantees(launcher.containment)
        starting = asyncio.create_task(runtimes.start())
        endpoint: Endpoint | None = None
        try:
            # While the interpreters load theirs.
            make_endpoint = await asyncio.to_thread(_load_endpoint)
            endpoint = make_endpoint(config, launcher.containment, manager, sandboxes, runtimes)
            self.addresses = await endpoint.start()
            await starting
        except BaseException:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            if endpoint is not None:
                await endpoint.stop(0)
            for runtime in runtimes:
                await runtime.stop()
            await contained.end()
            raise
        self._parts = _Parts(manager, sandboxes, runtimes, contained, endpoint)
        manager.phase = "serving"
        await endpoint.say(serving=True)

    def force(self) -> None:
        """Ends the grace time of a drain."""
        self._force.set()

    async def drain(self) -> bool:
        """Takes no new work, lets running executions end within the grace time, and removes everything.

        Returns:
            Whether everything is gone.
        """
        logger.info("draining", extra={"grace_s": self.config.drain_grace_s})
        await self._parts.endpoint.say(serving=False)
        contexts_gone = await self._parts.manager.drain(self.config.drain_grace_s, self._force)
        return await self._parts.sandboxes.drain() and contexts_gone

    async def _give_back(self) -> None:
        """Gives back what it has of the machine, once nothing uses it any more."""
        await asyncio.to_thread(self._groups.close)
        self._state.remove()

    async def stop(self) -> bool:
        """Ends the server and every process below it.

        Returns:
            Whether all of them have ended by now.
        """
        await self._parts.endpoint.stop(0 if self._force.is_set() else _STOP_S)
        for runtime in self._parts.runtimes:
            await runtime.stop()
        ended = await self._parts.contained.end()
        await self._give_back()
        # Of the event loop, beside the caller's: with nothing left to do, any would be a leak.
        logger.info("stopped", extra={"tasks": len(asyncio.all_tasks()) - 1})
        return ended


async def _serve(config: Config) -> int:
    server = Server(config)
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    starting = asyncio.create_task(server.start())
    first = asyncio.create_task(signals.get())
    await asyncio.wait([starting, first], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 128 + first.result()
    try:
        starting.result()
    except (ConfigError, InterpreterError, LauncherLost) as error:
        sys.stderr.write(f"codecontext: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    await first
    draining = asyncio.create_task(server.drain())
    second = asyncio.create_task(signals.get())
    await asyncio.wait([draining, second], return_when=asyncio.FIRST_COMPLETED)
    forced = not draining.done()
    if forced:
        logger.warning("a second signal: what runs is ended now")
        server.force()
    second.cancel()
    all_gone = await draining
    all_ended = await server.stop()
    if forced:
        return 128 + second.result() if second.done() and not second.cancelled() else 1
    return 0 if all_gone and all_ended else 1


def serve(config: Config) -> int:
    """Runs a server until SIGTERM or SIGINT.

    Returns:
        The process's exit status: 0 after a drain that left nothing, 1 when something could not be
        started or ended, 2 for options that can't be used, 128 plus the signal's number when a second
        signal cut the drain short.
    """
    keep_buffers()
    return uvloop.run(_serve(config))


def _load_endpoint() -> type[Endpoint]:
    """Imports gRPC, the messages and what turns calls into ours."""
    from .endpoint import Endpoint

    return Endpoint


def _log_guarantees(containment: Containment) -> None:
    """Names what is guaranteed, and as a warning what is not."""
    guarantees = {
        "tier": containment.tier,
        "guarantees": ",".join(containment.guarantees),
        "missing": ",".join(containment.missing),
    }
    if containment.missing:
        logger.warning("contexts are not fully contained", extra=guarantees)
    else:
        logger.info("contexts are contained", extra=guarantees)

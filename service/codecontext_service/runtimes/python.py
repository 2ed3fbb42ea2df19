"""Python runtimes: interpreters that are forked from a zygote, with a pool of ready ones."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from codecontext_service.domain.limits import Limits
from codecontext_service.processes.cells import CellError, Cells, Home
from codecontext_service.processes.forking import Forked
from codecontext_service.processes.keeper import KeeperLost
from codecontext_service.processes.launcher import Launcher, LauncherLost
from codecontext_service.processes.members import Member
from codecontext_service.processes.peer import OrderError
from codecontext_service.processes.zygote import Zygote, ZygoteLost
from codecontext_service.runtime_config import RuntimeConfig
from codecontext_service.workers.containment import Place

from .base import Copy, Interpreter, InterpreterError
from .interpreter import ChannelInterpreter
from .pooled import PooledRuntime

logger = logging.getLogger(__name__)

_RESTART_DELAYS_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)


class PythonRuntime(PooledRuntime):
    """A Python interpreter with its environment, loaded once and forked for each context."""

    capabilities: tuple[str, ...] = (
        "interrupt",
        "input",
        "environment",
        "complete",
        "inspect",
        "fork",
    )

    lowers = True

    def __init__(
        self, config: RuntimeConfig, launcher: Launcher, cells: Cells, state_dir: Path
    ) -> None:
        """Makes a runtime that is not started yet.

        Args:
            config: Its options.
            launcher: What starts its zygote.
            cells: Where its interpreters live, if the machine allows cells.
            state_dir: A directory of its own.
        """
        super().__init__(config, cells)
        self._launcher = launcher
        self._state_dir = state_dir
        self._zygote: Zygote | None = None
        self._started = asyncio.Event()

    async def start(self) -> None:
        """Starts the zygote.

        Raises:
            InterpreterError: The zygote can't start; the text says why.
        """
        self._state_dir.mkdir(exist_ok=True)
        try:
            await self._start_zygote()
        except (ZygoteLost, LauncherLost, OrderError, OSError) as error:
            raise InterpreterError(f"runtime {self.config.name}: {error}") from error
        self._tasks.append(asyncio.create_task(self._supervise()))

    async def copy(
        self, interpreter: Interpreter, home: Home, limits: Limits, *, allow_threads: bool
    ) -> Copy:
        """Forks an idle interpreter.

        Args:
            interpreter: One of this runtime's.
            home: Where the copy is to live: beside it, in the same cell if there are cells.
            limits: Those of the copy.
            allow_threads: Whether to fork although it has threads, which the copy will not have.

        Returns:
            The copy, ready to run. A caller that is cancelled leaves none behind.

        Raises:
            ThreadsError: It has threads.
            InterpreterError: There could be no copy; the text says why.
        """
        if not isinstance(interpreter, ChannelInterpreter):
            raise InterpreterError("it is not one of this runtime's")
        try:
            group = await self._cells.make_group() if self._cells.full else None
        except CellError as error:
            raise InterpreterError(str(error)) from error
        member = interpreter.member.keeper.join(group)
        if self._cells.enabled:
            home.move_in(member)
        try:
            copy, lost = await interpreter.copy(member, limits, allow_threads=allow_threads)
        except BaseException:
            member.kill()
            raise
        return Copy(copy, lost)

    async def stop(self) -> None:
        """Ends the interpreters of the pool, and the zygote."""
        await super().stop()
        if self._zygote is not None:
            self._zygote.stop()

    def _started_zygote(self) -> Zygote:
        if self._zygote is None:
            raise InterpreterError(f"runtime {self.config.name}: {self.failure}")
        return self._zygote

    async def _start_zygote(self) -> None:
        await self._launcher.revive()
        zygote = Zygote(
            self._launcher, self.config.interpreter, self.config.preload, self._state_dir
        )
        await zygote.start()
        self._zygote, self.version, self.failure = zygote, zygote.version, ""
        self._started.set()
        if zygote.missing:
            missing = ", ".join(zygote.missing)
            logger.warning(
                "preload left out", extra={"runtime": self.config.name, "missing": missing}
            )

    async def _supervise(self) -> None:
        """Starts the zygote again whenever it ends: the contexts that it forked live on."""
        attempt = 0
        while True:
            zygote = self._started_zygote()
            await asyncio.shield(zygote.lost)
            self._started.clear()
            self.failure = "its zygote has ended and is being started again"
            logger.error(
                "zygote lost", extra={"runtime": self.config.name, "zygote_pid": zygote.pid}
            )
            while not self._started.is_set():
                await asyncio.sleep(_RESTART_DELAYS_S[min(attempt, len(_RESTART_DELAYS_S) - 1)])
                attempt += 1
                try:
                    await self._start_zygote()
                except (ZygoteLost, LauncherLost, OrderError, OSError) as error:
                    self.failure = str(error)
                    logger.error("zygote can't start", extra={"runtime": self.config.name})
            attempt = 0
            self.want()

    async def fork(self, cell: Member | None, place: Place | None = None) -> Forked:
        """Forks an interpreter; see `PooledRuntime`."""
        while True:
            await self._started.wait()
            zygote = self._started_zygote()
            try:
                return await zygote.fork(cell, place)
            except (OrderError, KeeperLost) as error:
                raise InterpreterError(f"no interpreter could be forked: {error}") from error
            except ZygoteLost as error:
                if not zygote.lost.done():
                    raise InterpreterError(f"no interpreter could be forked: {error}") from error
                if zygote is self._zygote:  # the next one is on its way
                    self._started.clear()

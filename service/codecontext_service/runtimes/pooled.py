"""What kinds of interpreters have in common: a pool of ready ones, and a place for each."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque

from codecontext_service.domain.limits import Limits
from codecontext_service.processes.cells import CellError, Cells, Home, discard
from codecontext_service.processes.forking import Forked
from codecontext_service.processes.members import Member
from codecontext_service.processes.right_of_way import Ahead
from codecontext_service.runtime_config import RuntimeConfig
from codecontext_service.workers.containment import Place

from .base import InterpreterError, Setup
from .copying import can_lower
from .interpreter import ChannelInterpreter

logger = logging.getLogger(__name__)

_REFILL_DELAY_S = 0.02
"""How long a refill waits, so that it takes no processor from the create that caused it."""

_RETRY_S = 5.0
"""How long it waits after a refill that has failed."""

_START_S = 60.0
"""How long an interpreter of the pool may take to start."""


class PooledRuntime(ABC):
    """A kind of interpreter that is forked into cells, with a pool of ready ones."""

    capabilities: tuple[str, ...] = ()
    """What its interpreters can do, by the names of the API."""

    usual: Setup | None = None
    """What the interpreters of its pool are configured with ahead, if that is known before they are used."""

    lowers = False
    """Whether its interpreters lower their limits themselves: they can be told their setup before they are
    ready."""

    interrupts_again = False
    """Whether its interpreters are interrupted until their run has ended, see `ChannelInterpreter`."""

    def __init__(self, config: RuntimeConfig, cells: Cells) -> None:
        """Makes a runtime that is not started yet.

        Args:
            config: Its options.
            cells: Where its interpreters live, if the machine allows cells.
        """
        self.config = config
        self.version = ""
        self.failure = "it has not been started"
        self._cells = cells
        self._pool: deque[ChannelInterpreter] = deque()
        self._wanted = asyncio.Event()
        self._ahead: Ahead | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @abstractmethod
    async def fork(self, cell: Member | None, place: Place | None = None) -> Forked:
        """Forks an interpreter, which may not be ready yet.

        Args:
            cell: Where to, if there are cells. Stays the caller's if this fails.
            place: Without a cell, where its sandbox's files are, if it is to be kept to them.

        Raises:
            InterpreterError: None could be forked.
        """

    @property
    def pool_size(self) -> int:
        """How many interpreters its pool holds; 0 where none can start before its sandbox is known."""
        return 0 if self._cells.by_folder else self.config.pool_size

    @property
    def ready_count(self) -> int:
        """How many interpreters are ready in the pool."""
        return len(self._pool)

    def begin_filling(self) -> None:
        """Begins to keep the pool full."""
        if self.pool_size:
            self._tasks.append(asyncio.create_task(self._fill()))

    def want(self) -> None:
        """Has the pool looked after: something has changed."""
        self._wanted.set()

    async def acquire(self, home: Home, setup: Setup) -> ChannelInterpreter:
        """Returns a fresh interpreter, from the pool if there is one that fits.

        Args:
            home: Where it is to live. It gets a cell if it has none, and keeps that if this fails.
            setup: What it will be configured with.

        Raises:
            InterpreterError: None could be started.
        """
        if self._cells.by_folder:
            return await self._start_now(None, setup, home.group.place)
        if not self._cells.enabled:
            return self._take(setup.limits) or await self._start_now(None, setup)
        if not home.habitable:
            async with home.group.lock:
                interpreter = self._take(setup.limits) if home.group.fresh else None
                if interpreter is not None and interpreter.cell is not None:
                    home.group.add(interpreter.cell)
                    home.move_in(interpreter.cell.first)
                    return interpreter
                try:
                    home.move_in((await home.group.grow()).first)
                except CellError as error:
                    raise InterpreterError(str(error)) from error
        return await self._start_now(home.cell, setup)

    async def stop(self) -> None:
        """Ends the interpreters of the pool."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        pool, self._pool = list(self._pool), deque()
        for interpreter in pool:
            _discard(interpreter)
        if pool:
            await asyncio.wait([interpreter.gone for interpreter in pool], timeout=5)

    def _take(self, limits: Limits) -> ChannelInterpreter | None:
        if self.usual is not None and not can_lower(self.usual.limits, limits):
            return None
        self.want()
        while self._pool:
            interpreter = self._pool.popleft()
            if interpreter.alive:
                if not self._enough and self._ahead is not None:
                    self._ahead.hurry()
                return interpreter
            _discard(interpreter)
        return None

    async def _start_now(
        self, cell: Member | None, setup: Setup, place: Place | None = None
    ) -> ChannelInterpreter:
        """Starts one for a caller who waits, and for whom what is made ahead comes too late."""
        with self._cells.right_of_way.claim(over_all=True):
            return await self._start(cell, place, early=setup if self.lowers else None)

    async def _start(
        self,
        cell: Member | None,
        place: Place | None = None,
        *,
        ahead: Ahead | None = None,
        early: Setup | None = None,
    ) -> ChannelInterpreter:
        forked = await self.fork(cell, place)
        if ahead is not None:
            ahead.watch(forked.process)
        interpreter = ChannelInterpreter(forked, interrupts_again=self.interrupts_again)
        try:
            if early is not None:
                interpreter.order(early)
            await interpreter.ready
            await interpreter.settle()
        except BaseException:
            interpreter.end()
            interpreter.vacated.add_done_callback(lambda vacated: interpreter.close())
            raise
        return interpreter

    async def _start_ahead(self, ahead: Ahead) -> ChannelInterpreter:
        if not self._cells.enabled:
            return await self._start(None, ahead=ahead)
        try:
            cell = await self._cells.take()
        except CellError as error:
            raise InterpreterError(str(error)) from error
        try:
            interpreter = await self._start(cell.first, ahead=ahead)
            if self.usual is not None:
                await interpreter.configure(self.usual, ahead=True)
        except BaseException:
            discard(cell)
            raise
        return interpreter

    @property
    def _enough(self) -> bool:
        return 2 * len(self._pool) >= self.pool_size

    async def _fill(self) -> None:
        """Keeps the pool full, one interpreter at a time, so that a create waits for one at most."""
        while True:
            self._wanted.clear()
            while len(self._pool) < self.pool_size:
                try:
                    await self._refill()
                except (InterpreterError, TimeoutError) as error:
                    why = str(error) or "an interpreter takes too long to start"
                    logger.error(
                        "pool can't be filled: %s", why, extra={"runtime": self.config.name}
                    )
                    await asyncio.sleep(_RETRY_S)
            await self._wanted.wait()
            await asyncio.sleep(_REFILL_DELAY_S)

    async def _refill(self) -> None:
        ahead = self._ahead = Ahead(spare=self._enough)
        async with self._cells.right_of_way.give(ahead), asyncio.timeout(_START_S):
            interpreter = await self._start_ahead(ahead)
        self._pool.append(interpreter)


def _discard(interpreter: ChannelInterpreter) -> None:
    interpreter.kill()
    interpreter.gone.add_done_callback(lambda gone: interpreter.close())

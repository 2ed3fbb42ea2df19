"""Right of way: what is made ahead stands still while somebody waits for a create or a delete."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator

from .process import Process

_PATIENCE_S = 0.25
"""How long what is made ahead stands still altogether, so that it gets done on a busy server too."""

_LANES = max(1, len(os.sched_getaffinity(0)) // 2)
"""How much is made ahead at once: the other processors are free for those who come."""


class Ahead:
    """Something that is made before anybody needs it."""

    def __init__(self, patience_s: float) -> None:
        """Begins to make it.

        Args:
            patience_s: How long it may be held up, in seconds.
        """
        self.going = asyncio.Event()
        """Set unless it is held up."""
        self.going.set()
        self._loop = asyncio.get_running_loop()
        self._left_s = patience_s
        self._held_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._process: Process | None = None

    def watch(self, process: Process) -> None:
        """Takes the process that does the work: it is stopped whenever this is held up."""
        self._process = process
        if not self.going.is_set():
            process.stop()

    def hold(self) -> None:
        """Holds it up, unless its patience is at an end."""
        if self._left_s <= 0 or not self.going.is_set():
            return
        self.going.clear()
        self._held_at = self._loop.time()
        self._timer = self._loop.call_later(self._left_s, self.go_on)
        if self._process is not None:
            self._process.stop()

    def go_on(self) -> None:
        """Has it go on, if it was held up."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self._left_s -= self._loop.time() - self._held_at
        self.going.set()
        if self._process is not None:
            self._process.go_on()


class RightOfWay:
    """Who has to wait for whom: what is made ahead for those who need it now."""

    def __init__(self, patience_s: float = _PATIENCE_S) -> None:
        """Starts with nobody on the way.

        Args:
            patience_s: How long a thing that is made ahead is held up altogether, in seconds.
        """
        self._patience_s = patience_s
        self._lanes = asyncio.Semaphore(_LANES)
        self._claims = 0
        self._ahead: set[Ahead] = set()

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Has what is made ahead stand still meanwhile: somebody waits for what is done now."""
        self._claims += 1
        if self._claims == 1:
            for each in self._ahead:
                each.hold()
        try:
            yield
        finally:
            self._claims -= 1
            if not self._claims:
                for each in self._ahead:
                    each.go_on()

    @contextlib.asynccontextmanager
    async def give(self) -> AsyncIterator[Ahead]:
        """Waits until it may begin, and has what is made meanwhile give way to others.

        Its process goes on at the latest when this is left.
        """
        async with contextlib.AsyncExitStack() as stack:
            lane = stack.enter_context(contextlib.ExitStack())
            await self._lanes.acquire()
            lane.callback(self._lanes.release)
            # Others do not wait for one that is slow, such as a kernel.
            leaving = asyncio.get_running_loop().call_later(self._patience_s, lane.close)
            stack.callback(leaving.cancel)
            ahead = Ahead(self._patience_s)
            self._ahead.add(ahead)
            stack.callback(ahead.go_on)
            stack.callback(self._ahead.discard, ahead)
            if self._claims:
                ahead.hold()
            await ahead.going.wait()
            yield ahead

"""Right of way: what is made ahead stands still while somebody waits for a create or a delete."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator

from .process import Process

_PATIENCE_S = 0.25
"""How long a thing that is made ahead stands still altogether, so that it gets done on a busy server too."""

_LANES = max(1, len(os.sched_getaffinity(0)) // 2)
"""How much is made ahead at once: the other processors are free for those who come."""


_LINGER_S = 0.005
"""How long the way stays clear after a claim, in seconds: the answer has to be sent, and the caller to hear it,
who may be on this machine."""


class Ahead:
    """Something that is made before anybody needs it."""

    def __init__(self, *, spare: bool, patience_s: float = _PATIENCE_S) -> None:
        """Is not begun yet, see `RightOfWay.give`.

        Args:
            spare: Whether there are enough others for those who come next.
            patience_s: How long it may be held up altogether, in seconds.
        """
        self.spare = spare
        self.going = asyncio.Event()
        """Set unless it is held up."""
        self.going.set()
        self.on_change: Callable[[], None] = lambda: None
        """Is called when somebody may have to wait who did not, or the other way round."""
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

    def hurry(self) -> None:
        """Hears that others were taken, and this one is needed next."""
        self.spare = False
        self.on_change()

    def hold(self) -> None:
        """Holds it up, unless its patience is at an end."""
        if not self.going.is_set() or self._left_s <= 0:
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
    """Who waits for whom: what is made ahead for what callers need now."""

    def __init__(self, lanes: int = _LANES) -> None:
        """Starts with nobody on the way.

        Args:
            lanes: How many things are made ahead at once, those that are needed next not counted.
        """
        self._lanes = lanes
        self._claims = 0
        self._claims_over_all = 0
        self._ahead: list[Ahead] = []

    @contextlib.contextmanager
    def claim(self, *, over_all: bool = False) -> Iterator[None]:
        """Has what is made ahead stand still meanwhile: somebody waits for what is done now.

        Args:
            over_all: Whether also what the next who comes will need stands still.
        """
        self._claims += 1
        self._claims_over_all += over_all
        self._decide()
        try:
            yield
        finally:
            asyncio.get_running_loop().call_later(_LINGER_S, self._end_claim)
            self._claims_over_all -= over_all
            self._decide()

    def _end_claim(self) -> None:
        self._claims -= 1
        self._decide()

    @contextlib.asynccontextmanager
    async def give(self, ahead: Ahead) -> AsyncIterator[None]:
        """Waits until something may begin to be made, and has it give way to others meanwhile.

        Its process goes on at the latest when this is left.
        """
        self._ahead.append(ahead)
        ahead.on_change = self._decide
        try:
            self._decide()
            await ahead.going.wait()
            yield
        finally:
            self._ahead.remove(ahead)
            ahead.go_on()
            self._decide()

    def _decide(self) -> None:
        lanes = 0 if self._claims else self._lanes
        for each in self._ahead:
            if self._claims_over_all or (each.spare and not lanes):
                each.hold()
            else:
                each.go_on()
                lanes -= each.spare

"""Work that goes on without whoever asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

_ResultT = TypeVar("_ResultT")


class Background:
    """Tasks that are kept until they have ended, whoever waits for them."""

    def __init__(self) -> None:
        """Starts without any."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, _ResultT]) -> asyncio.Task[_ResultT]:
        """Starts a task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A failure is told to those who wait for it, and nobody may.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task


async def wait_while_some_end(tasks: Iterable[asyncio.Future[Any]], patience_s: float) -> None:
    """Waits for tasks, however long it takes, while some of them end.

    Args:
        tasks: Which.
        patience_s: After what time without an end of any it gives up, in seconds.
    """
    pending = set(tasks)
    while pending:
        ended, pending = await asyncio.wait(pending, timeout=patience_s)
        if not ended:
            return

"""The delete of one context: it goes on without its callers, and each of them is told the truth."""

from __future__ import annotations

import asyncio


class Deletion:
    """A delete that is under way."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        """Knows the task that does it, which succeeds once all is gone."""
        self.task = task
        self.owes_ok = False
        """Whether the caller who began it was not told of its success: somebody has an OK to get."""

    async def wait(self, timeout_s: float, *, began_it: bool) -> bool:
        """Waits for the end.

        Args:
            timeout_s: How long, in seconds.
            began_it: Whether the caller is the one who began the delete.

        Returns:
            Whether it has ended.

        Raises:
            ServiceError: It has failed.
        """
        try:
            await asyncio.wait([self.task], timeout=max(0.0, timeout_s))
        finally:
            if began_it and not self.task.done():
                self.owes_ok = True
        if self.task.done():
            self.task.result()
        return self.task.done()

"""What is remembered of deleted contexts, in bounded memory and for a bounded time."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass


@dataclass
class Grave:
    """A deleted context."""

    delete_time: float
    cause: str
    """`deleted`, or `expired`."""
    owes_ok: bool
    """Whether the caller who wanted the delete was told UNAVAILABLE, and has its OK still to get."""


class Graves:
    """All deleted contexts that are remembered."""

    def __init__(self, max_count: int, keep_s: float) -> None:
        """Starts without any.

        Args:
            max_count: How many are remembered.
            keep_s: For how long, in seconds.
        """
        self._max_count = max_count
        self._keep_s = keep_s
        self._graves: OrderedDict[str, Grave] = OrderedDict()

    def add(self, context_id: str, *, cause: str, owes_ok: bool) -> None:
        """Remembers a context."""
        self._graves[context_id] = Grave(time.time(), cause, owes_ok)
        self._forget()

    def find(self, context_id: str) -> Grave | None:
        """Returns what is remembered of a context."""
        self._forget()
        return self._graves.get(context_id)

    def claim_ok(self, context_id: str) -> bool:
        """Returns whether this caller gets the OK that a delete still owes; the next one does not."""
        grave = self.find(context_id)
        owed = grave is not None and grave.owes_ok
        if grave is not None:
            grave.owes_ok = False
        return owed

    def _forget(self) -> None:
        oldest = time.time() - self._keep_s
        while self._graves:
            id_, grave = next(iter(self._graves.items()))
            if grave.delete_time >= oldest and len(self._graves) <= self._max_count:
                return
            del self._graves[id_]

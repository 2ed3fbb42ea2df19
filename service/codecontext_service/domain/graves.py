"""What is remembered of what was deleted, in bounded memory and for a bounded time."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass
class Grave:
    """A deleted context, or a destroyed sandbox."""

    delete_time: float
    cause: str
    """`deleted`, `destroyed`, `expired`, …: how it ended, in one word."""
    owes_ok: bool
    """Whether the caller who wanted the delete was told UNAVAILABLE, and has its OK still to get."""

    @property
    def words(self) -> str:
        """How it ended, as a part of a sentence."""
        return self.cause if self.cause == "expired" else f"was {self.cause}"

    @property
    def time_text(self) -> str:
        """When it was deleted, in RFC 3339."""
        when = datetime.fromtimestamp(self.delete_time, UTC).isoformat(timespec="milliseconds")
        return when.replace("+00:00", "Z")


class Graves:
    """All of one kind that are remembered."""

    def __init__(self, max_count: int, keep_s: float) -> None:
        """Starts without any.

        Args:
            max_count: How many are remembered.
            keep_s: For how long, in seconds.
        """
        self._max_count = max_count
        self._keep_s = keep_s
        self._graves: OrderedDict[str, Grave] = OrderedDict()

    def add(self, id_: str, *, cause: str, owes_ok: bool) -> None:
        """Remembers one."""
        self._graves[id_] = Grave(time.time(), cause, owes_ok)
        self._forget()

    def find(self, id_: str) -> Grave | None:
        """Returns what is remembered of one."""
        self._forget()
        return self._graves.get(id_)

    def claim_ok(self, id_: str) -> bool:
        """Returns whether this caller gets the OK that a delete still owes; the next one does not."""
        grave = self.find(id_)
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

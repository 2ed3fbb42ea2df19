"""Users of sandboxes: each has one of its own, where the server may give them any."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence


class NoUidError(Exception):
    """Every user that sandboxes may have is in use."""


class Uids:
    """Those that sandboxes may have, and who has which."""

    def __init__(self, uids: Sequence[int]) -> None:
        """Starts with all of them free.

        Args:
            uids: Which; empty if sandboxes have no users of their own.
        """
        self._uids = uids
        self._next = itertools.cycle(uids)
        self._holders: Counter[int] = Counter()

    def take(self) -> int:
        """Takes a user that nobody has; `release` gives it back.

        Returns:
            Its uid; -1 if there are none to have.

        Raises:
            NoUidError: All are in use.
        """
        for uid in itertools.islice(self._next, len(self._uids)):
            if uid not in self._holders:
                return self.share(uid)
        if self._uids:
            raise NoUidError("every user that sandboxes may have is in use")
        return -1

    def share(self, uid: int) -> int:
        """Takes a user that another cell of the same sandbox has; `release` gives it back."""
        self._holders[uid] += 1
        return uid

    def release(self, uid: int) -> None:
        """Gives a user back, which is free when all have done so."""
        if uid in self._holders:
            self._holders[uid] -= 1
            if not self._holders[uid]:
                del self._holders[uid]

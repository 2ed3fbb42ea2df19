"""The users that sandboxes run as: each has one of its own, and no other server of this machine has it."""

from __future__ import annotations

import itertools
import socket
from collections import Counter

USERS = 65_536
"""How many users all servers of a machine have together."""

_BLOCK = 1_024
"""How many of them a server takes at a time."""


class NoUserError(Exception):
    """There is no user left; the text says what to do."""


class Users:
    """Blocks of users that this server has taken, and which of them sandboxes have.

    What else has one of them would share its limits, and its files.
    """

    def __init__(self, first_uid: int = 0, count: int = 0) -> None:
        """Takes users for this server, all of them free.

        A block is taken by a socket with an abstract name, see unix(7): the kernel gives the name back
        with the server's end, however it ends.

        Args:
            first_uid: The first of all.
            count: How many are needed at least; 0 if sandboxes have no users of their own.

        Raises:
            NoUserError: Other servers have too many of them.
        """
        self._names: list[socket.socket] = []
        self.uids: tuple[int, ...] = ()
        """The users."""
        for first in range(first_uid, first_uid + USERS, _BLOCK):
            if len(self.uids) >= count:
                break
            name = socket.socket(socket.AF_UNIX)
            try:
                name.bind(f"\0codecontext/users/{first}")
            except OSError:
                name.close()
                continue
            self._names.append(name)
            self.uids += tuple(range(first, min(first + _BLOCK, first_uid + USERS)))
        if len(self.uids) < count:
            self.close()
            raise NoUserError(
                f"first_uid: of the {USERS} users from {first_uid} on other servers have so many that "
                f"{count} are not left; give another one, or a smaller max_contexts"
            )
        self._next = itertools.cycle(self.uids)
        self._holders: Counter[int] = Counter()

    def take(self) -> int:
        """Takes a user that no sandbox has; `release` gives it back.

        Returns:
            Its uid; -1 if sandboxes have no users of their own.

        Raises:
            NoUserError: All are in use.
        """
        for uid in itertools.islice(self._next, len(self.uids)):
            if uid not in self._holders:
                return self.share(uid)
        if self.uids:
            raise NoUserError("every user that sandboxes may have is in use; delete contexts")
        return self.share(-1)

    def share(self, uid: int) -> int:
        """Takes a user that another cell of the same sandbox has; `release` gives it back."""
        self._holders[uid] += 1
        return uid

    def release(self, uid: int) -> None:
        """Gives a user back, which is free when all have done so."""
        self._holders[uid] -= 1
        if not self._holders[uid]:
            del self._holders[uid]

    def close(self) -> None:
        """Gives them to other servers, once nothing runs as them."""
        for name in self._names:
            name.close()

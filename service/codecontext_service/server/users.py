"""The users that sandboxes run as: those of no other server of this machine."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from codecontext_service.config import ConfigError

USERS = 65_536
"""How many users all servers of a machine have together."""

_BLOCK = 1_024
"""How many of them a server takes at a time."""


class Users:
    """Blocks of users that this server has taken; what else shares them would share their limits."""

    def __init__(self, first_uid: int, count: int) -> None:
        """Takes users for this server.

        A block is taken by a socket with an abstract name, see unix(7): the kernel gives the name back
        with the server's end, however it ends.

        Args:
            first_uid: The first of all.
            count: How many are needed at least.

        Raises:
            ConfigError: Other servers have too many of them.
        """
        self._names: list[socket.socket] = []
        self.uids: Sequence[int] = ()
        """The users."""
        for first in range(first_uid, first_uid + USERS, _BLOCK):
            if len(self.uids) >= count:
                return
            name = socket.socket(socket.AF_UNIX)
            try:
                name.bind(f"\0codecontext/users/{first}")
            except OSError:
                name.close()
                continue
            self._names.append(name)
            self.uids = (*self.uids, *range(first, min(first + _BLOCK, first_uid + USERS)))
        if len(self.uids) < count:
            self.close()
            raise ConfigError(
                f"first_uid: of the {USERS} users from {first_uid} on other servers have so many that "
                f"{count} are not left; give another one, or a smaller max_contexts"
            )

    def close(self) -> None:
        """Gives them back, once nothing runs as them."""
        for name in self._names:
            name.close()

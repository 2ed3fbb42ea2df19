"""Ids of contexts, sandboxes and executions."""

from __future__ import annotations

import re
import secrets
import time

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE_32 = b"abcdefghijklmnopqrstuvwxyz234567" * 8
"""A digit for each byte: five of its bits count."""
_LAST_DIGIT = _BASE_32[:32:4] * 32
"""The last of 26 digits has the three bits that make 128."""
_ID = re.compile(r"([cse])(0|[1-9][0-9]{0,8})-([0-9a-z]{1,13})-([a-z2-7]{26})")


def _base36(number: int) -> str:
    text = ""
    while number or not text:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text


class IdMaker:
    """Makes ids that can't be guessed and are never used again.

    An id is the kind (`c`, `s` or `e`), then `<slot>-<incarnation>-<128 random bits>`: slot and
    incarnation name the host and its life.
    """

    def __init__(self, slot: int = 0, incarnation: int | None = None) -> None:
        """Makes a maker for one life of a host.

        Args:
            slot: The host's number; a single server is 0.
            incarnation: The number of its life, which must never decrease; by default the time of
                the start in milliseconds since 1970.
        """
        self.slot = slot
        self.incarnation = incarnation if incarnation is not None else time.time_ns() // 1_000_000
        self._prefix = f"{slot}-{_base36(self.incarnation)}-"

    def make(self, kind: str) -> str:
        """Makes a new id.

        Args:
            kind: `c` for a context, `s` for a sandbox, `e` for an execution.
        """
        random = secrets.token_bytes(26)  # a digit each: several times faster than encoding 16
        digits = random[:25].translate(_BASE_32) + random[25:].translate(_LAST_DIGIT)
        return f"{kind}{self._prefix}{digits.decode()}"

    def is_lost(self, id_: str, kind: str) -> bool:
        """Returns whether an id was made by an earlier life of this host."""
        match = _ID.fullmatch(id_)
        return (
            match is not None
            and match[1] == kind
            and int(match[2]) == self.slot
            and int(match[3], 36) < self.incarnation
        )

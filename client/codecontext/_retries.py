"""When a call is made again, and where a stream of events that was cut goes on.

Only what carries a `request_id` or changes nothing comes here: to make it again does nothing twice.
"""

import math
import random
import time
from typing import Any

from codecontext.errors import CodeContextError, UnavailableError

MAX_ATTEMPTS = 4
"""How often a call is made at most while nothing answers."""

_FIRST_DELAY_S = 0.1
_MAX_DELAY_S = 1.0


def leaves_run_behind(error: CodeContextError) -> bool:
    """Returns whether a stream that failed so has left its run behind, with nobody to come back for it.

    The service has not said so itself, and the caller can't go on with the `request_id`: an event was
    too large for this channel, for instance.
    """
    return not error.reason and not isinstance(error, UnavailableError)


class _Backoff:
    """Delays that grow, each cut at random so that many callers do not come back at one time."""

    def __init__(self) -> None:
        self.count = 0

    def next_s(self, error: UnavailableError) -> float:
        delay_s: float = min(_MAX_DELAY_S, _FIRST_DELAY_S * 2**self.count)
        self.count += 1
        asked_s = error.retry_delay.total_seconds() if error.retry_delay is not None else 0.0
        return max(asked_s, delay_s * random.uniform(0.5, 1.0))  # noqa: S311  # no secret


class Attempts:
    """The attempts at one call, within its deadline."""

    def __init__(self, deadline_s: float | None) -> None:
        self._end = math.inf if deadline_s is None else time.monotonic() + deadline_s
        self._backoff = _Backoff()

    @property
    def timeout_s(self) -> float | None:
        """What is left of the deadline for the next attempt; None without one."""
        return None if self._end == math.inf else max(0.0, self._end - time.monotonic())

    def delay_s(self, error: UnavailableError) -> float | None:
        """Returns how long to wait before the next attempt; None if this error is the last word."""
        if self._backoff.count >= MAX_ATTEMPTS - 1:
            return None
        delay_s = self._backoff.next_s(error)
        return delay_s if time.monotonic() + delay_s < self._end else None


class Progress:
    """How far a stream of events has come, through all the calls that carry it.

    Args:
        request: The call's request. Its `after_sequence` says where the next call goes on.
        window_s: For how long after a cut the stream may go on; None if it can't.
    """

    def __init__(self, request: Any, window_s: float | None) -> None:
        self._request = request
        self._window_s = window_s
        self._last = request.after_sequence if window_s is not None else 0
        self._backoff = _Backoff()
        self._begun = False
        self._cut_at: float | None = None
        self.complete = False
        """Whether the last event has come: what happens to the call after it does not matter."""

    def take(self, event: Any) -> bool:
        """Takes note of an event; returns whether it is a new one."""
        if self._window_s is None:
            return True
        if event.sequence <= self._last:
            return False
        self._last = event.sequence
        self._begun, self._cut_at, self._backoff = True, None, _Backoff()
        self.complete = event.HasField("completed")
        return True

    def delay_s(self, error: CodeContextError) -> float | None:
        """Returns how long to wait before the next call; None if this error is the last word.

        Until the first event has come it is not known whether anything waits for this caller: then
        there are a few attempts, as at any call.
        """
        if self._window_s is None or not isinstance(error, UnavailableError):
            return None
        self._request.after_sequence = self._last
        if not self._begun:
            return self._backoff.next_s(error) if self._backoff.count < MAX_ATTEMPTS - 1 else None
        now = time.monotonic()
        if self._cut_at is None:
            self._cut_at = now
            return 0.0 if self._window_s else None
        left_s = self._cut_at + self._window_s - now
        return min(left_s, self._backoff.next_s(error)) if left_s > 0 else None

"""When contexts expire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from .context import Context
from .options import State

_EARLY_S = 0.001
"""By how much a timer of the event loop may ring too early, on the wall clock."""


class Expiries:
    """The times at which contexts expire if nobody uses them before."""

    def __init__(self, on_expired: Callable[[Context], object]) -> None:
        """Starts without any.

        Args:
            on_expired: Is called with each context whose time has come.
        """
        self._on_expired = on_expired
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def set(self, context: Context) -> None:
        """Sets a context's time anew: it was used, or an execution in it has ended."""
        options = context.options
        times = []
        if options.ttl_s:
            times.append(context.create_time + options.ttl_s)
        if options.idle_timeout_s and context.busy is None:
            times.append(context.last_used_time + options.idle_timeout_s)
        context.expire_time = min(times, default=None)
        if context.expire_time is None or context.state is State.DELETING:
            return  # a timer that is set finds nothing to do
        delay_s = max(0.0, context.expire_time - time.time())
        loop = asyncio.get_running_loop()
        timer = self._timers.get(context.id)
        if timer is not None:
            if timer.when() <= loop.time() + delay_s:
                return  # it looks again when it rings: a context is used far more often than it expires
            timer.cancel()
        self._timers[context.id] = loop.call_later(delay_s, self._ring, context)

    def cancel(self, context: Context) -> None:
        """Forgets a context's time."""
        if timer := self._timers.pop(context.id, None):
            timer.cancel()

    def _ring(self, context: Context) -> None:
        del self._timers[context.id]
        if context.expire_time is None:
            return  # it is at work: the end of that sets its time anew
        if context.expire_time > time.time() + _EARLY_S:
            self.set(context)
        else:
            self._on_expired(context)

"""When contexts expire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from .context import Context
from .options import State


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
        self.cancel(context)
        options = context.options
        times = []
        if options.ttl_s:
            times.append(context.create_time + options.ttl_s)
        if options.idle_timeout_s and context.busy is None:
            times.append(context.last_used_time + options.idle_timeout_s)
        context.expire_time = min(times, default=None)
        if context.expire_time is not None and context.state is not State.DELETING:
            delay_s = max(0.0, context.expire_time - time.time())
            loop = asyncio.get_running_loop()
            self._timers[context.id] = loop.call_later(delay_s, self._expire, context)

    def cancel(self, context: Context) -> None:
        """Forgets a context's time."""
        if timer := self._timers.pop(context.id, None):
            timer.cancel()

    def _expire(self, context: Context) -> None:
        del self._timers[context.id]
        self._on_expired(context)

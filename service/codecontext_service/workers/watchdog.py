"""The watchdog: ends a context that uses more than it may, where the kernel does not do so by itself.

It looks seldom while much is left, and often when little is: nothing can use memory faster than the
machine can fill it, nor CPU time faster than all processors pass it on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from .usage import measure_cpu_time, measure_memory, measure_own_memory

_FILL_BYTES_PER_S = 4 << 30
"""How fast processes may take memory: faster than one machine's processors write it to fresh pages."""

_MIN_S, _MAX_S = 0.01, 1.0
"""How long it waits between two looks."""

REST = 10
"""How many times as long as a look takes of a processor it rests after it, so that it costs a tenth of one.

Of the time that passes while others have the processor nothing is counted: it would look seldom on a
machine that is busy, with what it is to find perhaps."""


class Watchdog:
    """Looks at processes when it is time to, and says what they exceed."""

    def __init__(self, held: Callable[[], Iterable[int]], ended_s: Callable[[], float]) -> None:
        """Starts without limits.

        Args:
            held: Returns the pids of the processes that are meant.
            ended_s: Returns the CPU time of those of them that have ended, in seconds.
        """
        self._held = held
        self._ended_s = ended_s
        self._memory_bytes = 0
        self._cpu_time_s = 0.0
        self._next = 0.0

    def limit(self, *, memory_bytes: int, cpu_time_s: float) -> None:
        """Sets the limits; 0 means none."""
        self._memory_bytes, self._cpu_time_s = memory_bytes, cpu_time_s
        self._next = 0.0

    @property
    def wait_s(self) -> float | None:
        """How long until it must look again, in seconds; None for ever."""
        if not self._memory_bytes and not self._cpu_time_s:
            return None
        return max(0.0, self._next - time.monotonic())

    def look(self) -> str:
        """Looks, whether it is time to or not.

        Returns:
            What is exceeded: `memory`, `cpu_time`, or empty.
        """
        if self.wait_s is None:
            return ""
        began_s = time.process_time()
        pids = list(self._held())
        left_s = _MAX_S
        if self._cpu_time_s:
            left = self._cpu_time_s - measure_cpu_time(pids) - self._ended_s()
            if left <= 0:
                return "cpu_time"
            left_s = min(left_s, left / (os.cpu_count() or 1))
        if self._memory_bytes:
            used = measure_memory(pids)
            if used > self._memory_bytes:
                # Pages that processes share were counted more than once. This count is exact, and slow.
                used = measure_own_memory(pids)
                if used > self._memory_bytes:
                    return "memory"
            left_s = min(left_s, (self._memory_bytes - used) / _FILL_BYTES_PER_S)
        took_s = time.process_time() - began_s
        self._next = time.monotonic() + max(_MIN_S, left_s, REST * took_s)
        return ""

"""What a context's processes write between runs: it comes with the next one."""

from __future__ import annotations

from collections import deque

from codecontext_service.domain.events import Event, Gap, GapReason
from codecontext_service.executions.execution import Execution
from codecontext_service.executions.journal import size_of

_MAX_BYTES = 1 << 20
"""How much is kept; the oldest is dropped, and counted."""

_OVERHEAD = 64
"""What an event takes beside its content, in bytes."""


class LateOutput:
    """Events that belong to no run."""

    def __init__(self) -> None:
        """Starts empty."""
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._gap = Gap(0, 0, GapReason.LATE_OUTPUT)

    def add(self, event: Event) -> None:
        """Keeps an event."""
        self._events.append(event)
        self._bytes += size_of(event) + _OVERHEAD
        while self._bytes > _MAX_BYTES and self._events:
            dropped = size_of(self._events.popleft())
            self._bytes -= dropped + _OVERHEAD
            self._gap.events += 1
            self._gap.bytes += dropped

    def pass_on(self, execution: Execution) -> None:
        """Gives all of it to a run that begins, what was dropped first."""
        if not self._events and not self._gap.events:
            return
        events, gap = self._events, self._gap
        self.clear()
        if gap.events:
            execution.journal.append(gap, late=True)
        for event in events:
            execution.add(event, late=True)

"""One run of a piece of code: what was asked, its journal, and how it ended."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from codecontext_service.domain.events import (
    Completed,
    Error,
    Event,
    Gap,
    GapReason,
    InputRequested,
    Outcome,
    Started,
)

from .gathering import cut_error
from .journal import Journal, Reader, size_of

_MAX_ERROR_BYTES = 256 * 1024


@dataclass(frozen=True)
class RunRequest:
    """What a run was asked to do. Times are in seconds."""

    code: str
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 0.0
    """0 means none."""
    allow_input: bool = False
    detach: bool = False
    reattach_grace_s: float = 0.0
    max_bytes: int = 1 << 30
    max_events: int = 1 << 62


class StopCause(enum.Enum):
    """Why an execution is being stopped, and what its outcome is then."""

    INTERRUPT = Outcome.INTERRUPTED
    TIMEOUT = Outcome.TIMED_OUT
    DELETE = Outcome.CONTEXT_DELETED
    RESTART = Outcome.CONTEXT_RESTARTED
    SHUTDOWN = Outcome.SERVER_STOPPED

    @property
    def words(self) -> str:
        """What is told of a run that ended for it, where nothing says more; empty if how it ended does."""
        return {
            StopCause.DELETE: "the context was deleted",
            StopCause.RESTART: "the context was restarted",
            StopCause.SHUTDOWN: "the server stopped",
        }.get(self, "")


class Execution:
    """A run that was accepted. It always ends, with exactly one `Completed`."""

    def __init__(
        self,
        id_: str,
        context_id: str,
        request: RunRequest,
        *,
        journal_bytes: int,
        journal_events: int,
        on_flow: Callable[[bool], None],
        on_abandoned: Callable[[Execution], None],
    ) -> None:
        """Makes an execution that is queued.

        Args:
            id_: Its id.
            context_id: Its context's id.
            request: What to do.
            journal_bytes: Bytes that its journal holds.
            journal_events: Events that its journal holds.
            on_flow: Is called with False when its readers are so far behind that it should wait.
            on_abandoned: Is called when its last attached caller has gone.
        """
        self.id = id_
        self.context_id = context_id
        self.request = request
        self.journal = Journal(journal_bytes, journal_events, on_flow)
        self.create_time = time.time()
        self.start_time: float | None = None
        self.end_time: float | None = None
        self.execution_count = 0
        self.completed: Completed | None = None
        self.stop_cause: StopCause | None = None
        self.stop_message = ""
        self.input_requests: dict[int, InputRequested] = {}
        """Requests for input that are not answered, by their sequence."""
        self.done: asyncio.Future[Completed] = asyncio.get_running_loop().create_future()
        self.done_at = 0.0
        """When it ended, on the clock of the event loop."""
        self._on_abandoned = on_abandoned
        self._callers = 0
        self._grace: asyncio.TimerHandle | None = None
        self._kept: Reader | None = None
        """The place of the last caller that went, which a caller that comes back goes on from."""
        self._bytes = 0
        self._events = 0
        self._dropped = {
            reason: Gap(0, 0, reason) for reason in (GapReason.OUTPUT_BUDGET, GapReason.INTERRUPTED)
        }

    def begin(self, execution_count: int) -> None:
        """Takes note that it runs now."""
        self.execution_count = execution_count
        self.start_time = time.time()
        self._started_at = time.monotonic()
        self.journal.append(Started(execution_count))

    def add(self, event: Event, *, late: bool = False) -> None:
        """Adds what the code has made, within the budget."""
        if self.completed is not None:
            return
        if isinstance(event, Error):
            self.journal.append(cut_error(event, _MAX_ERROR_BYTES))
            return
        if isinstance(event, InputRequested):
            self.journal.append(event)
            self.input_requests = {self.journal.last_sequence: event}
            return
        size = size_of(event)
        if self._bytes + size > self.request.max_bytes or self._events >= self.request.max_events:
            self._drop(size, GapReason.OUTPUT_BUDGET)
        elif self.stop_cause is not None and not self.journal.flowing:
            # Its reader is slow, and it must not wait for it any more.
            self._drop(size, GapReason.INTERRUPTED)
        else:
            self._bytes += size
            self._events += 1
            self.journal.append(event, late=late)

    def _drop(self, size: int, reason: GapReason) -> None:
        self._dropped[reason].events += 1
        self._dropped[reason].bytes += size

    def complete(self, completed: Completed) -> None:
        """Ends it; only the first call counts."""
        if self.completed is not None:
            return
        if self.start_time is not None:
            completed.duration_s = time.monotonic() - self._started_at
        for gap in self._dropped.values():
            if gap.events:
                self.journal.append(gap)
        self.completed = completed
        self.end_time = time.time()
        self.done_at = asyncio.get_running_loop().time()
        self.input_requests = {}
        self.journal.append(completed)
        self._end_grace()
        self.done.set_result(completed)

    # Callers

    def attach(self) -> None:
        """Takes note of a caller for whom it runs. Its reader, if it has one, must be there already."""
        self._callers += 1
        self._end_grace()

    def detach(self, reader: Reader | None = None) -> None:
        """Takes note that a caller has gone; without callers it is stopped, unless it asked otherwise.

        Args:
            reader: The caller's, which is closed. While the run waits for a caller to come back, it
                waits for this reader as well: what the caller has not got is kept, and as much of
                what it may not have got as fits.
        """
        self._callers -= 1
        last = not (self._callers or self.completed is not None or self.request.detach)
        if last:
            loop = asyncio.get_running_loop()
            self._grace = loop.call_later(self.request.reattach_grace_s, self._abandon)
            self._kept, reader = reader, None
            if self._kept is not None:
                self._kept.absent = True
        if reader is not None:
            reader.close()

    def _end_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _abandon(self) -> None:
        self._end_grace()
        self._on_abandoned(self)

    def reader(self, after_sequence: int = 0, *, attached: bool) -> Reader:
        """Makes a reader of the journal, which must be closed."""
        return self.journal.reader(after_sequence, attached=attached)

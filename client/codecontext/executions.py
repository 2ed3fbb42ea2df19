"""Executions: one run of a piece of code, gathered."""

import enum
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

from codecontext import _wire
from codecontext.results import Fetch, Result
from codecontext.v1 import code_context_service_pb2, execution_pb2


class Outcome(enum.StrEnum):
    """How an execution ended."""

    UNSPECIFIED = "UNSPECIFIED"
    """It has not ended, or ended in a way that this client is too old for."""
    SUCCEEDED = "SUCCEEDED"
    """It ran to the end."""
    RAISED = "RAISED"
    """The code raised, syntax errors included."""
    INTERRUPTED = "INTERRUPTED"
    """It was interrupted, or its caller went away."""
    TIMED_OUT = "TIMED_OUT"
    """Its `timeout` passed."""
    CRASHED = "CRASHED"
    """The interpreter died; `outcome_message` has its exit code or signal."""
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    """The interpreter died of its memory limit."""
    CONTEXT_DELETED = "CONTEXT_DELETED"
    """A forced delete, a destroyed sandbox, or an expired context ended it."""
    CONTEXT_RESTARTED = "CONTEXT_RESTARTED"
    """A restart ended it."""
    SERVER_STOPPED = "SERVER_STOPPED"
    """The server's drain ended it."""
    NOT_STARTED = "NOT_STARTED"
    """It was accepted and queued, and never began: it is safe to run again."""


class GapReason(enum.StrEnum):
    """Why something is missing."""

    UNSPECIFIED = "UNSPECIFIED"
    """A reason that this client is too old for."""
    JOURNAL_BOUND = "JOURNAL_BOUND"
    """The reader fell behind, or came when the oldest part was dropped."""
    OUTPUT_BUDGET = "OUTPUT_BUDGET"
    """The execution's output budget was used up."""
    MESSAGE_SIZE = "MESSAGE_SIZE"
    """The gathered answer would be larger than a message; `watch_execution` may still have it."""
    LATE_OUTPUT = "LATE_OUTPUT"
    """More was written between two runs than is kept for the next."""
    INTERRUPTED = "INTERRUPTED"
    """The run ended while its reader was behind: what it still wrote was dropped."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something is missing, and is counted here."""

    events: int
    """How many events are missing."""
    bytes: int
    """How many bytes of content they held."""
    reason: GapReason
    """Why they are missing."""

    @classmethod
    def from_proto(cls, message: execution_pb2.Gap) -> Self:
        """Returns the message as a value."""
        reason = _wire.from_enum(GapReason, execution_pb2.GapReason, message.reason)
        return cls(message.events, message.bytes, reason)


@dataclass(frozen=True, slots=True)
class ExecutionError:
    """An exception of the code that was run: a value, not an exception of this client."""

    name: str
    """The name of its class, for instance `ZeroDivisionError`."""
    value: str
    """Its text."""
    traceback: list[str] = field(default_factory=list, hash=False)
    """The traceback, a line each, without colours."""
    line_number: int | None = None
    """The line of the code, from 1, that raised it or can't be parsed; None if unknown."""

    @classmethod
    def from_proto(cls, message: execution_pb2.ExecutionError) -> Self:
        """Returns the message as a value."""
        return cls(
            message.name, message.value, list(message.traceback), message.line_number or None
        )

    def __str__(self) -> str:
        return f"{self.name}: {self.value}" if self.value else self.name


@dataclass(frozen=True, slots=True)
class Interruption:
    """What an interrupt stopped."""

    execution_id: str | None
    """The execution that was stopped; None if there was none."""
    outcome: Outcome
    """How it ended; UNSPECIFIED if there was none."""
    state_kept: bool
    """Whether the context still has its state."""

    @classmethod
    def from_proto(cls, message: code_context_service_pb2.InterruptCodeContextResponse) -> Self:
        """Returns the message as a value."""
        outcome = _wire.from_enum(Outcome, execution_pb2.ExecutionOutcome, message.outcome)
        return cls(message.execution_id or None, outcome, message.state_kept)


@dataclass(slots=True, kw_only=True)
class Execution:
    """One run of a piece of code, whatever its outcome. In a notebook it shows what it printed."""

    execution_id: str = ""
    """Its id."""
    context_id: str = ""
    """The context that it ran in."""
    execution_count: int = 0
    """Which run of its interpreter it was, from 1; 0 if it has not begun."""
    outcome: Outcome = Outcome.UNSPECIFIED
    """How it ended; UNSPECIFIED while it goes on."""
    outcome_message: str = ""
    """More about the outcome, in words."""
    state_kept: bool = False
    """Whether the context still has its state; if not, it is FAILED until it is restarted."""
    stdout: str = ""
    """What was written to standard output; bytes that are not UTF-8 are replaced by U+FFFD."""
    stderr: str = ""
    """What was written to standard error; bytes that are not UTF-8 are replaced by U+FFFD."""
    results: list[Result] = field(default_factory=list)
    """Rich results, in the order that the code made them, each with its newest content."""
    error: ExecutionError | None = None
    """The exception that ended it; None without one."""
    gaps: list[Gap] = field(default_factory=list)
    """What is missing here, and why; empty when all is there."""
    duration: timedelta = timedelta()
    """From its begin to its end, on the clock of the wall."""
    cpu_time: timedelta = timedelta()
    """CPU time of the interpreter and of the child processes that it waited for."""
    peak_memory_bytes: int = 0
    """The most resident memory that the interpreter ever had until the end of this run."""
    create_time: datetime | None = None
    """When it was accepted; None if only its events were seen (`run_code`)."""
    start_time: datetime | None = None
    """When it began; None if it never did."""
    end_time: datetime | None = None
    """When it ended; None while it goes on."""
    last_sequence: int = 0
    """The sequence of the newest event in here: `watch_execution` goes on after it."""

    @classmethod
    def from_proto(cls, message: execution_pb2.Execution) -> Self:
        """Returns the message as a value."""
        return cls(
            execution_id=message.execution_id,
            context_id=message.context_id,
            execution_count=message.execution_count,
            outcome=_wire.from_enum(Outcome, execution_pb2.ExecutionOutcome, message.outcome),
            outcome_message=message.outcome_message,
            state_kept=message.state_kept,
            stdout=message.stdout.decode(errors="replace"),
            stderr=message.stderr.decode(errors="replace"),
            results=join_results(message.results),
            error=(ExecutionError.from_proto(message.error) if message.HasField("error") else None),
            gaps=[Gap.from_proto(gap) for gap in message.gaps],
            duration=message.duration.ToTimedelta(),
            cpu_time=message.cpu_time.ToTimedelta(),
            peak_memory_bytes=message.peak_memory_bytes,
            create_time=_wire.from_timestamp(message, "create_time"),
            start_time=_wire.from_timestamp(message, "start_time"),
            end_time=_wire.from_timestamp(message, "end_time"),
            last_sequence=message.last_sequence,
        )

    def fetching(self, fetch: Fetch) -> Self:
        """Gives its results the way to download the files that they name."""
        self.results = [replace(result, fetch=fetch) for result in self.results]
        return self

    @property
    def succeeded(self) -> bool:
        """Whether it ran to the end."""
        return self.outcome is Outcome.SUCCEEDED

    @property
    def main_result(self) -> Result | None:
        """The value of the code's last expression; None if it had none."""
        return next((r for r in reversed(self.results) if r.is_main_result), None)

    @property
    def text(self) -> str | None:
        """The plain text of the main result; None if there is none."""
        return self.main_result.text if self.main_result is not None else None

    def __repr__(self) -> str:
        said = [self.outcome.value]
        if self.outcome_message:
            said.append(self.outcome_message)
        if self.error is not None:
            said.append(f"error={str(self.error)[:80]!r}")
        if self.text is not None:
            said.append(f"text={self.text[:80]!r}")
        said += [
            f"{stream}={len(content)} characters"
            for stream, content in (("stdout", self.stdout), ("stderr", self.stderr))
            if content
        ]
        if self.results:
            said.append(f"results={[result.formats() for result in self.results]}")
        if self.gaps:
            said.append(f"gaps={len(self.gaps)}")
        return f"<Execution {self.execution_id} {', '.join(said)}>"

    def _ipython_display_(self) -> None:
        """Shows it in a notebook as the cell that was run would have shown."""
        from IPython.display import display  # in a notebook it is there

        sys.stdout.write(self.stdout)
        sys.stderr.write(self.stderr)
        for result in self.results:
            display(result)
        if self.error is not None:
            sys.stderr.write("\n".join([*self.error.traceback, ""]) or f"{self.error}\n")


def join_results(messages: Sequence[execution_pb2.Result]) -> list[Result]:
    """Returns results from their messages, where one result may have come in several."""
    results: list[Result] = []
    pending: list[execution_pb2.Result] = []
    for message in messages:
        pending.append(message)
        if not message.continued:
            results.append(Result.from_proto(*pending))
            pending = []
    if pending:  # its rest is missing, and a gap says so
        results.append(Result.from_proto(*pending))
    return results

"""What an execution's journal holds."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any


class Outcome(enum.Enum):
    """How an execution ended; see `ExecutionOutcome` in the proto."""

    SUCCEEDED = "SUCCEEDED"
    RAISED = "RAISED"
    INTERRUPTED = "INTERRUPTED"
    TIMED_OUT = "TIMED_OUT"
    CRASHED = "CRASHED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    CONTEXT_DELETED = "CONTEXT_DELETED"
    CONTEXT_RESTARTED = "CONTEXT_RESTARTED"
    SERVER_STOPPED = "SERVER_STOPPED"
    NOT_STARTED = "NOT_STARTED"


class GapReason(enum.Enum):
    """Why events are missing; see `GapReason` in the proto."""

    JOURNAL_BOUND = "JOURNAL_BOUND"
    OUTPUT_BUDGET = "OUTPUT_BUDGET"
    MESSAGE_SIZE = "MESSAGE_SIZE"
    LATE_OUTPUT = "LATE_OUTPUT"
    INTERRUPTED = "INTERRUPTED"


@dataclass(slots=True)
class Started:
    """The run began."""

    execution_count: int


@dataclass(slots=True)
class Stream:
    """A chunk of standard output or error."""

    stderr: bool
    data: bytes


@dataclass(slots=True)
class MimePart:
    """One representation of a result; exactly one of `text` and `data` is set."""

    mime_type: str
    text: str | None = None
    data: bytes | None = None

    @property
    def size(self) -> int:
        """Its content's size in bytes."""
        if self.data is not None:
            return len(self.data)
        text = self.text or ""
        return len(text) if text.isascii() else len(text.encode())


@dataclass(slots=True)
class Display:
    """A rich result, or a part of one if `continued` is set on it or on the one before it."""

    parts: list[MimePart]
    metadata: dict[str, Any] = field(default_factory=dict)
    metadata_size: int = 0
    """The metadata's size in bytes, as JSON."""
    is_main_result: bool = False
    display_id: str = ""
    update: bool = False
    continued: bool = False


@dataclass(slots=True)
class Clear:
    """What was shown so far should be cleared."""

    wait: bool


@dataclass(slots=True)
class InputRequested:
    """The code waits for a line of input. `number` is the interpreter's own for this request."""

    prompt: str
    password: bool
    number: int


@dataclass(slots=True)
class Error:
    """The exception that ended the run."""

    name: str
    value: str
    traceback: list[str]
    line_number: int


@dataclass(slots=True)
class Gap:
    """Something is missing."""

    events: int
    bytes: int
    reason: GapReason


@dataclass(slots=True)
class Completed:
    """The end of an execution."""

    outcome: Outcome
    message: str = ""
    state_kept: bool = True
    duration_s: float = 0.0
    cpu_time_s: float = 0.0
    peak_memory_bytes: int = 0


Event = Started | Stream | Display | Clear | InputRequested | Error | Gap | Completed

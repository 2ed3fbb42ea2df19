"""Makes one Execution of the events of a run, and says which callbacks each event is for."""

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from codecontext import _wire
from codecontext.errors import CodeContextError, InternalError
from codecontext.executions import Execution, ExecutionError, Gap, Outcome
from codecontext.results import Fetch, Result
from codecontext.v1 import execution_pb2
from codecontext.v1.execution_pb2 import ExecutionEvent

Notice = tuple[Callable[..., Any], Any]
"""A callback and what it is to be called with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """What a caller wants to be told while the code runs."""

    stdout: Callable[[str], Any] | None = None
    stderr: Callable[[str], Any] | None = None
    result: Callable[[Result], Any] | None = None
    error: Callable[[ExecutionError], Any] | None = None


class _Text:
    """Decodes chunks that may be cut in the middle of a character."""

    def __init__(self, callback: Callable[[str], Any] | None) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._callback = callback
        self._pieces: list[str] = []

    def add(self, chunk: bytes, *, final: bool = False) -> Iterator[Notice]:
        piece = self._decoder.decode(chunk, final)
        if piece:
            self._pieces.append(piece)
            if self._callback is not None:
                yield self._callback, piece

    def value(self) -> str:
        return "".join(self._pieces)


class Gatherer:
    """Takes the events of one run in their order.

    `clear_output` clears nothing: a gathered execution keeps all that was shown. A display update
    replaces all earlier results of its `display_id`, as a notebook does; one from an earlier run has none
    here, and is added.
    """

    def __init__(self, callbacks: Callbacks, fetch: Fetch | None = None) -> None:
        self.execution = Execution()
        self._fetch = fetch
        self._callbacks = callbacks
        self._stdout = _Text(callbacks.stdout)
        self._stderr = _Text(callbacks.stderr)
        self._continued: list[execution_pb2.Result] = []
        self._completed = False

    def add(self, event: ExecutionEvent) -> Iterator[Notice]:
        """Takes the next event; yields the callbacks to call."""
        execution = self.execution
        execution.execution_id = event.execution_id
        execution.last_sequence = event.sequence
        match event.WhichOneof("event"):
            case "started":
                execution.execution_count = event.started.execution_count
                execution.start_time = _wire.from_timestamp(event, "time")
            case "stdout":
                yield from self._stdout.add(event.stdout)
            case "stderr":
                yield from self._stderr.add(event.stderr)
            case "result":
                yield from self._add_result(event.result, is_update=False)
            case "display_update":
                yield from self._add_result(event.display_update, is_update=True)
            case "error":
                execution.error = ExecutionError.from_proto(event.error)
                if self._callbacks.error is not None:
                    yield self._callbacks.error, execution.error
            case "gap":
                execution.gaps.append(Gap.from_proto(event.gap))
            case "completed":
                yield from self._complete(event)
            case _:  # clear_output, input_requested, and events that this client is too old for
                pass

    def _add_result(self, message: execution_pb2.Result, *, is_update: bool) -> Iterator[Notice]:
        self._continued.append(message)
        if message.continued:
            return
        result = replace(
            Result.from_proto(*self._continued), is_update=is_update, fetch=self._fetch
        )
        self._continued = []
        results = self.execution.results
        earlier = [
            i for i, r in enumerate(results) if is_update and r.display_id == result.display_id
        ]
        for i in earlier:
            results[i] = replace(result, is_update=False, is_main_result=results[i].is_main_result)
        if not earlier:
            results.append(result)
        if self._callbacks.result is not None:
            yield self._callbacks.result, result

    def _complete(self, event: ExecutionEvent) -> Iterator[Notice]:
        yield from self._stdout.add(b"", final=True)
        yield from self._stderr.add(b"", final=True)
        execution, completed = self.execution, event.completed
        execution.outcome = _wire.from_enum(
            Outcome, execution_pb2.ExecutionOutcome, completed.outcome
        )
        execution.outcome_message = completed.message
        execution.state_kept = completed.state_kept
        execution.duration = completed.duration.ToTimedelta()
        execution.cpu_time = completed.cpu_time.ToTimedelta()
        execution.peak_memory_bytes = completed.peak_memory_bytes
        execution.end_time = _wire.from_timestamp(event, "time")
        self._completed = True

    def name(self, error: CodeContextError) -> None:
        """Names the execution in an error that ended its stream, so that it can be watched on."""
        if self.execution.execution_id:
            error.metadata.setdefault("execution_id", self.execution.execution_id)

    def finish(self, context_id: str) -> Execution:
        """Returns the execution once its stream has ended.

        Args:
            context_id: The context that it ran in, which its events do not name.

        Returns:
            The execution.

        Raises:
            InternalError: the stream ended without telling how the run did.
        """
        if not self._completed:
            raise InternalError(
                "the stream of events ended without `completed`",
                reason="",
                metadata={"execution_id": self.execution.execution_id},
            )
        self.execution.context_id = context_id
        self.execution.stdout = self._stdout.value()
        self.execution.stderr = self._stderr.value()
        return self.execution

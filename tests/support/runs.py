"""Runs that a test looks at while they go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from codecontext import CodeContext, CodeContextClient, CodeContextError, ContextState, Outcome
from codecontext.resources import ResourceUsage
from codecontext.v1 import execution_pb2

_PAUSE_S = 0.01
"""Between two questions, whose answers would else take all the time of what is waited for."""

PATIENCE_S = 60
"""After this long a test gives up: never a promise about speed."""

FOREVER = "import time\nprint('begun', flush=True)\nwhile True:\n    time.sleep(1000)"
"""Code that goes on until it is stopped, once it has written something."""


class LiveRun:
    """A run whose events another thread collects."""

    def __init__(
        self,
        client: CodeContextClient,
        context: CodeContext | str,
        code: str = FOREVER,
        **options: float,
    ) -> None:
        """Starts the run, and returns at once."""
        self.events: list[execution_pb2.ExecutionEvent] = []
        self.error: Exception | None = None
        self._changed = threading.Condition()
        self._stream = client.run_code_stream(code, context=context, **options)  # type: ignore[arg-type]
        self._ended = False
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        try:
            for event in self._stream:
                with self._changed:
                    self.events.append(event)
                    self._changed.notify_all()
        except Exception as error:
            self.error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _wait(self, done: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended or done(), PATIENCE_S), self.events
            if not done() and self.error is not None:
                raise self.error

    def begun(self) -> LiveRun:
        """Waits until the code has written something."""
        self._wait(lambda: any(event.HasField("stdout") for event in self.events))
        assert "begun" in self.stdout, self.events
        return self

    def asked(self) -> int:
        """Waits until the code asks for input, and returns the event's sequence."""
        self._wait(lambda: any(event.HasField("input_requested") for event in self.events))
        return next(each.sequence for each in self.events if each.HasField("input_requested"))

    @property
    def execution_id(self) -> str:
        """Its id, once it has begun."""
        return self.events[0].execution_id

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return b"".join(event.stdout for event in self.events).decode()

    def end(self) -> execution_pb2.ExecutionCompleted:
        """Waits for the last event, which must be the only `completed`, after all others in order."""
        self._wait(lambda: self._ended)
        self._thread.join(PATIENCE_S)
        assert [event.sequence for event in self.events] == list(range(1, len(self.events) + 1))
        assert [event.HasField("completed") for event in self.events].count(True) == 1
        return self.events[-1].completed

    @property
    def outcome(self) -> Outcome:
        """How it ended; waits for that."""
        name = execution_pb2.ExecutionOutcome.Name(self.end().outcome)
        return Outcome(name.removeprefix("EXECUTION_OUTCOME_"))

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._thread.join(PATIENCE_S)


def until(holds: Callable[[], bool]) -> None:
    """Asks again until something holds: each question is a call to the service or to the kernel."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(_PAUSE_S)


def usage_of(client: CodeContextClient, context: CodeContext) -> ResourceUsage:
    """What a context uses now; a machine under load may be too slow to measure it at once."""
    for _ in range(20):
        measured = client.get_code_context(context).resource_usage
        if measured is not None:
            return measured
    raise AssertionError("it can't be measured")


def queued(client: CodeContextClient, context: CodeContext, count: int) -> None:
    """Waits until so many runs are queued in a context."""
    until(lambda: client.get_code_context(context).queued_executions == count)


def state_of(client: CodeContextClient, context: CodeContext | str) -> ContextState:
    """Returns a context's state."""
    return client.get_code_context(context).state


def answer_of(call: Callable[..., object], *args: Any, **kwargs: Any) -> str:
    """Makes a call, and returns the reason that it fails with, or OK."""
    try:
        call(*args, **kwargs)
    except CodeContextError as error:
        return error.reason
    return "OK"

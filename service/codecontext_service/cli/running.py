"""Runs code in a context, shows what happens, answers its questions, and passes Ctrl-C on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from codecontext_service.cli import exits
from codecontext_service.cli.failures import say
from codecontext_service.cli.interrupts import Interrupts, ended_by, put_off
from codecontext_service.cli.printers import Printer, outcome_name

if TYPE_CHECKING:
    from codecontext import CodeContextClient, EventStream
    from codecontext.v1 import execution_pb2


_DELETE_S = 10.0
"""How long this program waits for the end of its own context; the service goes on by itself."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run a piece of code."""

    env_vars: dict[str, str] = field(default_factory=dict)
    """Environment variables of this run."""

    timeout: float | None = None
    """How long it may take, in seconds."""

    allow_input: bool = False
    """Whether it may ask for input, which is then read from standard input."""


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """How a run ended."""

    status: int
    """The exit status that says so."""

    state_kept: bool
    """Whether the context still has its state."""


def run_shown(
    client: CodeContextClient, context_id: str, code: str, printer: Printer, options: RunOptions
) -> RunEnd:
    """Runs code and shows its events.

    The first Ctrl-C interrupts the code and waits for its end; a second one gives up. While the run
    is queued behind others the first one gives up: it ends this run alone.

    Args:
        client: The client.
        context_id: Where to run.
        code: What to run.
        printer: What shows the events.
        options: How to run it.

    Returns:
        How it ended.

    Raises:
        CodeContextError: The run did not start, or nobody can say how it ended.
        KeyboardInterrupt: Ctrl-C was pressed twice, or before the run began.
        BrokenPipeError: Nobody reads the output any more.
    """
    execution_id: str | None = None

    def stop() -> None:
        from codecontext import CodeContextError

        try:
            client.interrupt_code_context(context_id, execution_id=execution_id)
        except CodeContextError as error:
            say(f"the run could not be interrupted: {error} (Ctrl-C again gives up)")

    events = client.run_code_stream(
        code,
        context=context_id,
        env_vars=options.env_vars,
        timeout=options.timeout,
        allow_input=options.allow_input,
    )
    with Interrupts(stop) as interrupts, events:
        interrupts.immediate = True  # no event, no id: what runs may be somebody else's
        while (event := _next(events)) is not None:
            execution_id = event.execution_id
            interrupts.immediate = False
            printer.show(event)
            kind = event.WhichOneof("event")
            if kind == "input_requested":
                _answer(client, event, interrupts)
            elif kind == "completed":
                outcome = outcome_name(event.completed.outcome)
                status = exits.of_outcome(outcome)
                if interrupts.count and outcome == "INTERRUPTED":
                    status = exits.INTERRUPTED
                return RunEnd(status=status, state_kept=event.completed.state_kept)
    say("the stream ended without saying how the run ended")
    return RunEnd(status=exits.SERVICE_FAILED, state_kept=False)


def _next(events: EventStream[execution_pb2.ExecutionEvent]) -> execution_pb2.ExecutionEvent | None:
    with ended_by(events.close):
        return next(events, None)


@contextmanager
def own_context(
    client: CodeContextClient,
    *,
    language: str | None,
    runtime: str | None,
    cwd: str | None,
    labels: dict[str, str],
    idle_timeout: float | None = None,
) -> Iterator[str]:
    """A fresh context for the block, deleted at its end, however it ends.

    Args:
        client: The client.
        language: Its language.
        runtime: Its runtime.
        cwd: Its working directory.
        labels: Its labels.
        idle_timeout: When the service deletes it if this program can't any more, in seconds.

    Raises:
        CodeContextError: It can't be created.
        KeyboardInterrupt: Ctrl-C was pressed while it was being created; it is deleted.
    """
    from codecontext import CodeContextError, ContextNotFoundError

    # A first Ctrl-C waits, not to lose a context that is there already; a create that is ended leaves none.
    with Interrupts(lambda: None) as interrupts, ended_by(client.close):
        context_id = client.create_code_context(
            language, runtime=runtime, cwd=cwd, labels=labels, idle_timeout=idle_timeout
        ).id
    try:
        if interrupts.count:
            raise KeyboardInterrupt
        yield context_id
    finally:
        failing = sys.exc_info()[0] is not None
        try:
            with Interrupts(lambda: None) as late, ended_by(client.close):
                late.immediate = True
                client.delete_code_context(context_id, force=True, deadline=_DELETE_S)
        except ContextNotFoundError:
            pass
        except CodeContextError as error:
            if not failing:
                say(f"context {context_id} could not be deleted: {error}")


def _answer(
    client: CodeContextClient, event: execution_pb2.ExecutionEvent, interrupts: Interrupts
) -> None:
    from codecontext import CodeContextError

    try:
        interrupts.immediate = True
        line = _read_line(event.input_requested)
    except KeyboardInterrupt:
        if interrupts.count > 1:
            raise
        interrupts.stop()
        return
    finally:
        interrupts.immediate = False
    try:
        with put_off():
            client.send_input(
                event.execution_id,
                sequence=event.sequence,
                text=line or "",
                end_of_file=line is None,
            )
    except CodeContextError as error:
        # It timed out, was interrupted or deleted meanwhile: the stream says which.
        if error.reason not in ("INPUT_NOT_REQUESTED", "EXECUTION_NOT_FOUND"):
            raise


def _read_line(asked: execution_pb2.InputRequested) -> str | None:
    if asked.password and sys.stdin.isatty():
        from getpass import getpass

        try:
            return getpass(asked.prompt)
        except EOFError:
            return None
    sys.stderr.write(asked.prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    return line.removesuffix("\n") if line else None

"""The calls on executions and code, each described once for both clients."""

from collections.abc import Mapping

from codecontext import _wire
from codecontext._calls import Call, Stream, call, stream
from codecontext._wire import HasExecutionId, HasId, Seconds
from codecontext.executions import Execution
from codecontext.server import Completions, Inspection
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub as Stub
from codecontext.v1.execution_pb2 import ExecutionEvent

DEFAULT_REATTACH_GRACE_S = 10.0
"""How long a run waits for its caller when the connection is cut."""

FAREWELL_DEADLINE_S = 10.0
"""The deadline of the interrupt of a run that its caller leaves."""


def run_request(
    code: str,
    *,
    env_vars: Mapping[str, str] | None,
    timeout: Seconds | None,
    request_id: str | None,
    allow_input: bool,
    detach: bool,
    max_output_bytes: int,
    max_output_events: int,
    reattach_grace: Seconds,
    after_sequence: int = 0,
) -> pb.RunCodeStreamRequest:
    """Returns the request of a run, but for the context, which may have to be made first."""
    return pb.RunCodeStreamRequest(
        code=_wire.text(code),
        env_vars=_wire.texts(env_vars),
        timeout=_wire.to_duration(timeout),
        request_id=_wire.request_id(request_id),
        allow_input=allow_input,
        detach=detach,
        reattach_grace=_wire.to_duration(reattach_grace),
        output_budget=pb.OutputBudget(max_bytes=max_output_bytes, max_events=max_output_events),
        after_sequence=after_sequence,
    )


def run_code_stream(request: pb.RunCodeStreamRequest) -> Stream[ExecutionEvent]:
    """Describes a run; without a deadline: how long code may take is its caller's affair.

    It goes on after a cut, for as long as the run waits for that. Who leaves it says so, since the
    run would wait for a return.
    """
    grace_s = request.reattach_grace.ToTimedelta().total_seconds()
    farewell = call(
        Stub,
        lambda stub: stub.InterruptCodeContext,
        pb.InterruptCodeContextRequest(
            context_id=request.context_id, run_request_id=request.request_id
        ),
        lambda response: None,
        FAREWELL_DEADLINE_S,
    )
    return stream(
        Stub,
        lambda stub: stub.RunCodeStream,
        request,
        lambda response: response.event,
        resumes_s=grace_s,
        farewell=farewell if grace_s and not request.detach else None,
    )


def watch_execution(
    execution: str | HasExecutionId, *, after_sequence: int = 0
) -> Stream[ExecutionEvent]:
    """Iterates over the events of an execution from its journal, then over those that come.

    Watching never slows the run, and ending the watch does not end it. It has no deadline, and goes
    on by itself when the connection is cut.

    Args:
        execution: The execution, or its id.
        after_sequence: Leave out the events up to this sequence.

    Returns:
        An iterator over the events, the last of them `completed`; closing it ends the watch.

    Raises:
        ExecutionNotFoundError: there is none, or its journal was dropped (raised when iterated).
        InvalidArgumentError: the sequence is negative (raised when iterated).
        UnavailableError: its host or the server can't be reached (raised when iterated).
    """
    request = pb.WatchExecutionRequest(
        execution_id=_wire.execution_id_of(execution), after_sequence=after_sequence
    )
    return stream(
        Stub,
        lambda stub: stub.WatchExecution,
        request,
        lambda response: response.event,
        resumes_s=DEFAULT_REATTACH_GRACE_S,
    )


def get_execution(
    execution: str | HasExecutionId, *, deadline: Seconds | None = None
) -> Call[Execution]:
    """Returns what an execution's journal holds, gathered.

    Args:
        execution: The execution, or its id.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        The execution; its outcome is UNSPECIFIED while it goes on.

    Raises:
        ExecutionNotFoundError: there is none, or its journal was dropped.
        UnavailableError: its host or the server can't be reached.
    """
    return call(
        Stub,
        lambda stub: stub.GetExecution,
        pb.GetExecutionRequest(execution_id=_wire.execution_id_of(execution)),
        lambda response: Execution.from_proto(response.execution),
        deadline,
    )


def send_input(
    execution: str | HasExecutionId,
    text: str = "",
    *,
    sequence: int,
    end_of_file: bool = False,
    deadline: Seconds | None = None,
) -> Call[None]:
    """Answers an execution that waits for a line of input.

    Args:
        execution: The execution, or its id.
        text: The line, without its end.
        sequence: The sequence of the `input_requested` event that this answers.
        end_of_file: Whether to end the input instead: the code's `input()` raises EOFError.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        InputNotRequestedError: it does not wait, or waits for the answer to another request.
    """
    request = pb.SendInputRequest(
        execution_id=_wire.execution_id_of(execution),
        sequence=sequence,
        text=_wire.text(text),
        end_of_file=end_of_file,
    )
    return call(Stub, lambda stub: stub.SendInput, request, lambda response: None, deadline)


def complete_code(
    context: str | HasId,
    code: str,
    cursor: int | None = None,
    *,
    deadline: Seconds | None = None,
) -> Call[Completions]:
    """Completes a name at a place in the code, in an idle context, without changing its state.

    Args:
        context: The context, or its id.
        code: The code so far.
        cursor: Where the cursor is, in Unicode characters from the begin; the end by default.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        What could stand there.

    Raises:
        ContextNotFoundError: there is no such context.
        ContextExecutingError: it runs code.
        ContextFailedError: it has no interpreter.
        InvalidArgumentError: the cursor is outside of the code.
        UnimplementedError: this server, or this language, does not offer it.
    """
    request = pb.CompleteCodeRequest(
        context_id=_wire.id_of(context),
        code=_wire.text(code),
        cursor=len(_wire.text(code)) if cursor is None else cursor,
    )
    return call(Stub, lambda stub: stub.CompleteCode, request, Completions.from_proto, deadline)


def inspect_code(
    context: str | HasId,
    code: str,
    cursor: int | None = None,
    *,
    detail_level: int = 0,
    deadline: Seconds | None = None,
) -> Call[Inspection]:
    """Describes the name at a place in the code, in an idle context, without changing its state.

    Args:
        context: The context, or its id.
        code: The code.
        cursor: Where the cursor is, in Unicode characters from the begin; the end by default.
        detail_level: 0 for signature and documentation, 1 for the source too.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        What is known of it.

    Raises:
        ContextNotFoundError: there is no such context.
        ContextExecutingError: it runs code.
        ContextFailedError: it has no interpreter.
        InvalidArgumentError: the cursor is outside of the code.
        UnimplementedError: this server, or this language, does not offer it.
    """
    request = pb.InspectCodeRequest(
        context_id=_wire.id_of(context),
        code=_wire.text(code),
        cursor=len(_wire.text(code)) if cursor is None else cursor,
        detail_level=detail_level,
    )
    return call(Stub, lambda stub: stub.InspectCode, request, Inspection.from_proto, deadline)

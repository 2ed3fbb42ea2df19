"""A request id: the same call made again gets the first call's answer, and nothing is done twice."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from support.processes import workspace_of
from support.proxy import CuttableProxy
from support.runs import until
from support.servers import ServerProcess
from support.stubs import connected, refusal_of

from codecontext import CodeContext, CodeContextClient, ContextState
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1 import execution_pb2
from codecontext.v1.code_context_pb2 import CODE_CONTEXT_STATE_DELETING as DELETING
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

ONCE = "open('count', 'a').write('x')\nprint('ran')"
"""Code whose every run leaves its mark in a file."""


def fresh() -> str:
    return str(uuid.uuid4())


def marks(context: CodeContext) -> str:
    file = workspace_of(context) / "count"
    return file.read_text() if file.exists() else ""


def race(callers: int, call: Callable[[int], Any]) -> list[Any]:
    """Makes a call from many threads at one moment."""
    barrier = threading.Barrier(callers)

    def one(number: int) -> Any:
        barrier.wait()
        return call(number)

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(one, range(callers)))


def stream_of(
    stub: CodeContextServiceStub, request: pb.RunCodeStreamRequest
) -> list[execution_pb2.ExecutionEvent]:
    return [response.event for response in stub.RunCodeStream(request)]


def test_racing_duplicates_run_once(
    stub: CodeContextServiceStub, server: ServerProcess, context: CodeContext
) -> None:
    """Many callers with one request id, streaming and not, on many connections, get one execution
    and the same events; the code runs once."""
    fields = {"context_id": context.id, "code": ONCE, "request_id": fresh()}

    def call(number: int) -> Any:
        with connected(server.target) as own:
            if number % 2:
                return stream_of(own, pb.RunCodeStreamRequest(**fields))
            return own.RunCode(pb.RunCodeRequest(**fields)).execution

    answers = race(12, call)
    first, *streams = answers[1::2]
    assert all(stream == first for stream in streams)
    executions = answers[::2]
    assert {each.execution_id for each in executions} == {first[0].execution_id}
    assert {each.stdout for each in executions} == {b"ran\n"}
    assert marks(context) == "x"
    # Later ones get it too, from its first event.
    assert stream_of(stub, pb.RunCodeStreamRequest(**fields)) == first
    assert stub.RunCode(pb.RunCodeRequest(**fields)).execution.stdout == b"ran\n"
    assert marks(context) == "x"


def test_racing_creates_make_one_context(stub: CodeContextServiceStub) -> None:
    """Many creates with one request id make one context, and all of them get it, later ones too."""
    request = pb.CreateCodeContextRequest(request_id=fresh(), labels={"race": fresh()})
    answers = race(12, lambda _: stub.CreateCodeContext(request).context)
    assert all(each == answers[0] for each in answers)
    listed = stub.ListCodeContexts(pb.ListCodeContextsRequest(labels=request.labels)).contexts
    assert [each.id for each in listed] == [answers[0].id]
    stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=answers[0].id))
    assert stub.CreateCodeContext(request).context == answers[0]
    assert not stub.ListCodeContexts(pb.ListCodeContextsRequest(labels=request.labels)).contexts


def test_racing_restarts_restart_once(
    stub: CodeContextServiceStub, server: ServerProcess, client: CodeContextClient
) -> None:
    """Many restarts with one request id restart once; a later one does not lose the new state."""
    context = client.create_code_context()
    request = pb.RestartCodeContextRequest(context_id=context.id, request_id=fresh())
    race(12, lambda _: stub.RestartCodeContext(request))
    client.run_code("x = 1", context=context)
    stub.RestartCodeContext(request)
    assert client.run_code("x", context=context).text == "1"
    restarted = {"message": "context restarted", "context_id": context.id}
    assert len([line for line in server.log if restarted.items() <= line.items()]) == 1
    client.delete_code_context(context)


def test_racing_deletes(stub: CodeContextServiceStub, client: CodeContextClient) -> None:
    """Many deletes with one request id get the OK, later ones too; another call is told NOT_FOUND."""
    context = client.create_code_context()
    request = pb.DeleteCodeContextRequest(context_id=context.id, request_id=fresh())
    race(12, lambda _: stub.DeleteCodeContext(request))
    stub.DeleteCodeContext(request)
    other = pb.DeleteCodeContextRequest(context_id=context.id, request_id=fresh())
    assert refusal_of(stub.DeleteCodeContext, other).reason == "CONTEXT_DELETED"
    bare = pb.DeleteCodeContextRequest(context_id=context.id)
    assert refusal_of(stub.DeleteCodeContext, bare).reason == "CONTEXT_DELETED"


def requests_of(context_id: str, request_id: str) -> dict[str, tuple[Any, Any]]:
    """For each call a request, and another one."""
    mine = {"context_id": context_id, "request_id": request_id}
    return {
        "CreateCodeContext": (
            pb.CreateCodeContextRequest(request_id=request_id),
            pb.CreateCodeContextRequest(request_id=request_id, labels={"a": "b"}),
        ),
        "RunCode": (pb.RunCodeRequest(**mine, code="1"), pb.RunCodeRequest(**mine, code="2")),
        "RunCodeStream": (
            pb.RunCodeStreamRequest(**mine, code="1"),
            pb.RunCodeStreamRequest(**mine, code="1", detach=True),
        ),
        "RestartCodeContext": (
            pb.RestartCodeContextRequest(**mine),
            pb.RestartCodeContextRequest(context_id="c0-other", request_id=request_id),
        ),
        "DeleteCodeContext": (
            pb.DeleteCodeContextRequest(**mine),
            pb.DeleteCodeContextRequest(**mine, force=True),
        ),
    }


CALLS = tuple(requests_of("", ""))


@pytest.mark.parametrize("call", CALLS)
def test_other_arguments_are_refused(
    stub: CodeContextServiceStub, context: CodeContext, call: str
) -> None:
    """The same id with other arguments is INVALID_ARGUMENT and names the field."""
    request_id = fresh()
    first, other = requests_of(context.id, request_id)[call]
    answer = getattr(stub, call)(first)
    if call == "RunCodeStream":
        list(answer)
    refusal = refusal_of(getattr(stub, call), other)
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "REQUEST_ID_REUSED",
    )
    assert [*refusal.fields] == ["request_id"]
    assert refusal.info is not None
    assert dict(refusal.info.metadata) == {"request_id": request_id}
    if call == "CreateCodeContext":
        stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=answer.context.id))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("request_id", ["a\n", "é", "x" * 129, "\x7f"])
def test_an_id_that_is_none_is_refused(
    stub: CodeContextServiceStub, context: CodeContext, call: str, request_id: str
) -> None:
    """An id that is too long or not printable ASCII is INVALID_ARGUMENT, and nothing is done."""
    first, _ = requests_of(context.id, request_id)[call]
    refusal = refusal_of(getattr(stub, call), first)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert [*refusal.fields] == ["request_id"]
    kept = stub.GetCodeContext(pb.GetCodeContextRequest(context_id=context.id)).context
    assert kept.execution_count == 0


def test_an_id_belongs_to_its_method(stub: CodeContextServiceStub) -> None:
    """The longest id that there may be means another call for each method."""
    request_id = fresh().ljust(128, "~")
    context = stub.CreateCodeContext(pb.CreateCodeContextRequest(request_id=request_id)).context
    for call in CALLS[1:]:
        if call == "RunCodeStream":  # the same method as RunCode
            continue
        getattr(stub, call)(requests_of(context.id, request_id)[call][0])


def test_a_failure_that_did_nothing_is_not_remembered(
    stub: CodeContextServiceStub, client: CodeContextClient, context: CodeContext
) -> None:
    """What was refused is done when it is asked for again with the same id, other arguments or not."""
    request_id = fresh()
    bad = pb.CreateCodeContextRequest(language="klingon", request_id=request_id)
    assert refusal_of(stub.CreateCodeContext, bad).fields.keys() == {"language"}
    made = stub.CreateCodeContext(pb.CreateCodeContextRequest(request_id=request_id)).context
    stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=made.id))

    client.run_code("import os; os._exit(1)", context=context)
    run = pb.RunCodeRequest(context_id=context.id, code=ONCE, request_id=request_id)
    assert refusal_of(stub.RunCode, run).reason == "CONTEXT_FAILED"
    client.restart_code_context(context)
    assert stub.RunCode(run).execution.stdout == b"ran\n"

    delete = pb.DeleteCodeContextRequest(context_id=context.id, request_id=request_id)
    with client.run_code_stream("print('on', flush=True)\nwhile True: pass", context=context) as on:
        assert any(event.HasField("stdout") for event in on)
        assert refusal_of(stub.DeleteCodeContext, delete).reason == "CONTEXT_EXECUTING"
    until(lambda: client.get_code_context(context).state is ContextState.IDLE)
    stub.DeleteCodeContext(delete)
    stub.DeleteCodeContext(delete)


def test_a_replay_equals_the_first_stream(
    stub: CodeContextServiceStub, context: CodeContext
) -> None:
    """Thousands of events of all kinds are replayed one for one, after the context's end too, and
    after any event."""
    code = (
        "import sys\nfrom IPython.display import display, HTML\n"
        "for n in range(1500):\n    print(n, end='')\n    print(n, end='', file=sys.stderr)\n"
        "    n % 100 or display(HTML('<b>'))\n1 / 0"
    )
    request = pb.RunCodeStreamRequest(context_id=context.id, code=code, request_id=fresh())
    first = stream_of(stub, request)
    assert len(first) > 3000
    assert [event.sequence for event in first] == list(range(1, len(first) + 1))
    assert stream_of(stub, request) == first
    stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=context.id))
    assert stream_of(stub, request) == first
    for after in (1, 1000, len(first) - 1, len(first), len(first) + 5):
        request.after_sequence = after
        assert stream_of(stub, request) == first[after:]


def test_what_is_not_known_any_more_is_not_run(
    stub: CodeContextServiceStub, context: CodeContext
) -> None:
    """Going on after an event of a run that is not known is NOT_FOUND, and runs nothing."""
    request = pb.RunCodeStreamRequest(
        context_id=context.id, code=ONCE, request_id=fresh(), after_sequence=3
    )
    refusal = refusal_of(stub.RunCodeStream, request)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "EXECUTION_NOT_FOUND")
    request.request_id = ""
    assert refusal_of(stub.RunCodeStream, request).fields.keys() == {"after_sequence"}
    request.after_sequence = -1
    assert refusal_of(stub.RunCodeStream, request).fields.keys() == {"after_sequence"}
    assert marks(context) == ""


def test_a_run_whose_journal_was_dropped_is_not_run_again(state: Path) -> None:
    """A run whose journal was dropped is never run again: its id says so until it is forgotten."""
    flags = ("--finished-executions", "1", "--request-ids", "3", "--pool-size", "1")
    with (
        ServerProcess(state, *flags) as server,
        connected(server.target) as stub,
        CodeContextClient(server.target) as client,
    ):
        context = client.create_code_context()
        request = pb.RunCodeRequest(context_id=context.id, code=ONCE, request_id=fresh())
        execution_id = stub.RunCode(request).execution.execution_id
        client.run_code("1", context=context)
        refusal = refusal_of(stub.RunCode, request)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "EXECUTION_NOT_FOUND")
        assert refusal.info is not None
        assert refusal.info.metadata["execution_id"] == execution_id
        assert marks(context) == "x"
        for _ in range(3):  # the calls that ended first are forgotten first
            client.run_code("1", context=context)
        stub.RunCode(request)
        assert marks(context) == "xx"


def test_a_create_goes_on_without_its_caller(state: Path) -> None:
    """A create that is cut in the middle makes one context, which the retry gets."""
    with (
        ServerProcess(state, "--pool-size", "0") as server,
        CuttableProxy(server.target) as proxy,
        connected(server.target) as stub,
        connected(proxy.target) as cut,
    ):
        request = pb.CreateCodeContextRequest(request_id=fresh())
        zygote = server.zygote
        zygote.suspend()
        call = cut.CreateCodeContext.future(request)
        until(lambda: len(stub.ListCodeContexts(pb.ListCodeContextsRequest()).contexts) == 1)
        proxy.cut()
        assert refusal_of(call.result).code is grpc.StatusCode.UNAVAILABLE
        again = stub.CreateCodeContext.future(request)
        zygote.resume()
        (listed,) = stub.ListCodeContexts(pb.ListCodeContextsRequest()).contexts
        assert again.result().context.id == listed.id
        run = pb.RunCodeRequest(context_id=listed.id, code="1 + 1")
        assert stub.RunCode(run).execution.outcome == execution_pb2.EXECUTION_OUTCOME_SUCCEEDED


def test_a_context_that_nobody_fetched_expires(state: Path) -> None:
    """A create whose caller never asks again leaves a context that goes with its idle timeout."""
    with (
        ServerProcess(state, "--pool-size", "0") as server,
        connected(server.target) as stub,
    ):
        request = pb.CreateCodeContextRequest(
            request_id=fresh(), idle_timeout=Duration(nanos=10**8)
        )
        zygote = server.zygote
        zygote.suspend()
        call = stub.CreateCodeContext.future(request)
        until(lambda: len(stub.ListCodeContexts(pb.ListCodeContextsRequest()).contexts) == 1)
        call.cancel()
        zygote.resume()
        server.wait_for_log("context created")
        server.wait_for_log("context deleted", cause="expired")


def test_a_delete_goes_on_without_its_caller(state: Path) -> None:
    """A delete that is cut in the middle answers its retry with OK, and any other call NOT_FOUND;
    a retry with little time is told UNAVAILABLE within it."""
    with (
        ServerProcess(state, "--pool-size", "0") as server,
        CuttableProxy(server.target) as proxy,
        connected(server.target) as stub,
        connected(proxy.target) as cut,
    ):
        context = stub.CreateCodeContext(pb.CreateCodeContextRequest()).context
        request = pb.DeleteCodeContextRequest(context_id=context.id, request_id=fresh())
        zygote = server.zygote
        zygote.suspend()
        call = cut.DeleteCodeContext.future(request)
        listed = pb.GetCodeContextRequest(context_id=context.id)
        until(lambda: stub.GetCodeContext(listed).context.state == DELETING)
        proxy.cut()
        assert refusal_of(call.result).code is grpc.StatusCode.UNAVAILABLE
        hasty = refusal_of(stub.DeleteCodeContext, request, timeout=0.5)
        assert (hasty.code, hasty.reason) == (grpc.StatusCode.UNAVAILABLE, "CONTEXT_UNREACHABLE")
        zygote.resume()
        server.wait_for_log("context deleted")
        stub.DeleteCodeContext(request)
        other = pb.DeleteCodeContextRequest(context_id=context.id)
        assert refusal_of(stub.DeleteCodeContext, other).reason == "CONTEXT_DELETED"
        stub.DeleteCodeContext(request)

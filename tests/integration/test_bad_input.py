"""What the service refuses: with which code, which reason, and which field named."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from support.processes import workspace_of
from support.runs import LiveRun, queued
from support.servers import ServerProcess
from support.stubs import connected, refusal_of

from codecontext import CodeContext, CodeContextClient, Outcome
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

BAD_IDS = [
    "invalid-id",
    "C0-abc-" + "A" * 26,
    "c99-zzzzzzzzzzzzz-" + "a" * 26,
    "../../etc/passwd",
    "c0-é-☃",
    "a\0b",
    "%s%n{}",
    "x" * 1_000_000,
]
"""Ids that this server never made: malformed, of other hosts, of later lives."""

ID_NAMES = ["word", "upper case", "of another host", "path", "text", "NUL", "format", "huge"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that allows little."""
    flags = ("--max-contexts", "2", "--max-queued-executions", "2", "--max-code-bytes", "100")
    with ServerProcess(tmp_path_factory.mktemp("small"), *flags, "--pool-size", "1") as each:
        yield each


@pytest.mark.parametrize("name", ["cobol", "Python 2", "pythön", "py\0thon", "x" * 100_000])
@pytest.mark.parametrize("field", ["language", "runtime"])
def test_an_unknown_language_is_refused(
    stub: CodeContextServiceStub, field: str, name: str
) -> None:
    """An unknown language or runtime is never taken for another one, and the known ones are named."""
    before = {each.id for each in stub.ListCodeContexts(pb.ListCodeContextsRequest()).contexts}
    refusal = refusal_of(stub.CreateCodeContext, pb.CreateCodeContextRequest(**{field: name}))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
    )
    assert list(refusal.fields) == [field]
    assert "python" in refusal.fields[field]
    assert len(refusal.message) < 1000
    after = {each.id for each in stub.ListCodeContexts(pb.ListCodeContextsRequest()).contexts}
    assert after == before


@pytest.mark.parametrize("id_", BAD_IDS, ids=ID_NAMES)
def test_every_call_refuses_ids_that_never_were(stub: CodeContextServiceStub, id_: str) -> None:
    """A context's or execution's id that was never made here is NOT_FOUND, in every call."""
    requests = {
        stub.GetCodeContext: pb.GetCodeContextRequest(context_id=id_),
        stub.RunCode: pb.RunCodeRequest(context_id=id_, code="1"),
        stub.RunCodeStream: pb.RunCodeStreamRequest(context_id=id_, code="1"),
        stub.InterruptCodeContext: pb.InterruptCodeContextRequest(context_id=id_),
        stub.RestartCodeContext: pb.RestartCodeContextRequest(context_id=id_),
        stub.DeleteCodeContext: pb.DeleteCodeContextRequest(context_id=id_),
    }
    for call, request in requests.items():
        refusal = refusal_of(call, request)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "CONTEXT_NOT_FOUND")
        assert len(refusal.message) < 1000
    executions = {
        stub.GetExecution: pb.GetExecutionRequest(execution_id=id_),
        stub.WatchExecution: pb.WatchExecutionRequest(execution_id=id_),
        stub.SendInput: pb.SendInputRequest(execution_id=id_, sequence=1),
    }
    for call, request in executions.items():
        refusal = refusal_of(call, request)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "EXECUTION_NOT_FOUND")
        assert len(refusal.message) < 1000


def test_every_call_refuses_an_empty_id(stub: CodeContextServiceStub) -> None:
    """An empty id is INVALID_ARGUMENT, with a reason of its own where a context is meant."""
    for call, request in {
        stub.GetCodeContext: pb.GetCodeContextRequest(),
        stub.RunCode: pb.RunCodeRequest(code="1"),
        stub.RunCodeStream: pb.RunCodeStreamRequest(code="1"),
        stub.InterruptCodeContext: pb.InterruptCodeContextRequest(),
        stub.RestartCodeContext: pb.RestartCodeContextRequest(),
    }.items():
        refusal = refusal_of(call, request)
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_CONTEXT_ID",
        )
    for call, request in {
        stub.GetExecution: pb.GetExecutionRequest(),
        stub.WatchExecution: pb.WatchExecutionRequest(),
        stub.SendInput: pb.SendInputRequest(),
    }.items():
        refusal = refusal_of(call, request)
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert list(refusal.fields) == ["execution_id"]


def test_ids_of_other_things_are_not_found(
    stub: CodeContextServiceStub, client: CodeContextClient, context: CodeContext
) -> None:
    """An id of one kind is not found where another kind is meant, nor one context's run in another."""
    execution = client.run_code("1", context=context)
    for wrong in (execution.execution_id, context.sandbox_id or ""):
        refusal = refusal_of(stub.GetCodeContext, pb.GetCodeContextRequest(context_id=wrong))
        assert refusal.reason == "CONTEXT_NOT_FOUND"
    refusal = refusal_of(stub.GetExecution, pb.GetExecutionRequest(execution_id=context.id))
    assert refusal.reason == "EXECUTION_NOT_FOUND"
    other = client.create_code_context()
    refusal = refusal_of(
        stub.InterruptCodeContext,
        pb.InterruptCodeContextRequest(context_id=other.id, execution_id=execution.execution_id),
    )
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "EXECUTION_NOT_FOUND")
    client.delete_code_context(other)


def test_code_up_to_the_limit_runs(
    stub: CodeContextServiceStub, client: CodeContextClient, context: CodeContext
) -> None:
    """Code of exactly the limit runs; a byte more is refused with the field named, and runs nothing."""
    code = "'☃'; 1 #"
    code += "x" * ((1 << 20) - len(code.encode()))
    assert client.run_code(code, context=context).text == "1"
    refusal = refusal_of(stub.RunCode, pb.RunCodeRequest(context_id=context.id, code=code + "x"))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.fields) == ["code"]
    assert client.get_code_context(context).execution_count == 1


def test_a_message_past_the_receive_limit_is_grpcs_own_affair(
    stub: CodeContextServiceStub, client: CodeContextClient, context: CodeContext
) -> None:
    """A request past the receive limit is RESOURCE_EXHAUSTED without details, and runs nothing."""
    request = pb.RunCodeRequest(context_id=context.id, code="x" * (17 << 20))
    refusal = refusal_of(stub.RunCode, request)
    assert (refusal.code, refusal.info) == (grpc.StatusCode.RESOURCE_EXHAUSTED, None)
    assert client.run_code("1", context=context).execution_count == 1


def test_all_that_is_wrong_with_a_create_is_named(stub: CodeContextServiceStub) -> None:
    """Every field of a create that is wrong is named, all of them in one answer."""
    request = pb.CreateCodeContextRequest(
        language="cobol",
        cwd="relative/path",
        env_vars={"1A": "x", "B": "nul\0", "A=B": "x", "": "x", "Ä": "x"},
        labels={str(number): "" for number in range(65)},
        idle_timeout=Duration(seconds=-1),
        ttl=Duration(nanos=-1),
    )
    refusal = refusal_of(stub.CreateCodeContext, request)
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
    )
    assert refusal.fields.keys() == {
        "language",
        "cwd",
        "env_vars",
        "labels",
        "idle_timeout",
        "ttl",
    }


def test_all_that_is_wrong_with_a_run_is_named(
    stub: CodeContextServiceStub, context: CodeContext
) -> None:
    """Every field of a run that is wrong is named, all of them in one answer, and nothing runs."""
    request = pb.RunCodeRequest(
        context_id=context.id,
        env_vars={"not a name": "x"},
        timeout=Duration(seconds=-5),
        reattach_grace=Duration(seconds=1 << 40),
        output_budget={"max_bytes": -1, "max_events": -1},
    )
    expected = {
        "code",
        "env_vars",
        "timeout",
        "reattach_grace",
        "output_budget.max_bytes",
        "output_budget.max_events",
    }
    assert refusal_of(stub.RunCode, request).fields.keys() == expected
    streamed = pb.RunCodeStreamRequest.FromString(request.SerializeToString())
    assert refusal_of(stub.RunCodeStream, streamed).fields.keys() == expected
    info = stub.GetCodeContext(pb.GetCodeContextRequest(context_id=context.id)).context
    assert info.execution_count == 0


def test_a_refusal_fits_into_its_trailers(stub: CodeContextServiceStub) -> None:
    """However much of a request is wrong, the answer is INVALID_ARGUMENT and says how much more is."""
    request = pb.CreateCodeContextRequest(
        language="☃" * 100_000, env_vars={f"☃{number}" * 20: "x" for number in range(5000)}
    )
    refusal = refusal_of(stub.CreateCodeContext, request)
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
    )
    assert "more are wrong" in refusal.fields["env_vars"]


@pytest.mark.parametrize(
    "cwd", ["relative", "/not/there", "/etc/hostname", "/tmp\0", "/" + "x" * 300, "/x" * 5000]
)
def test_a_working_directory_must_be_there(stub: CodeContextServiceStub, cwd: str) -> None:
    """A `cwd` that is relative, missing or no directory is refused, and leaves no context behind."""
    label = {"cwd": "bad"}
    refusal = refusal_of(stub.CreateCodeContext, pb.CreateCodeContextRequest(cwd=cwd, labels=label))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.fields) == ["cwd"]
    assert not stub.ListCodeContexts(pb.ListCodeContextsRequest(labels=label)).contexts


@pytest.mark.parametrize(
    ("labels", "fits"),
    [
        ({str(number): "v" * 256 for number in range(64)}, True),
        ({"k" * 256: "☃" * 256}, True),
        ({str(number): "" for number in range(65)}, False),
        ({"": "v"}, False),
        ({"k" * 257: "v"}, False),
        ({"k": "v" * 257}, False),
    ],
)
def test_labels_have_bounds(
    client: CodeContextClient,
    stub: CodeContextServiceStub,
    labels: dict[str, str],
    fits: bool,
) -> None:
    """Up to 64 labels with keys of 1 to 256 and values of up to 256 characters are taken, not more."""
    if fits:
        made = client.create_code_context(labels=labels)
        assert made.labels == labels
        client.delete_code_context(made)
    else:
        request = pb.CreateCodeContextRequest(labels=labels)
        assert list(refusal_of(stub.CreateCodeContext, request).fields) == ["labels"]


def test_page_tokens_are_checked(stub: CodeContextServiceStub, client: CodeContextClient) -> None:
    """A page token that this call never gave, or gave for another filter, is refused."""
    made = [client.create_code_context(labels={"page": "1"}) for _ in range(2)]
    page = pb.ListCodeContextsRequest(page_size=1, labels={"page": "1"})
    token = stub.ListCodeContexts(page).next_page_token
    assert token
    again = pb.ListCodeContextsRequest(page_size=1000, labels={"page": "1"}, page_token=token)
    assert [each.id for each in stub.ListCodeContexts(again).contexts] == [made[1].id]
    bad = [
        token[:-6],
        token + "AAAA",
        "1",
        "é",
        "\0",
        "W1tb" * 50_000,
        "LTE=",
        "bnVsbA==",
        "WzEsMl0=",
    ]
    for wrong in bad:
        again.page_token = wrong
        refusal = refusal_of(stub.ListCodeContexts, again)
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, wrong[:20]
        assert list(refusal.fields) == ["page_token"]
    other = pb.ListCodeContextsRequest(page_token=token, labels={"page": "2"})
    assert list(refusal_of(stub.ListCodeContexts, other).fields) == ["page_token"]
    negative = pb.ListCodeContextsRequest(page_size=-1, page_token="x", state=77)  # type: ignore[arg-type]
    assert refusal_of(stub.ListCodeContexts, negative).fields.keys() == {
        "page_size",
        "page_token",
        "state",
    }
    for each in made:
        client.delete_code_context(each)


def test_the_quota_of_contexts_is_named(small: ServerProcess) -> None:
    """A context too many is RESOURCE_EXHAUSTED with the limit named; a delete makes room again."""
    with connected(small.target) as stub:
        ids = [stub.CreateCodeContext(pb.CreateCodeContextRequest()).context.id for _ in range(2)]
        refusal = refusal_of(stub.CreateCodeContext, pb.CreateCodeContextRequest())
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "QUOTA_EXCEEDED",
        )
        assert refusal.info is not None
        assert dict(refusal.info.metadata) == {"quota": "max_contexts", "limit": "2"}
        assert len(refusal.quotas) == 1
        stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=ids.pop()))
        ids.append(stub.CreateCodeContext(pb.CreateCodeContextRequest()).context.id)
        for id_ in ids:
            stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=id_))


def test_the_quota_of_queued_runs_is_named(small: ServerProcess) -> None:
    """A queued run too many is RESOURCE_EXHAUSTED with the limit named; those in the queue all run."""
    with CodeContextClient(small.target) as client, connected(small.target) as stub:
        context = client.create_code_context()
        wait = "print('begun', flush=True)\nopen('go').read()"
        client.run_code("import os; os.mkfifo('go'); order = []", context=context)
        with LiveRun(client, context, wait) as first:
            first.begun()
            waiting = [LiveRun(client, context, f"order.append({number})") for number in range(2)]
            queued(client, context, 2)
            refusal = refusal_of(stub.RunCode, pb.RunCodeRequest(context_id=context.id, code="1"))
            assert (refusal.code, refusal.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "QUOTA_EXCEEDED",
            )
            assert refusal.info is not None
            assert dict(refusal.info.metadata) == {"quota": "max_queued_executions", "limit": "2"}
            assert refusal.quotas == [context.id]
            (workspace_of(context) / "go").write_text("")
            assert {run.outcome for run in (first, *waiting)} == {Outcome.SUCCEEDED}
        assert client.run_code("sorted(order)", context=context).text == "[0, 1]"
        client.delete_code_context(context)

"""How calls are made: retried or not, with what deadline, page by page."""
# ruff: noqa: N802  # servicers have the names of the protocol

import threading
from datetime import timedelta
from typing import Any

import grpc
import pytest
from fake_service import Contexts, fail, serving

import codecontext
from codecontext import AsyncCodeContextClient, CodeContextClient, ResourceLimits
from codecontext.v1 import code_context_pb2, code_context_service_pb2_grpc
from codecontext.v1 import code_context_service_pb2 as pb


class Flaky(code_context_service_pb2_grpc.CodeContextServiceServicer):
    """Is unavailable a few times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0
        self.request_ids: list[str] = []

    def _answer(self, request: Any, context: grpc.ServicerContext, answer: Any) -> Any:
        self.calls += 1
        self.request_ids.append(getattr(request, "request_id", ""))
        if self.calls <= self.failures:
            fail(context, grpc.StatusCode.UNAVAILABLE, "HOST_UNREACHABLE")
        return answer

    def GetServerInfo(self, request: Any, context: Any) -> Any:
        return self._answer(request, context, pb.GetServerInfoResponse(version="1"))

    def DeleteCodeContext(self, request: Any, context: Any) -> Any:
        return self._answer(request, context, pb.DeleteCodeContextResponse())

    def CreateCodeContext(self, request: Any, context: Any) -> Any:
        return self._answer(request, context, pb.CreateCodeContextResponse())

    def RestartCodeContext(self, request: Any, context: Any) -> Any:
        return self._answer(request, context, pb.RestartCodeContextResponse())

    def RunCodeStream(self, request: Any, context: Any) -> Any:
        self._answer(request, context, None)
        yield pb.RunCodeStreamResponse()


def test_reads_are_retried() -> None:
    """A read succeeds although the server is unavailable twice."""
    flaky = Flaky(2)
    with serving(flaky) as target, CodeContextClient(target) as client:
        assert client.get_server_info().version == "1"
    assert flaky.calls == 3


async def test_reads_are_retried_async() -> None:
    """A read of the asynchronous client succeeds although the server is unavailable twice."""
    flaky = Flaky(2)
    with serving(flaky) as target:
        async with AsyncCodeContextClient(target) as client:
            assert (await client.get_server_info()).version == "1"
    assert flaky.calls == 3


CHANGES = {
    "create": lambda client: client.create_code_context(),
    "restart": lambda client: client.restart_code_context("c1"),
    "run": lambda client: list(client.run_code_stream("1", context="c1")),
}


@pytest.mark.parametrize("call", CHANGES.values(), ids=CHANGES)
def test_what_changes_something_is_retried_with_its_id(call: Any) -> None:
    """A create, a restart and a run are made again with the same request id, which is new each time."""
    flaky = Flaky(2)
    with serving(flaky) as target, CodeContextClient(target) as client:
        call(client)
        call(client)
    first, *again, last = flaky.request_ids
    assert len(again) == 2
    assert {*again} == {first} != {last}
    assert first
    assert last


async def test_what_changes_something_is_retried_with_its_id_async() -> None:
    """The asynchronous client makes a create again with the same request id."""
    flaky = Flaky(2)
    with serving(flaky) as target:
        async with AsyncCodeContextClient(target) as client:
            await client.create_code_context()
    assert len(flaky.request_ids) == 3
    assert len({*flaky.request_ids}) == 1


def test_a_call_is_not_retried_for_ever() -> None:
    """A server that stays unavailable is asked a few times, and the error names the request's id."""
    flaky = Flaky(1000)
    with (
        serving(flaky) as target,
        CodeContextClient(target) as client,
        pytest.raises(codecontext.HostUnreachableError) as raised,
    ):
        client.create_code_context()
    assert flaky.calls == 4
    assert flaky.request_ids[0] == raised.value.request_id


def test_a_delete_is_not_retried() -> None:
    """A delete reaches the server once, and its error names the id with which it can be repeated."""
    flaky = Flaky(1)
    with serving(flaky) as target, CodeContextClient(target) as client:
        with pytest.raises(codecontext.HostUnreachableError) as raised:
            client.delete_code_context("c1")
        assert flaky.calls == 1
        client.delete_code_context("c1", request_id=raised.value.request_id)
    assert flaky.request_ids == [raised.value.request_id] * 2


class Deadlines(code_context_service_pb2_grpc.CodeContextServiceServicer):
    def __init__(self) -> None:
        self.remaining: list[float | None] = []

    def GetServerInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.remaining.append(context.time_remaining())
        return pb.GetServerInfoResponse()

    def WatchExecution(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.remaining.append(context.time_remaining())
        return iter(())


def test_deadlines() -> None:
    """Calls have the client's deadline or their own; watching has none."""
    service = Deadlines()
    with serving(service) as target:
        with CodeContextClient(target) as client:
            client.get_server_info()
            client.get_server_info(deadline=timedelta(seconds=7))
            list(client.watch_execution("e1"))
        with CodeContextClient(target, deadline=3) as client:
            client.get_server_info()
        with CodeContextClient(target, deadline=float("inf")) as client:
            client.get_server_info()

    def about(seconds: float | None) -> int | None:
        return None if seconds is None or seconds > 1e6 else round(seconds)

    assert [about(seconds) for seconds in service.remaining] == [30, 7, None, 3, None]


def test_a_deadline_that_passes() -> None:
    """A call whose deadline passes raises a DeadlineExceededError."""
    go_on = threading.Event()
    contexts = Contexts()
    contexts.creating = lambda: go_on.wait(30) and None
    with serving(contexts) as target, CodeContextClient(target) as client:
        with pytest.raises(codecontext.DeadlineExceededError):
            client.create_code_context(deadline=0.05)
        go_on.set()


class Paged(code_context_service_pb2_grpc.CodeContextServiceServicer):
    def __init__(self) -> None:
        self.requests: list[Any] = []

    def ListCodeContexts(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        begin = int(request.page_token or 0)
        return pb.ListCodeContextsResponse(
            contexts=[
                code_context_pb2.CodeContext(id=f"c{i}") for i in range(begin, min(begin + 2, 5))
            ],
            next_page_token=str(begin + 2) if begin + 2 < 5 else "",
            unreachable=["7"] if begin == 2 else [],
        )


def test_lists_iterate_over_all_pages() -> None:
    """A list goes on to the last page, asks for a page when it is needed, with the same filter."""
    paged = Paged()
    with serving(paged) as target, CodeContextClient(target) as client:
        listing = client.list_code_contexts(language="python", state="IDLE")
        assert not paged.requests
        assert next(listing).id == "c0"
        assert len(paged.requests) == 1
        assert [context.id for context in listing] == ["c1", "c2", "c3", "c4"]
        assert listing.unreachable == {"7"}
    assert {request.language for request in paged.requests} == {"python"}
    assert [request.page_token for request in paged.requests] == ["", "2", "4"]
    assert {request.state for request in paged.requests} == {
        code_context_pb2.CODE_CONTEXT_STATE_IDLE
    }


async def test_lists_iterate_over_all_pages_async() -> None:
    """An asynchronous list goes on to the last page."""
    with serving(Paged()) as target:
        async with AsyncCodeContextClient(target) as client:
            found = [context.id async for context in client.list_code_contexts()]
    assert found == ["c0", "c1", "c2", "c3", "c4"]


def test_what_a_create_sends() -> None:
    """Every argument of a create reaches the server, with lone surrogates replaced."""
    contexts = Contexts()
    with serving(contexts) as target, CodeContextClient(target) as client:
        made = client.create_code_context(
            "python",
            runtime="data",
            cwd="/tmp",
            env_vars={"A": "\ud800"},
            labels={"l\udc80": "v"},
            sandbox_id="s1",
            idle_timeout=0,
            ttl=timedelta(minutes=1),
            resource_limits=ResourceLimits(memory_bytes=5, cpu_time=1.5),
            network_policy="NONE",
            request_id="r1",
        )
    (request,) = contexts.requests
    assert request.env_vars == {"A": "\ufffd"}
    assert made.labels == {"l\ufffd": "v"}
    assert request.HasField("idle_timeout")
    assert (request.idle_timeout.seconds, request.ttl.seconds) == (0, 60)
    assert request.resource_limits.cpu_time.ToTimedelta() == timedelta(seconds=1.5)
    assert (request.runtime, request.sandbox_id, request.request_id) == ("data", "s1", "r1")
    assert hash(made) == hash(made)


def test_metadata_goes_with_each_call() -> None:
    """The client's metadata reaches the server with every kind of call."""
    seen: list[Any] = []

    class Seeing(Deadlines):
        def GetServerInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
            seen.append(dict(context.invocation_metadata())["authorization"])
            return pb.GetServerInfoResponse()

        def WatchExecution(self, request: Any, context: grpc.ServicerContext) -> Any:
            seen.append(dict(context.invocation_metadata())["authorization"])
            return iter(())

    with (
        serving(Seeing()) as target,
        CodeContextClient(target, metadata={"authorization": "Bearer x"}) as client,
    ):
        client.get_server_info()
        list(client.watch_execution("e1"))
    assert seen == ["Bearer x", "Bearer x"]


def test_a_channel_of_the_caller_stays_open() -> None:
    """A client that was given a channel does not close it."""
    with serving(Flaky(0)) as target, grpc.insecure_channel(target) as channel:
        for _ in range(2):
            with CodeContextClient(channel=channel) as client:
                assert client.get_server_info().version == "1"


def test_a_closed_client_says_so() -> None:
    """A call on a closed client raises, and closing twice is fine."""
    client = CodeContextClient("127.0.0.1:1")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.get_server_info()


def test_many_threads() -> None:
    """Many threads use one client at once."""
    from concurrent.futures import ThreadPoolExecutor

    with (
        serving(Flaky(0)) as target,
        CodeContextClient(target) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        infos = list(pool.map(lambda _: client.get_server_info(), range(200)))
    assert len(infos) == 200

"""Streams whose connection is cut: they go on by themselves, and lose and repeat nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from support.proxy import CuttableProxy, UnreliableProxy
from support.runs import LiveRun, queued
from support.servers import ServerProcess
from support.stubs import connected

from codecontext import (
    AsyncCodeContextClient,
    CodeContext,
    CodeContextClient,
    ContextState,
    Execution,
    Outcome,
    ResourceExhaustedError,
    UnavailableError,
)
from codecontext._channel import FLIGHT_BYTES
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.execution_pb2 import ExecutionEvent

T = TypeVar("T")

ROUNDS = int(os.environ.get("CODECONTEXT_CUT_ROUNDS", "3"))
"""How many seeds the tests with random cuts try; more of them find more."""

LINES = 4000
MANY = (
    "import sys\n"
    f"for n in range({LINES // 2}):\n"
    "    print(n, end=' ')\n    print(n, end=' ', file=sys.stderr)"
)
"""Code that makes many events: the two streams are never put together."""

NUMBERS = " ".join(map(str, range(LINES // 2))) + " "

BUSY = "print('begun\\n', end='')\nwhile True: pass"


@contextmanager
def seeded(number: int) -> Iterator[random.Random]:
    """Random choices whose seed is printed when the test fails."""
    seed = number if number >= 0 else random.randrange(1 << 32)
    try:
        yield random.Random(seed)
    except BaseException:
        print(f"seed: {seed}")  # noqa: T201  # pytest shows it
        raise


def check(events: list[ExecutionEvent]) -> None:
    """All events have come, each once, and with them all that the code wrote."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.HasField("completed") for event in events].count(True) == 1
    assert not any(event.HasField("gap") for event in events)
    assert b"".join(event.stdout for event in events).decode() == NUMBERS
    assert b"".join(event.stderr for event in events).decode() == NUMBERS


def ended(client: CodeContextClient, execution_id: str) -> Execution:
    """Watches a run to its end."""
    list(client.watch_execution(execution_id))
    return client.get_execution(execution_id)


def test_a_cut_stream_goes_on(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """A stream of thousands of events that is cut many times has each of them once."""
    with (
        CuttableProxy(server.target) as proxy,
        CodeContextClient(proxy.target) as cut,
        cut.run_code_stream(MANY, context=context) as stream,
    ):
        events = []
        for event in stream:
            events.append(event)
            if event.sequence % 400 == 0:
                proxy.cut()
        check(events)
        assert proxy.count > 1
    assert client.get_code_context(context).execution_count == 1


@pytest.mark.parametrize("number", range(ROUNDS))
def test_streams_through_random_cuts(
    server: ServerProcess, client: CodeContextClient, context: CodeContext, number: int
) -> None:
    """Runs and watches through connections that break anywhere have each event once; the code runs once."""
    with (
        seeded(number - ROUNDS // 2) as chances,
        UnreliableProxy(server.target, chances, 100_000) as proxy,
        CodeContextClient(proxy.target) as cut,
    ):
        request_id = str(uuid.uuid4())
        events: list[ExecutionEvent] = []
        persistently(
            lambda after: collect(
                cut.run_code_stream(
                    MANY, context=context, request_id=request_id, after_sequence=after
                ),
                events,
            ),
            lambda: len(events),
        )
        check(events)
        watched: list[ExecutionEvent] = []
        persistently(
            lambda after: collect(
                cut.watch_execution(events[0].execution_id, after_sequence=after), watched
            ),
            lambda: len(watched),
        )
        assert watched == events
        assert proxy.count > 5
    assert client.get_code_context(context).execution_count == 1


def collect(stream: Iterator[ExecutionEvent], events: list[ExecutionEvent]) -> None:
    events.extend(stream)


def persistently(call: Callable[[int], T], progress: Callable[[], int]) -> T:
    """Calls again where the connections break so often that the client gives up."""
    while True:
        try:
            return call(progress())
        except UnavailableError:
            continue


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_async_streams_through_random_cuts(
    server: ServerProcess, client: CodeContextClient, context: CodeContext, number: int
) -> None:
    """The asynchronous client's stream has each event once, and its `run_code` all output once."""
    with (
        seeded(number - ROUNDS // 2) as chances,
        UnreliableProxy(server.target, chances, 100_000) as proxy,
    ):
        async with AsyncCodeContextClient(proxy.target) as cut:
            request_id = str(uuid.uuid4())
            events: list[ExecutionEvent] = []
            while not events or not events[-1].HasField("completed"):
                try:
                    async for event in cut.run_code_stream(
                        MANY, context=context, request_id=request_id, after_sequence=len(events)
                    ):
                        events.append(event)  # noqa: PERF401  # what has come before an error counts
                except UnavailableError:
                    continue
            check(events)
            while True:
                try:
                    execution = await cut.run_code(MANY, context=context, request_id=request_id)
                except UnavailableError:
                    continue
                break
            assert execution.stdout == execution.stderr == NUMBERS
            assert execution.execution_id == events[0].execution_id
    assert client.get_code_context(context).execution_count == 1


@pytest.mark.parametrize("number", range(ROUNDS))
def test_calls_through_random_cuts(
    server: ServerProcess, client: CodeContextClient, number: int
) -> None:
    """Creates, runs, restarts and deletes through connections that break anywhere are done once each."""
    with (
        seeded(number - ROUNDS // 2) as chances,
        UnreliableProxy(server.target, chances, 20_000) as proxy,
        CodeContextClient(proxy.target) as cut,
    ):

        def again(call: Callable[..., T], *args: Any, **options: Any) -> T:
            request_id = str(uuid.uuid4())
            return persistently(lambda _: call(*args, **options, request_id=request_id), lambda: 0)

        def times(message: str) -> int:
            wanted = {"message": message, "context_id": context.id}
            return len([line for line in server.log if wanted.items() <= line.items()])

        label = {"cut": str(uuid.uuid4())}
        context = again(cut.create_code_context, labels=label)
        assert [each.id for each in client.list_code_contexts(labels=label)] == [context.id]
        client.run_code("done = []", context=context)
        for step in range(10):
            assert again(cut.run_code, f"done.append({step})", context=context).succeeded
        assert client.run_code("done", context=context).text == str(list(range(10)))
        again(cut.restart_code_context, context)
        restarts = 1
        if chances.random() < 0.5:
            again(cut.restart_code_context, context)
            restarts = 2
        assert client.get_code_context(context).execution_count == 0
        again(cut.delete_code_context, context)
        assert not list(client.list_code_contexts(labels=label))
        server.wait_for_log("context deleted", context_id=context.id)
        assert (times("context created"), times("context restarted")) == (1, restarts)
        assert times("context deleted") == 1


def test_a_run_waits_for_its_caller_to_come_back(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """A run that writes more than its journal holds waits while nobody is attached, and slows down
    again for the caller who comes back: it gets every event, and no gap."""
    code = (
        "import sys\nfrom pathlib import Path\n"
        "for n in range(15_000):\n"
        "    print(n, end=' ')\n    print(n, end=' ', file=sys.stderr)\n"
        "    n % 100 or Path('reached').write_text(str(n))"
    )
    request = pb.RunCodeStreamRequest(
        context_id=context.id,
        code=code,
        request_id=str(uuid.uuid4()),
        reattach_grace=Duration(seconds=60),
    )
    events: list[ExecutionEvent] = []
    window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", FLIGHT_BYTES)]
    with CuttableProxy(server.target) as proxy, connected(proxy.target, window) as stub:
        while not events or not events[-1].HasField("completed"):
            request.after_sequence = len(events)
            stream = stub.RunCodeStream(request)
            try:
                for response in stream:
                    events.append(response.event)
                    if len(events) % 5000 == 0:
                        proxy.cut()
            except grpc.RpcError:
                assert stream.code() is grpc.StatusCode.UNAVAILABLE
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert len(events) > 30_000
    assert not any(event.HasField("gap") for event in events)
    assert b"".join(event.stdout for event in events) == b"".join(b"%d " % n for n in range(15_000))
    assert client.get_code_context(context).execution_count == 1


def test_a_grace_that_passes_interrupts(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """A run whose caller does not come back is interrupted once its grace has passed, and a caller who
    comes later is told how it ended."""
    request = pb.RunCodeStreamRequest(
        context_id=context.id,
        code=BUSY,
        request_id=str(uuid.uuid4()),
        reattach_grace=Duration(nanos=2 * 10**8),
    )
    with CuttableProxy(server.target) as proxy, connected(proxy.target) as stub:
        stream = stub.RunCodeStream(request)
        execution_id = next(stream).event.execution_id
        proxy.cut()
        execution = ended(client, execution_id)
        assert (execution.outcome, execution.state_kept) == (Outcome.INTERRUPTED, True)
        assert "caller" in execution.outcome_message
        assert execution.duration.total_seconds() > 0.2
        *_, last = stub.RunCodeStream(request)
        assert last.event.completed.message == execution.outcome_message


def test_who_comes_back_in_time_counts_again(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """A run goes on past its grace when a caller has come back, and is interrupted when that one goes."""
    grace_s = 1
    request = pb.RunCodeStreamRequest(
        context_id=context.id,
        code=f"import time; time.sleep({2 * grace_s})\n{BUSY}",
        request_id=str(uuid.uuid4()),
        reattach_grace=Duration(seconds=grace_s),
    )
    with (
        CuttableProxy(server.target) as proxy,
        connected(proxy.target) as cut,
        connected(server.target) as stub,
    ):
        execution_id = next(cut.RunCodeStream(request)).event.execution_id
        proxy.cut()
        again = stub.RunCodeStream(request)
        assert any(b"begun" in response.event.stdout for response in again)
        again.cancel()
        assert ended(client, execution_id).outcome is Outcome.INTERRUPTED


def by_the_caller(client: CodeContextClient, execution_id: str) -> bool:
    """Whether a run was interrupted by a call, and not because a grace has passed."""
    execution = ended(client, execution_id)
    return (execution.outcome, execution.outcome_message) == (
        Outcome.INTERRUPTED,
        "it was interrupted",
    )


@pytest.mark.parametrize("how", ["close", "drop", "client"])
def test_leaving_interrupts_at_once(
    server: ServerProcess, client: CodeContextClient, context: CodeContext, how: str
) -> None:
    """A stream that is closed or dropped, and a client that closes, interrupt their runs explicitly: these
    do not wait for anybody to come back."""
    with CodeContextClient(server.target, reattach_grace=3600) as own:
        stream = own.run_code_stream(BUSY, context=context)
        execution_id = next(stream).execution_id
        if how == "close":
            stream.close()
        elif how == "drop":
            del stream
            gc.collect()
        else:
            own.close()
        assert by_the_caller(client, execution_id)


@pytest.mark.parametrize("how", ["close", "drop", "client", "cancel"])
async def test_leaving_interrupts_at_once_async(
    server: ServerProcess, client: CodeContextClient, context: CodeContext, how: str
) -> None:
    """The asynchronous client interrupts explicitly as well, and when a task is cancelled."""
    async with AsyncCodeContextClient(server.target, reattach_grace=3600) as own:
        if how == "cancel":
            live = asyncio.Event()
            run = own.run_code(BUSY, context=context, on_stdout=lambda text: live.set())
            task = asyncio.create_task(run)
            await live.wait()
            execution_id = client.get_code_context(context).executing_execution_id or ""
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            stream = own.run_code_stream(BUSY, context=context)
            execution_id = (await anext(stream)).execution_id
            if how == "close":
                await stream.aclose()
            elif how == "drop":
                del stream
                gc.collect()
            else:
                await own.close()
        assert await asyncio.to_thread(by_the_caller, client, execution_id)


def test_a_stream_that_can_not_be_read_interrupts_at_once(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """A run whose event is too large for its caller's channel does not wait for a return."""
    options = [("grpc.max_receive_message_length", 10_000)]
    with CodeContextClient(server.target, reattach_grace=3600, options=options) as own:
        stream = own.run_code_stream(f"print('x' * 50_000, flush=True)\n{BUSY}", context=context)
        execution_id = next(stream).execution_id
        with pytest.raises(ResourceExhaustedError):
            list(stream)
        assert by_the_caller(client, execution_id)


def test_leaving_a_queued_run(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """A run that is left before its first event never begins, and what runs goes on."""
    with (
        LiveRun(client, context) as first,
        CodeContextClient(server.target, reattach_grace=3600) as own,
    ):
        first.begun()
        stream = own.run_code_stream("1", context=context)
        waiting = threading.Thread(target=lambda: list(stream))
        waiting.start()
        queued(client, context, 1)
        stream.close()
        waiting.join(60)
        queued(client, context, 0)
        assert client.get_code_context(context).state is ContextState.EXECUTING


def test_a_detached_run_is_left_alone(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """Leaving a detached run does not interrupt it."""
    with CodeContextClient(server.target) as own:
        stream = own.run_code_stream(BUSY, context=context, detach=True)
        execution_id = next(stream).execution_id
        stream.close()
    assert client.get_code_context(context).executing_execution_id == execution_id
    assert client.interrupt_code_context(context).execution_id == execution_id


def test_interrupt_by_the_id_of_the_request(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """A run can be interrupted by its request's id; one that never came is nothing to stop."""
    with connected(server.target) as stub:
        unknown = pb.InterruptCodeContextRequest(context_id=context.id, run_request_id="none")
        assert stub.InterruptCodeContext(unknown).execution_id == ""
        request_id = str(uuid.uuid4())
        run = pb.RunCodeStreamRequest(context_id=context.id, code=BUSY, request_id=request_id)
        stream = stub.RunCodeStream(run)
        execution_id = next(stream).event.execution_id
        stop = pb.InterruptCodeContextRequest(context_id=context.id, run_request_id=request_id)
        assert stub.InterruptCodeContext(stop).execution_id == execution_id
        *_, last = stream
        assert last.event.HasField("completed")
        stop.execution_id = execution_id
        with pytest.raises(grpc.RpcError, match="run_request_id"):
            stub.InterruptCodeContext(stop)


def test_a_server_that_is_gone_is_not_waited_for_long(state: Any) -> None:
    """When the server does not come back within the grace, the run's error says so and names the run."""
    with (
        ServerProcess(state, "--pool-size", "0") as server,
        CodeContextClient(server.target, reattach_grace=1) as own,
    ):
        context = own.create_code_context()
        stream = own.run_code_stream(BUSY, context=context)
        next(stream)
        server.process.kill()
        with pytest.raises(UnavailableError) as raised:
            list(stream)
        assert raised.value.request_id
        server.wait()

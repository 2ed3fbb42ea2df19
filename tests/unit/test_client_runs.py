"""Runs: what is gathered, who is told, how they end early, and where they run by default."""
# ruff: noqa: N802  # servicers have the names of the protocol

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from fake_service import COMPLETED, STARTED, Contexts, events, fail, serving
from google.protobuf.duration_pb2 import Duration

import codecontext
from codecontext import (
    AsyncCodeContextClient,
    CodeContextClient,
    ExecutionError,
    Gap,
    GapReason,
    Outcome,
    Result,
)
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1 import execution_pb2
from codecontext.v1.execution_pb2 import MimePart


def result(text: str, **fields: Any) -> execution_pb2.Result:
    return execution_pb2.Result(parts=[MimePart(mime_type="text/plain", text=text)], **fields)


SNOWMAN = "☃".encode()
SCRIPT: list[dict[str, Any]] = [
    STARTED,
    {"stdout": b"a" + SNOWMAN[:1]},
    {"stderr": b"warn"},
    {"stdout": SNOWMAN[1:] + b"\xff"},
    {"result": result("shown", display_id="d")},
    {"display_update": result("shown again", display_id="d")},
    {"display_update": result("of an earlier run", display_id="other")},
    {"clear_output": execution_pb2.ClearOutput()},
    {"result": result("4", continued=True, is_main_result=True)},
    {"result": result("2")},
    {"gap": execution_pb2.Gap(events=2, bytes=9, reason=execution_pb2.GAP_REASON_OUTPUT_BUDGET)},
    {
        "error": execution_pb2.ExecutionError(
            name="ValueError", value="bad", traceback=["line"], line_number=3
        )
    },
    {"stdout": SNOWMAN[:2]},
    {
        "completed": execution_pb2.ExecutionCompleted(
            outcome=execution_pb2.EXECUTION_OUTCOME_RAISED,
            message="m",
            state_kept=True,
            duration=Duration(seconds=2),
            cpu_time=Duration(seconds=1),
            peak_memory_bytes=7,
        )
    },
]
TOLD = [
    ("out", "a"),
    ("err", "warn"),
    ("out", "☃"),
    ("result", "shown"),
    ("result", "shown again"),
    ("result", "of an earlier run"),
    ("result", "42"),
    ("error", "ValueError"),
    ("out", "\ufffd\ufffd"),
]


def scripted(*script: dict[str, Any]) -> Contexts:
    return Contexts(lambda request, context: events(*script))


def check(execution: codecontext.Execution) -> None:
    assert execution.execution_id == "e1"
    assert execution.context_id == "c1"
    assert execution.execution_count == 1
    assert execution.stdout == "a☃\ufffd\ufffd"
    assert execution.stderr == "warn"
    assert [r.text for r in execution.results] == ["shown again", "of an earlier run", "42"]
    assert [r.is_update for r in execution.results] == [False, True, False]
    assert execution.text == "42"
    assert execution.error == ExecutionError("ValueError", "bad", ["line"], 3)
    assert execution.outcome is Outcome.RAISED
    assert execution.outcome_message == "m"
    assert execution.state_kept
    assert execution.duration.total_seconds() == 2
    assert execution.cpu_time.total_seconds() == 1
    assert execution.peak_memory_bytes == 7
    assert execution.gaps == [Gap(2, 9, GapReason.OUTPUT_BUDGET)]
    assert execution.last_sequence == len(SCRIPT)


def test_a_run_is_gathered() -> None:
    """An execution has all that its events said, and outcomes do not raise."""
    told: list[Any] = []
    with serving(scripted(*SCRIPT)) as target, CodeContextClient(target) as client:
        execution = client.run_code(
            "x",
            on_stdout=lambda text: told.append(("out", text)),
            on_stderr=lambda text: told.append(("err", text)),
            on_result=lambda one: told.append(("result", one.text)),
            on_error=lambda error: told.append(("error", error.name)),
        )
    check(execution)
    # The cut character is completed by the next chunk; what never is, is replaced at the end.
    assert "".join(text for kind, text in told if kind == "out") == "a☃\ufffd\ufffd"
    assert [entry for entry in told if entry[0] != "out"] == [
        entry for entry in TOLD if entry[0] != "out"
    ]


async def test_a_run_is_gathered_async() -> None:
    """Callbacks of the asynchronous client may be plain or coroutine functions."""
    told: list[Any] = []

    async def on_result(one: Result) -> None:
        await asyncio.sleep(0)
        told.append(("result", one.text))

    with serving(scripted(*SCRIPT)) as target:
        async with AsyncCodeContextClient(target) as client:
            execution = await client.run_code(
                "x", on_result=on_result, on_stderr=lambda text: told.append(("err", text))
            )
    check(execution)
    assert told == [entry for entry in TOLD if entry[0] in {"err", "result"}]


def test_code_and_environment_are_cleaned() -> None:
    """Lone surrogates in code and environment are replaced, never an error."""
    contexts = Contexts()
    with serving(contexts) as target, CodeContextClient(target) as client:
        client.run_code("'\ud800'", env_vars={"A": "\udc80"}, timeout=1.5)
        request = contexts.requests[-1]
    assert request.code == "'\ufffd'"
    assert request.env_vars == {"A": "\ufffd"}
    assert request.timeout.ToTimedelta().total_seconds() == 1.5


def test_a_run_takes_a_context_or_a_language() -> None:
    """A context and a language together are refused before anything is sent."""
    with CodeContextClient("127.0.0.1:1") as client, pytest.raises(ValueError, match="not both"):
        client.run_code("1", context="c1", language="python")


def endless(request: Any, context: grpc.ServicerContext) -> Any:
    yield from events(STARTED, {"stdout": b"live"})
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(30)


def test_a_callback_that_raises() -> None:
    """The exception of a callback propagates, and the run is cancelled."""
    contexts = Contexts(endless)

    def on_stdout(text: str) -> None:
        raise LookupError(text)

    with serving(contexts) as target, CodeContextClient(target) as client:
        with pytest.raises(LookupError, match="live"):
            client.run_code("x", on_stdout=on_stdout)
        assert contexts.cancelled.wait(10)


async def test_a_callback_that_raises_async() -> None:
    """The exception of a coroutine callback propagates, and the run is cancelled."""
    contexts = Contexts(endless)

    async def on_stdout(text: str) -> None:
        raise LookupError(text)

    with serving(contexts) as target:
        async with AsyncCodeContextClient(target) as client:
            with pytest.raises(LookupError, match="live"):
                await client.run_code("x", on_stdout=on_stdout)
            assert await asyncio.to_thread(contexts.cancelled.wait, 10)


async def test_a_cancelled_task_cancels_its_run() -> None:
    """Cancelling the task that runs code cancels the call, and stays asyncio's CancelledError."""
    contexts = Contexts(endless)
    live = asyncio.Event()
    with serving(contexts) as target:
        async with AsyncCodeContextClient(target) as client:
            task = asyncio.create_task(client.run_code("x", on_stdout=lambda text: live.set()))
            await live.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(contexts.cancelled.wait, 10)


def test_closing_a_stream_early() -> None:
    """Leaving a stream before its end cancels the call, and the stream is at its end."""
    contexts = Contexts(endless)
    with serving(contexts) as target, CodeContextClient(target) as client:
        with client.run_code_stream("x") as stream:
            assert next(stream).HasField("started")
        assert list(stream) == []
        assert contexts.cancelled.wait(10)


def test_dropping_a_stream() -> None:
    """A stream that nobody holds any more cancels its call."""
    contexts = Contexts(endless)
    with serving(contexts) as target, CodeContextClient(target) as client:
        for _ in client.run_code_stream("x"):
            break
        gc.collect()
        assert contexts.cancelled.wait(10)


def test_closing_a_stream_from_another_thread() -> None:
    """A thread that waits for an event gets the end of the iteration when another closes it."""
    contexts = Contexts(endless)
    with serving(contexts) as target, CodeContextClient(target) as client:
        stream = client.run_code_stream("x")
        assert next(stream).HasField("started")
        assert next(stream).stdout == b"live"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(list, stream)
            stream.close()
            assert waiting.result(10) == []


async def test_closing_a_stream_early_async() -> None:
    """Leaving an asynchronous stream before its end cancels the call."""
    contexts = Contexts(endless)
    with serving(contexts) as target:
        async with AsyncCodeContextClient(target) as client:
            async with client.run_code_stream("x") as stream:
                assert (await anext(stream)).HasField("started")
            assert [event async for event in stream] == []
            assert await asyncio.to_thread(contexts.cancelled.wait, 10)


async def test_dropping_a_stream_async() -> None:
    """An asynchronous stream that nobody holds any more cancels its call."""
    contexts = Contexts(endless)
    with serving(contexts) as target:
        async with AsyncCodeContextClient(target) as client:
            async for _ in client.run_code_stream("x"):
                break
            gc.collect()
            assert await asyncio.to_thread(contexts.cancelled.wait, 10)


def test_a_stream_that_outlives_its_loop() -> None:
    """A stream that is dropped after its event loop was closed makes no noise."""
    contexts = Contexts(endless)

    async def begin(target: str) -> Any:
        client = AsyncCodeContextClient(target)
        stream = client.run_code_stream("x")
        await anext(stream)
        return client, stream

    with serving(contexts) as target:
        kept = asyncio.run(begin(target))
        del kept
        gc.collect()


async def test_closing_the_client_under_a_run_async() -> None:
    """A run whose client is closed raises a CallCancelledError, not asyncio's own."""
    contexts = Contexts(endless)
    live = asyncio.Event()
    with serving(contexts) as target:
        client = AsyncCodeContextClient(target)
        context = await client.create_code_context()
        run = client.run_code("x", context=context, on_stdout=lambda text: live.set())
        task = asyncio.create_task(run)
        await live.wait()
        await client.close()
        with pytest.raises(codecontext.CallCancelledError):
            await task


def test_a_stream_is_not_started_before_its_first_step() -> None:
    """A stream that is never iterated runs nothing."""
    contexts = Contexts()
    with serving(contexts) as target, CodeContextClient(target) as client:
        client.run_code_stream("x").close()
    assert contexts.requests == []


def test_a_stream_without_an_end() -> None:
    """A stream that ends without `completed` is an error: nobody knows how the run ended."""
    with (
        serving(scripted(STARTED)) as target,
        CodeContextClient(target) as client,
        pytest.raises(codecontext.InternalError, match="completed") as raised,
    ):
        client.run_code("x")
    assert raised.value.execution_id == "e1"


def test_a_server_that_is_lost() -> None:
    """Where a run can't go on within its grace, the error names it, so that it can be asked for again."""

    def run(request: Any, context: grpc.ServicerContext) -> Any:
        yield from events(STARTED)
        fail(context, grpc.StatusCode.UNAVAILABLE, "HOST_UNREACHABLE", host="3")

    contexts = Contexts(run)
    with (
        serving(contexts) as target,
        CodeContextClient(target, reattach_grace=0.2) as client,
        pytest.raises(codecontext.HostUnreachableError) as raised,
    ):
        client.run_code("x")
    assert raised.value.execution_id == "e1"
    runs = [each for each in contexts.requests if isinstance(each, pb.RunCodeStreamRequest)]
    assert {each.request_id for each in runs} == {raised.value.request_id}
    assert [each.after_sequence for each in runs][:3] == [0, 1, 1]


class Asking(Contexts):
    """Asks for input once, and goes on when it has come."""

    def __init__(self, *, ended: bool = False) -> None:
        super().__init__(self._ask)
        self.inputs: list[Any] = []
        self._came = threading.Event()
        self._ended = ended

    def _ask(self, request: Any, context: Any) -> Any:
        assert request.allow_input
        asked = {"input_requested": execution_pb2.InputRequested(prompt="? ", password=True)}
        script = events(STARTED, asked, COMPLETED)
        yield next(script)
        yield next(script)
        self._came.wait(30)
        yield from script

    def SendInput(self, request: Any, context: Any) -> Any:
        self.inputs.append(request)
        self._came.set()
        if self._ended:
            fail(context, grpc.StatusCode.FAILED_PRECONDITION, "INPUT_NOT_REQUESTED")
        return pb.SendInputResponse()


def test_input() -> None:
    """`on_input` is asked with the prompt, and its line answers that very request."""
    asking = Asking()
    asked: list[Any] = []

    def on_input(prompt: str, password: bool) -> str:  # what a callback gets
        asked.append((prompt, password))
        return "line"

    with serving(asking) as target, CodeContextClient(target) as client:
        assert client.run_code("input()", on_input=on_input).succeeded
    (sent,) = asking.inputs
    assert (sent.execution_id, sent.sequence, sent.text) == ("e1", 2, "line")
    assert asked == [("? ", True)]


async def test_end_of_input_async() -> None:
    """An `on_input` that raises EOFError ends the input."""
    asking = Asking()

    async def on_input(prompt: str, password: bool) -> str:  # what a callback gets
        raise EOFError

    with serving(asking) as target:
        async with AsyncCodeContextClient(target) as client:
            assert (await client.run_code("input()", on_input=on_input)).succeeded
    assert asking.inputs[0].end_of_file


def test_input_that_comes_too_late() -> None:
    """An answer to a run that ended meanwhile is no error: the outcome tells."""
    with serving(Asking(ended=True)) as target, CodeContextClient(target) as client:
        assert client.run_code("input()", on_input=lambda prompt, password: "x").succeeded


def test_one_default_context_for_each_language() -> None:
    """From many threads each language's default context is made once, and deleted at the close."""
    contexts = Contexts()
    with serving(contexts) as target:
        with CodeContextClient(target) as client, ThreadPoolExecutor(16) as pool:
            languages = [None, "python", "bash"] * 10
            runs = list(pool.map(lambda name: client.run_code("1", language=name), languages))
            assert len({run.context_id for run in runs}) == 2
            assert sorted(context.language for context in contexts.live.values()) == [
                "bash",
                "python",
            ]
        assert contexts.live == {}
    deletes = [one for one in contexts.requests if isinstance(one, pb.DeleteCodeContextRequest)]
    assert [one.force for one in deletes] == [True, True]


async def test_one_default_context_async() -> None:
    """From many tasks the default context is made once, and deleted at the close."""
    contexts = Contexts()
    with serving(contexts) as target:
        async with AsyncCodeContextClient(target) as client:
            runs = await asyncio.gather(*(client.run_code("1") for _ in range(20)))
            assert len({run.context_id for run in runs}) == 1
        assert contexts.live == {}


def test_two_clients_do_not_share() -> None:
    """Default contexts belong to one client each."""
    with (
        serving(Contexts()) as target,
        CodeContextClient(target) as one,
        CodeContextClient(target) as other,
    ):
        assert one.run_code("1").context_id != other.run_code("1").context_id


def test_a_default_context_that_is_gone() -> None:
    """The loss of a default context is told once; the next run has a new one."""
    contexts = Contexts()
    with serving(contexts) as target, CodeContextClient(target) as client:
        first = client.run_code("1").context_id
        contexts.live.clear()
        with pytest.raises(codecontext.ContextDeletedError) as raised:
            client.run_code("1")
        assert raised.value.context_id == first
        assert client.run_code("1").context_id != first


async def test_a_default_context_that_is_gone_async() -> None:
    """The loss of a default context is told once; the next run has a new one."""
    contexts = Contexts()
    with serving(contexts) as target:
        async with AsyncCodeContextClient(target) as client:
            first = (await client.run_code("1")).context_id
            contexts.live.clear()
            with pytest.raises(codecontext.ContextDeletedError):
                await client.run_code("1")
            assert (await client.run_code("1")).context_id != first


def test_a_default_context_that_failed() -> None:
    """A FAILED default context is told once and deleted; the next run has a new one."""
    broken: set[str] = set()

    def run(request: Any, context: grpc.ServicerContext) -> Any:
        if request.context_id in broken:
            fail(context, grpc.StatusCode.FAILED_PRECONDITION, "CONTEXT_FAILED")
        yield from events(STARTED, COMPLETED)

    contexts = Contexts(run)
    with serving(contexts) as target, CodeContextClient(target) as client:
        first = client.run_code("1").context_id
        broken.add(first)
        with pytest.raises(codecontext.ContextFailedError):
            client.run_code("1")
        second = client.run_code("1").context_id
        assert list(contexts.live) == [second]


def test_a_context_of_the_caller_is_left_alone() -> None:
    """A context that the caller made is not deleted with the client, nor replaced."""
    contexts = Contexts()
    with serving(contexts) as target:
        with CodeContextClient(target) as client:
            context = client.create_code_context()
            client.run_code("1", context=context)
            client.run_code("1", context=context.id)
        assert list(contexts.live) == [context.id]


def test_a_default_context_that_cannot_be_made() -> None:
    """A failed creation is the run's error, and the next run tries again."""
    contexts = Contexts()
    attempts: list[int] = []

    class Full(Contexts):
        def CreateCodeContext(self, request: Any, context: Any) -> Any:
            attempts.append(1)
            if len(attempts) == 1:
                fail(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
            return super().CreateCodeContext(request, context)

    contexts = Full()
    with serving(contexts) as target, CodeContextClient(target) as client:
        with pytest.raises(codecontext.QuotaExceededError):
            client.run_code("1")
        assert client.run_code("1").succeeded

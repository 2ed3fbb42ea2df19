"""Both clients against a real server with real interpreters."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

import codecontext
from codecontext import (
    AsyncCodeContextClient,
    CodeContext,
    CodeContextClient,
    ContextState,
    Outcome,
)


@pytest.fixture
def own(client: CodeContextClient) -> Iterator[CodeContext]:
    context = client.create_code_context(labels={"test": "client"})
    yield context
    with contextlib.suppress(codecontext.ContextNotFoundError):
        client.delete_code_context(context, force=True)


@pytest_asyncio.fixture
async def aio(server: Any) -> AsyncIterator[AsyncCodeContextClient]:
    async with AsyncCodeContextClient(server.target) as client:
        yield client


def test_create_get_list_delete(client: CodeContextClient) -> None:
    """A context is created, found by its labels, read with its usage, and gone once deleted."""
    context = client.create_code_context(
        "python", labels={"name": "one"}, idle_timeout=timedelta(minutes=5)
    )
    assert (context.language, context.state) == ("python", ContextState.IDLE)
    assert context.create_time is not None
    assert context.create_time.tzinfo is not None
    assert [one.id for one in client.list_code_contexts(labels={"name": "one"})] == [context.id]
    assert client.get_code_context(context).id == context.id
    client.delete_code_context(context)
    with pytest.raises(codecontext.ContextDeletedError) as raised:
        client.get_code_context(context.id)
    assert raised.value.context_id == context.id


def test_state_output_and_results(client: CodeContextClient, own: CodeContext) -> None:
    """State lasts between runs; output, results and figures of a run are gathered."""
    client.run_code("x = 41", context=own)
    told: list[str] = []
    execution = client.run_code(
        "import sys\nprint('☃'); print('e', file=sys.stderr)\nx + 1",
        context=own.id,
        on_stdout=told.append,
    )
    assert (execution.stdout, execution.stderr, execution.text) == ("☃\n", "e\n", "42")
    assert "".join(told) == execution.stdout
    assert execution.succeeded
    assert execution.state_kept
    assert execution.execution_count == 2
    assert execution.duration > timedelta()
    assert execution.context_id == own.id


def test_errors_of_the_code_do_not_raise(client: CodeContextClient, own: CodeContext) -> None:
    """What the code raises is a value: name, text, traceback and line."""
    execution = client.run_code("a = 1\n1/0", context=own)
    assert execution.outcome is Outcome.RAISED
    assert execution.error is not None
    assert (execution.error.name, execution.error.line_number) == ("ZeroDivisionError", 2)
    assert "ZeroDivisionError" in "\n".join(execution.error.traceback)


def test_lone_surrogates(client: CodeContextClient, own: CodeContext) -> None:
    """Code that is no Unicode is run with U+FFFD in its place."""
    assert client.run_code("ascii('\udc80')", context=own).text == repr("'\\ufffd'")


def test_a_timeout_is_an_outcome(client: CodeContextClient, own: CodeContext) -> None:
    """A run whose time is up ends as TIMED_OUT, and its context keeps its state."""
    execution = client.run_code("while True: pass", context=own, timeout=0.2)
    assert execution.outcome is Outcome.TIMED_OUT
    assert execution.state_kept


def test_delete_while_executing(client: CodeContextClient, own: CodeContext) -> None:
    """A delete is refused while code runs, names the execution, and is done with `force`."""
    live = threading.Event()
    code = "import time\nprint('on', flush=True)\ntime.sleep(60)"
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(client.run_code, code, context=own, on_stdout=lambda text: live.set())
        assert live.wait(20)
        with pytest.raises(codecontext.ContextExecutingError) as raised:
            client.delete_code_context(own)
        client.delete_code_context(own, force=True)
        execution = run.result(20)
    assert execution.outcome is Outcome.CONTEXT_DELETED
    assert execution.outcome_message == "the context was deleted"
    assert raised.value.execution_id == execution.execution_id


def test_interrupt(client: CodeContextClient, own: CodeContext) -> None:
    """An interrupt stops the run that its caller sees live, and says what it stopped."""
    with client.run_code_stream("print('on', flush=True)\nwhile True: pass", context=own) as events:
        for event in events:
            if event.HasField("stdout"):
                break
        stopped = client.interrupt_code_context(own, execution_id=event)
        assert (stopped.execution_id, stopped.outcome) == (event.execution_id, Outcome.INTERRUPTED)
        *_, last = events
    assert last.HasField("completed")
    assert client.interrupt_code_context(own).execution_id is None


def test_a_stream_closed_early_ends_the_run(client: CodeContextClient, own: CodeContext) -> None:
    """Closing a stream interrupts its run: the next one in the context goes at once."""
    with client.run_code_stream("print(1, flush=True)\nwhile True: pass", context=own) as events:
        next(events)
    assert client.run_code("'free'", context=own, timeout=30).text == "'free'"


def test_a_callback_that_raises_ends_the_run(client: CodeContextClient, own: CodeContext) -> None:
    """The exception of a callback propagates, and the run does not go on."""

    def on_stdout(text: str) -> None:
        raise LookupError(text)

    with pytest.raises(LookupError, match="1"):
        client.run_code("print(1, flush=True)\nwhile True: pass", context=own, on_stdout=on_stdout)
    assert client.run_code("'free'", context=own, timeout=30).text == "'free'"


def test_restart(client: CodeContextClient, own: CodeContext) -> None:
    """A restarted context has its id and a fresh interpreter."""
    client.run_code("x = 1", context=own)
    assert client.restart_code_context(own).id == own.id
    execution = client.run_code("x", context=own)
    assert execution.error is not None
    assert execution.error.name == "NameError"


def test_default_context(server: Any, client: CodeContextClient) -> None:
    """Runs without a context share one of their client's own, which goes when it closes."""
    with CodeContextClient(server.target) as mine:
        with ThreadPoolExecutor(8) as pool:
            runs = list(pool.map(lambda _: mine.run_code("y = 1"), range(8)))
        (context_id,) = {run.context_id for run in runs}
        assert mine.run_code("y").text == "1"
        mine.delete_code_context(context_id)
        with pytest.raises(codecontext.ContextDeletedError):
            mine.run_code("y")
        assert mine.run_code("1").context_id != context_id
        last = mine.run_code("1").context_id
    assert last not in [context.id for context in client.list_code_contexts()]


def test_what_the_server_refuses(client: CodeContextClient, own: CodeContext) -> None:
    """Bad arguments are typed exceptions that name the field."""
    with pytest.raises(codecontext.InvalidArgumentError) as raised:
        client.create_code_context("klingon")
    assert [violation.field for violation in raised.value.field_violations] == ["language"]
    with pytest.raises(codecontext.InvalidArgumentError):
        client.run_code("", context=own)
    with pytest.raises(codecontext.InvalidContextIdError):
        client.delete_code_context("")
    with pytest.raises(codecontext.ContextNotFoundError):
        client.delete_code_context("invalid-id")


def test_server_info(client: CodeContextClient) -> None:
    """The server tells its version and the runtimes that it has."""
    info = client.get_server_info()
    assert info.version
    assert "python" in {runtime.language for runtime in info.runtimes}


async def test_async(aio: AsyncCodeContextClient) -> None:
    """The asynchronous client creates, runs with coroutine callbacks, streams, lists, deletes."""
    context = await aio.create_code_context()
    told: list[str] = []

    async def on_stdout(text: str) -> None:
        told.append(text)

    execution = await aio.run_code("print('hi')\n6*7", context=context, on_stdout=on_stdout)
    assert ("".join(told), execution.text) == ("hi\n", "42")
    kinds = [event.WhichOneof("event") async for event in aio.run_code_stream("1", context=context)]
    assert (kinds[0], kinds[-1]) == ("started", "completed")
    assert context.id in [one.id async for one in aio.list_code_contexts()]
    await aio.delete_code_context(context)
    with pytest.raises(codecontext.ContextDeletedError):
        await aio.run_code("1", context=context)


async def test_async_cancellation_interrupts(aio: AsyncCodeContextClient) -> None:
    """Cancelling the task of a run interrupts the run, and the context is free again."""
    live = asyncio.Event()
    code = "print(1, flush=True)\nwhile True: pass"
    context = (await aio.run_code("1")).context_id
    task = asyncio.create_task(
        aio.run_code(code, context=context, on_stdout=lambda text: live.set())
    )
    await live.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await aio.run_code("'free'", context=context)).text == "'free'"

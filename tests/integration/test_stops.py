"""How runs are stopped: by an interrupt, a timeout, or because their caller went away."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from support.processes import interpreter_of, workspace_of
from support.proxy import CuttableProxy
from support.runs import LiveRun, queued, until
from support.servers import ServerProcess
from support.stubs import refusal_of

from codecontext import (
    CodeContext,
    CodeContextClient,
    ContextFailedError,
    ContextState,
    Execution,
    ExecutionNotFoundError,
    Outcome,
)
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub
from codecontext.v1.execution_pb2 import EXECUTION_OUTCOME_INTERRUPTED

BUSY = "while True: pass"
STUBBORN = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
print('begun\\n', end='')
while True: pass
"""
CATCHES = """
while True:
    try:
        print('begun\\n', end='')
        while True: pass
    except KeyboardInterrupt:
        pass
"""
IN_C = """
import functools, itertools, os
begin = map(functools.partial(os.write, 1), [b'begun\\n'])
sum(itertools.chain(begin, itertools.repeat(0)))  # looks for no signal
"""
STOPPABLE = [
    BUSY,
    "import time; time.sleep(1000)",
    "import subprocess; subprocess.run(['sleep', '1000'])",
    "!sleep 1000",
    "!sh -c 'trap \"\" INT; sleep 1000'",
    "import os\nfor _ in range(1000): os.system('sleep 1000')",
    "import asyncio; await asyncio.sleep(1000)",
    "import asyncio; asyncio.run(asyncio.sleep(1000))",
    "import threading; threading.Event().wait()",
    "import os; os.read(os.pipe()[0], 1)",
    "import queue; queue.Queue().get()",
    "import os; os.mkfifo('fifo'); open('fifo').read()",
    "import socket; ends = socket.socketpair(); ends[0].recv(1)",
    "import numpy\nsquare = numpy.eye(300)\nwhile True: square = square @ square",
    "import asyncio; await asyncio.gather(*(asyncio.sleep(1000) for _ in range(3)))",
    "import asyncio\nasync def busy():\n    while True: await asyncio.sleep(0)\nawait busy()",
    "class Bad:\n    def __repr__(self):\n        while True: pass\nBad()",
]


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that kills soon what ignores an interrupt."""
    folder = tmp_path_factory.mktemp("impatient")
    with ServerProcess(folder, "--interrupt-grace-s", "0.3", "--pool-size", "1") as server:
        yield server


@pytest.fixture
def hasty(impatient: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of the impatient server."""
    with CodeContextClient(impatient.target) as each:
        yield each


def executing(client: CodeContextClient, context: CodeContext) -> str:
    """Waits until a context executes, and returns the execution's id once it has written something."""
    until(lambda: client.get_code_context(context).executing_execution_id is not None)
    running = client.get_code_context(context).executing_execution_id
    assert running is not None
    with client.watch_execution(running) as events:
        assert any(event.stdout for event in events)
    return running


def ended(client: CodeContextClient, execution_id: str) -> Execution:
    """Waits for the end of an execution, and returns it."""
    *_, last = client.watch_execution(execution_id)
    assert last.HasField("completed")
    return client.get_execution(execution_id)


@pytest.mark.parametrize("code", STOPPABLE)
def test_an_interrupt_keeps_the_state(
    client: CodeContextClient, context: CodeContext, code: str
) -> None:
    """Whatever code does, an interrupt stops it, names it, keeps the state, and leaks into no other run."""
    client.run_code("x = 1; import time", context=context)
    with LiveRun(client, context, f"print('begun', flush=True)\n{code}") as run:
        run.begun()
        stopped = client.interrupt_code_context(context)
        assert (stopped.outcome, stopped.state_kept) == (Outcome.INTERRUPTED, True)
        assert stopped.execution_id == run.execution_id
        assert (run.outcome, run.end().state_kept) == (Outcome.INTERRUPTED, True)
    following = client.run_code("x", context=context)
    assert (following.text, following.stdout, following.stderr) == ("1", "", "")


def test_an_interrupt_at_any_moment_of_an_event_loop_keeps_the_state(
    client: CodeContextClient, context: CodeContext
) -> None:
    """An event loop that is busy is stopped wherever the interrupt hits it, in its own code too."""
    client.run_code("x = 1", context=context)
    code = "import asyncio\nwhile True: await asyncio.sleep(0)"
    for number in range(30):
        execution = client.run_code(code, context=context, timeout=0.02 + number / 10_000)
        assert (execution.outcome, execution.state_kept) == (Outcome.TIMED_OUT, True)
        assert (execution.error.name if execution.error else "") == "KeyboardInterrupt"
        assert client.run_code("x", context=context).text == "1"


@pytest.mark.parametrize("code", STOPPABLE)
def test_a_timeout_keeps_the_state(
    client: CodeContextClient, context: CodeContext, code: str
) -> None:
    """A run whose timeout passes says so with the time and shows no frame of ours, and its context goes on."""
    client.run_code("x = 1; import time", context=context)
    execution = client.run_code(code, context=context, timeout=0.2)
    assert (execution.outcome, execution.state_kept) == (Outcome.TIMED_OUT, True)
    assert "0.2 s" in execution.outcome_message
    assert not execution.error or "on_signal" not in "".join(execution.error.traceback)
    following = client.run_code("x", context=context)
    assert (following.text, following.stderr) == ("1", "")


def test_an_interrupt_at_any_moment_hits_its_run_alone(
    client: CodeContextClient, context: CodeContext
) -> None:
    """However early a timeout passes, it ends its own run and no other, and keeps the state."""
    for number in range(150):
        short = client.run_code(BUSY, context=context, timeout=0.0001 * (1 + number % 30))
        assert (short.outcome, short.state_kept, short.stderr) == (Outcome.TIMED_OUT, True, "")
        after = client.run_code(f"{number}", context=context)
        assert (after.outcome, after.text, after.stderr) == (Outcome.SUCCEEDED, str(number), "")


def test_code_may_clean_up(client: CodeContextClient, context: CodeContext) -> None:
    """Code sees an interrupt as KeyboardInterrupt, may clean up and tell of it, and may even go on."""
    code = (
        "try:\n    print('begun\\n', end='')\n    while True: pass\nfinally:\n    print('cleaned')"
    )
    with LiveRun(client, context, code) as run:
        run.begun()
        client.interrupt_code_context(context)
        assert run.outcome is Outcome.INTERRUPTED
        assert run.stdout == "begun\ncleaned\n"
        errors = [event.error.name for event in run.events if event.HasField("error")]
        assert errors == ["KeyboardInterrupt"]
    code = code.replace("finally:", "except KeyboardInterrupt:") + "\n'went on'"
    with LiveRun(client, context, code) as run:
        run.begun()
        stopped = client.interrupt_code_context(context)
        assert stopped.execution_id == run.execution_id
        assert run.end().state_kept


def test_nothing_to_interrupt_is_no_error(client: CodeContextClient, context: CodeContext) -> None:
    """An interrupt of an idle context, or of an ended execution, stops nothing and is OK."""
    stopped = client.interrupt_code_context(context)
    assert (stopped.execution_id, stopped.outcome) == (None, Outcome.UNSPECIFIED)
    execution = client.run_code("1", context=context)
    assert client.interrupt_code_context(context, execution_id=execution).execution_id is None
    assert client.run_code("2", context=context).text == "2"
    with pytest.raises(ExecutionNotFoundError):
        client.interrupt_code_context(context, execution_id="e0-nothing")


def test_a_queued_run_can_be_stopped(client: CodeContextClient, context: CodeContext) -> None:
    """A queued run can be stopped before it begins, and what runs or waits beside it goes on."""
    with LiveRun(client, context) as first:
        first.begun()
        second = LiveRun(client, context, "y = 2")
        queued(client, context, 1)
        third = LiveRun(client, context, "z = 3")
        queued(client, context, 2)
        second._stream.close()  # its caller goes away
        queued(client, context, 1)
        client.interrupt_code_context(context)
        assert first.outcome is Outcome.INTERRUPTED
        assert third.outcome is Outcome.SUCCEEDED
    assert client.run_code("('y' in dir(), z)", context=context).text == "(False, 3)"


def test_a_call_stops_a_queued_run_alone(
    client: CodeContextClient, stub: CodeContextServiceStub, context: CodeContext
) -> None:
    """A queued run that is interrupted ends as INTERRUPTED without having begun, the answer says so, and
    what runs goes on."""
    with LiveRun(client, context) as first:
        first.begun()
        request_id = str(uuid.uuid4())
        stream = client.run_code_stream("never = 1", context=context, request_id=request_id)
        with ThreadPoolExecutor(1) as pool:
            events = pool.submit(lambda: list(stream))
            queued(client, context, 1)
            answer = stub.InterruptCodeContext(
                pb.InterruptCodeContextRequest(context_id=context.id, run_request_id=request_id)
            )
            (only,) = events.result()
        assert answer.execution_id == only.execution_id
        assert only.completed.outcome == answer.outcome == EXECUTION_OUTCOME_INTERRUPTED
        assert answer.state_kept == only.completed.state_kept
        assert client.get_code_context(context).executing_execution_id == first.execution_id
        client.interrupt_code_context(context)
    assert client.run_code("'never' in dir()", context=context).text == "False"


def test_a_run_that_waits_is_named_at_once(
    client: CodeContextClient, stub: CodeContextServiceStub, context: CodeContext
) -> None:
    """Who streams a run learns its execution's id while it is queued, and can stop it by that."""
    with LiveRun(client, context) as first:
        first.begun()
        call = stub.RunCodeStream(pb.RunCodeStreamRequest(context_id=context.id, code="never = 1"))
        named = dict(call.initial_metadata())["codecontext-execution-id"]
        assert client.get_code_context(context).queued_executions == 1
        stopped = client.interrupt_code_context(context, execution_id=named)
        assert (stopped.execution_id, stopped.outcome) == (named, Outcome.INTERRUPTED)
        (only,) = call
        assert only.event.completed.outcome == EXECUTION_OUTCOME_INTERRUPTED
        client.interrupt_code_context(context)


def test_nothing_of_an_interrupted_run_comes_to_the_next(
    client: CodeContextClient, context: CodeContext
) -> None:
    """An interrupt leaves nothing for the next run: neither an exception, nor a task, nor the code
    that was to come."""
    code = "print('begun\\n', end='')\nimport asyncio\nawait asyncio.sleep(1000)\nleaked = 1"
    for _ in range(5):
        with LiveRun(client, context, code) as run:
            run.begun()
            client.interrupt_code_context(context)
            assert run.outcome is Outcome.INTERRUPTED
        after = client.run_code(
            "import asyncio, sys\nawait asyncio.sleep(0.01)\n"
            "('leaked' in dir(), sys.exc_info()[0], len(asyncio.all_tasks()))",
            context=context,
        )
        assert (after.text, after.stdout, after.stderr) == ("(False, None, 1)", "", "")


@pytest.mark.parametrize("code", [STUBBORN, CATCHES, IN_C], ids=["ignores", "catches", "in C"])
@pytest.mark.parametrize("how", ["interrupt", "timeout"])
def test_code_that_ignores_an_interrupt_is_killed(
    hasty: CodeContextClient, how: str, code: str
) -> None:
    """Code that ignores an interrupt is killed after the grace time, which outcome and context say;
    what waited never starts, and a restart makes the context good again."""
    context = hasty.create_code_context()
    options = {"timeout": 2} if how == "timeout" else {}
    with LiveRun(hasty, context, code, **options) as run:
        if how == "interrupt":
            run.begun()
            waiting = LiveRun(hasty, context, "1")
            queued(hasty, context, 1)
            stopped = hasty.interrupt_code_context(context)
            assert (stopped.outcome, stopped.state_kept) == (Outcome.INTERRUPTED, False)
            assert waiting.end().state_kept is False
            assert waiting.outcome is Outcome.NOT_STARTED
        expected = Outcome.INTERRUPTED if how == "interrupt" else Outcome.TIMED_OUT
        assert (run.outcome, run.end().state_kept) == (expected, False)
        assert "ignored the interrupt" in run.end().message
    failed = hasty.get_code_context(context)
    assert failed.state is ContextState.FAILED
    assert "ignored the interrupt" in (failed.failure or "")
    with pytest.raises(ContextFailedError, match="ignored the interrupt"):
        hasty.run_code("1", context=context)
    assert hasty.restart_code_context(context).state is ContextState.IDLE
    assert hasty.run_code("1", context=context).text == "1"
    hasty.delete_code_context(context)


def test_an_interpreter_that_stands_still_is_killed(
    impatient: ServerProcess, hasty: CodeContextClient
) -> None:
    """An interpreter that was stopped by a signal can take no interrupt: it is killed like one that
    ignores it."""
    context = hasty.create_code_context()
    with LiveRun(hasty, context) as run:
        run.begun()
        interpreter_of(impatient, context).suspend()
        stopped = hasty.interrupt_code_context(context)
        assert (stopped.outcome, stopped.state_kept) == (Outcome.INTERRUPTED, False)
    hasty.delete_code_context(context)


@pytest.mark.parametrize("how", ["cancel", "deadline", "connection"])
@pytest.mark.parametrize("call", ["unary", "stream"])
def test_a_run_ends_with_its_caller(
    server: ServerProcess, client: CodeContextClient, context: CodeContext, how: str, call: str
) -> None:
    """When the caller of a run cancels, passes its deadline or vanishes, the run is interrupted and the
    context goes on with its state."""
    code = "x = 1\nprint('begun', flush=True)\nwhile True: pass"
    deadline = 0.5 if how == "deadline" else None
    with CuttableProxy(server.target) as proxy, grpc.insecure_channel(proxy.target) as channel:
        stub = CodeContextServiceStub(channel)
        if call == "unary":
            request = pb.RunCodeRequest(context_id=context.id, code=code)
            answer = stub.RunCode.future(request, timeout=deadline)
        else:
            streamed = pb.RunCodeStreamRequest(context_id=context.id, code=code)
            answer = stub.RunCodeStream(streamed, timeout=deadline)
        if how == "deadline":
            refusal = refusal_of(answer.result if call == "unary" else lambda: list(answer))
            assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
            until(lambda: client.get_code_context(context).state is ContextState.IDLE)
        else:
            execution_id = executing(client, context)
            if how == "cancel":
                answer.cancel()
            else:
                proxy.cut()
            execution = ended(client, execution_id)
            assert (execution.outcome, execution.state_kept) == (Outcome.INTERRUPTED, True)
            assert "caller" in execution.outcome_message
    if how != "deadline":  # else it may have passed before the run began
        assert client.run_code("x", context=context).text == "1"
    assert client.run_code("2", context=context).text == "2"


def test_a_detached_run_goes_on(
    client: CodeContextClient, stub: CodeContextServiceStub, context: CodeContext
) -> None:
    """A detached run goes on when its caller leaves, and a watcher sees its end."""
    client.run_code("import os; os.mkfifo('go')", context=context)
    code = "print('begun', flush=True); open('go').read(); 'done'"
    stream = stub.RunCodeStream(
        pb.RunCodeStreamRequest(context_id=context.id, code=code, detach=True)
    )
    execution_id = executing(client, context)
    stream.cancel()
    until(lambda: stream.code() is grpc.StatusCode.CANCELLED)
    (workspace_of(context) / "go").write_text("")
    execution = ended(client, execution_id)
    assert (execution.outcome, execution.text) == (Outcome.SUCCEEDED, "'done'")


def test_a_queued_run_goes_with_its_caller(
    client: CodeContextClient, stub: CodeContextServiceStub, context: CodeContext
) -> None:
    """A run whose caller's deadline passes in the queue never begins, and what runs goes on."""
    client.run_code("import os; os.mkfifo('go')", context=context)
    with LiveRun(client, context, "print('begun', flush=True); open('go').read()") as first:
        first.begun()
        request = pb.RunCodeRequest(context_id=context.id, code="ran = 1")
        refusal = refusal_of(stub.RunCode, request, timeout=0.2)
        assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
        queued(client, context, 0)
        (workspace_of(context) / "go").write_text("")
        assert first.outcome is Outcome.SUCCEEDED
    last = client.run_code("'ran' in dir()", context=context)
    assert (last.text, last.execution_count) == ("False", 3)

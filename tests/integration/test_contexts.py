"""Contexts: lists, times, expiry, restarts, interrupts, and what contexts share."""

from __future__ import annotations

import ast
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from support.processes import Watch, has_folder, inhabitants, keeper_of, processes_of
from support.runs import LiveRun, answer_of, queued, state_of, until
from support.servers import ServerProcess
from support.stubs import connected

from codecontext import (
    CodeContext,
    CodeContextClient,
    ContextDeletedError,
    ContextState,
    ExecutionNotFoundError,
    InvalidArgumentError,
    Outcome,
    SandboxNotFoundError,
)
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

RACES = 200


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own."""
    with ServerProcess(tmp_path / "state", "--pool-size", "1") as process:
        yield process


@pytest.fixture
def own(own_server: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of the test's own server."""
    with CodeContextClient(own_server.target) as each:
        yield each


def ids(contexts: Iterator[CodeContext]) -> list[str]:
    """The ids of contexts."""
    return [context.id for context in contexts]


# Lists


def test_pages_are_stable_while_others_come_and_go(client: CodeContextClient) -> None:
    """What is there during all of the paging is listed exactly once, in the order of creation."""
    label = {"test": "pages"}
    steady = [client.create_code_context(labels=label).id for _ in range(8)]
    done = threading.Event()
    came: list[str] = []

    def come_and_go() -> None:
        while not done.is_set():
            context = client.create_code_context(labels=label)
            came.append(context.id)
            client.delete_code_context(context)

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(come_and_go) for _ in range(2)]
        try:
            until(lambda: len(came) >= 2)
            for size in (1, 2, 3) * 5:
                listed = ids(client.list_code_contexts(labels=label, page_size=size))
                assert len(set(listed)) == len(listed)
                assert [each for each in listed if each in steady] == steady
        finally:
            done.set()
        for other in others:
            other.result()
    assert ids(client.list_code_contexts(labels=label)) == steady
    for each in steady:
        client.delete_code_context(each)


def test_a_page_survives_the_delete_of_its_last_context(
    server: ServerProcess, client: CodeContextClient
) -> None:
    """A token stays good when the context that it points at is deleted, for its own filter alone."""
    label = {"test": "token"}
    first, second, third = (client.create_code_context(labels=label).id for _ in range(3))
    with grpc.insecure_channel(server.target) as channel:
        stub = CodeContextServiceStub(channel)
        request = pb.ListCodeContextsRequest(page_size=2, labels=label)
        page = stub.ListCodeContexts(request)
        assert [each.id for each in page.contexts] == [first, second]
        client.delete_code_context(second)
        request.page_token = page.next_page_token
        rest = stub.ListCodeContexts(request)
        assert [each.id for each in rest.contexts] == [third]
        assert not rest.next_page_token
        for wrong in (
            pb.ListCodeContextsRequest(page_token=page.next_page_token),
            pb.ListCodeContextsRequest(page_token="nonsense"),
            pb.ListCodeContextsRequest(page_token="WzFd"),
            pb.ListCodeContextsRequest(page_size=-1),
            pb.ListCodeContextsRequest(state=99),  # type: ignore[arg-type]
        ):
            with pytest.raises(grpc.RpcError) as raised:
                stub.ListCodeContexts(wrong)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for each in (first, third):
        client.delete_code_context(each)


def test_filters_must_all_hold(client: CodeContextClient) -> None:
    """Contexts are found by language, state, sandbox and labels, alone and together."""
    one = client.create_code_context(labels={"test": "filters", "n": "1"})
    two = client.create_code_context(
        labels={"test": "filters", "n": "2"}, sandbox_id=one.sandbox_id
    )
    failed = client.create_code_context(labels={"test": "filters", "n": "1"})
    client.run_code("import os; os._exit(1)", context=failed)
    everything = {"test": "filters"}
    listed = client.list_code_contexts
    assert ids(listed(labels=everything)) == [one.id, two.id, failed.id]
    assert ids(listed(labels=everything | {"n": "1"})) == [one.id, failed.id]
    assert ids(listed(labels=everything | {"n": "3"})) == []
    assert ids(listed(labels=everything, state=ContextState.FAILED)) == [failed.id]
    assert ids(listed(sandbox_id=one.sandbox_id)) == [one.id, two.id]
    assert ids(listed(sandbox_id=one.sandbox_id, labels={"n": "2"})) == [two.id]
    assert ids(listed(labels=everything, language="python")) == [one.id, two.id, failed.id]
    assert ids(listed(labels=everything, language="cobol")) == []
    with LiveRun(client, two) as run:
        run.begun()
        executing = listed(labels=everything, state=ContextState.EXECUTING)
        assert [(each.id, each.executing_execution_id) for each in executing] == [
            (two.id, run.execution_id)
        ]
        client.interrupt_code_context(two)
    for each in (one, two, failed):
        client.delete_code_context(each)


def test_the_list_tells_when_each_was_created(client: CodeContextClient) -> None:
    """Times are those of the creation and of the last use, not of the list."""
    before = datetime.now(UTC)
    context = client.create_code_context(idle_timeout=1000)
    after = datetime.now(UTC)
    client.run_code("1", context=context)
    (listed,) = client.list_code_contexts(sandbox_id=context.sandbox_id)
    assert listed.create_time == context.create_time
    assert listed.create_time is not None
    assert before - timedelta(milliseconds=1) <= listed.create_time <= after
    assert listed.last_used_time is not None
    assert listed.last_used_time >= after - timedelta(milliseconds=1)
    assert listed.expire_time is not None
    kept = listed.expire_time - listed.last_used_time
    assert abs(kept - timedelta(seconds=1000)) < timedelta(milliseconds=1)
    client.delete_code_context(context)


def test_reading_is_no_use(client: CodeContextClient, context: CodeContext) -> None:
    """Neither get nor list, nor an interrupt of nothing, changes when a context was last used."""
    used = client.get_code_context(context).last_used_time
    list(client.list_code_contexts())
    client.interrupt_code_context(context)
    answer_of(client.run_code, "", context=context)
    assert client.get_code_context(context).last_used_time == used
    client.run_code("1", context=context)
    now = client.get_code_context(context).last_used_time
    assert used is not None
    assert now is not None
    assert now > used


# Expiry


def test_an_idle_context_expires(own_server: ServerProcess, own: CodeContextClient) -> None:
    """A context that nobody uses for its idle timeout is deleted with all that it had."""
    context = own.create_code_context(idle_timeout=1)
    other = own.create_code_context(idle_timeout=0)
    with (
        LiveRun(own, context, "input()", allow_input=True) as run,
        contextlib.ExitStack() as stack,
    ):
        sequence = run.asked()
        watch = stack.enter_context(Watch(processes_of(own_server, context)))
        own.send_input(run.execution_id, "it", sequence=sequence)
        assert run.outcome is Outcome.SUCCEEDED
        line = own_server.wait_for_log("context deleted", context_id=context.id)
        assert line["cause"] == "expired"
        assert watch.living() == []
    assert inhabitants(context) == []
    assert not has_folder(context)
    with pytest.raises(ContextDeletedError) as raised:
        own.delete_code_context(context)
    assert raised.value.metadata["cause"] == "expired"
    assert f"{context.id} expired at" in str(raised.value)
    assert ids(own.list_code_contexts()) == [other.id]
    assert own.get_code_context(other).expire_time is None


def test_a_context_that_runs_is_not_idle(own_server: ServerProcess, own: CodeContextClient) -> None:
    """The idle timeout begins with the end of a run; before, there is no time to expire."""
    context = own.create_code_context(idle_timeout=1)
    canary = own.create_code_context(idle_timeout=1.2)
    code = "print('begun', flush=True)\nprint('got', input())"
    with LiveRun(own, context, code, allow_input=True) as run:
        sequence = run.asked()
        assert own.get_code_context(context).expire_time is None
        own_server.wait_for_log("context deleted", context_id=canary.id)  # longer than its timeout
        assert state_of(own, context) is ContextState.EXECUTING
        own.send_input(run.execution_id, "it", sequence=sequence)
        assert run.outcome is Outcome.SUCCEEDED
    line = own_server.wait_for_log("context deleted", context_id=context.id)
    assert line["cause"] == "expired"


def test_the_time_to_live_ends_a_run(own_server: ServerProcess, own: CodeContextClient) -> None:
    """A context that outlives its ttl is deleted whatever it does, and its run says so."""
    context = own.create_code_context(ttl=1)
    assert context.create_time is not None
    assert context.expire_time == context.create_time + timedelta(seconds=1)
    with LiveRun(own, context) as run, LiveRun(own, context) as waiting:
        assert {run.outcome, waiting.outcome} == {Outcome.CONTEXT_DELETED, Outcome.NOT_STARTED}
    line = own_server.wait_for_log("context deleted", context_id=context.id)
    assert line["cause"] == "expired"
    assert answer_of(own.get_code_context, context) == "CONTEXT_DELETED"
    assert inhabitants(context) == []


def test_a_failed_context_expires_too(own_server: ServerProcess, own: CodeContextClient) -> None:
    """A context that has lost its interpreter does not stay for ever."""
    context = own.create_code_context(idle_timeout=1)
    own.run_code("import os; os._exit(1)", context=context)
    assert own_server.wait_for_log("context deleted", context_id=context.id)["cause"] == "expired"


# Restarts


def test_a_restart_is_a_fresh_interpreter(client: CodeContextClient) -> None:
    """A restart loses state and count, and keeps id, options and workspace."""
    context = client.create_code_context(env_vars={"A": "1"}, labels={"l": "x"})
    client.run_code(
        "x = 1; import os; os.environ['A'] = '2'; open('file', 'w').write('kept')", context=context
    )
    restarted = client.restart_code_context(context)
    assert (restarted.id, restarted.sandbox_id, restarted.labels, restarted.create_time) == (
        context.id,
        context.sandbox_id,
        context.labels,
        context.create_time,
    )
    assert (restarted.state, restarted.execution_count) == (ContextState.IDLE, 0)
    lost = client.run_code("x", context=context)
    assert lost.error is not None
    assert (lost.error.name, lost.execution_count) == ("NameError", 1)
    seen = client.run_code("import os; os.environ['A'] + open('file').read()", context=context)
    assert seen.text == "'1kept'"
    client.delete_code_context(context)


def test_a_cell_takes_little_memory(server: ServerProcess, client: CodeContextClient) -> None:
    """The keeper of a cell shares most of its memory with the launcher."""
    if client.get_server_info().isolation.tier != "cell":
        pytest.skip("there are no cells")
    contexts = [client.create_code_context() for _ in range(3)]
    own = [keeper_of(server, context).memory_full_info().uss for context in contexts]
    # Which one was forked before the launcher had loaded everything is not known.
    assert min(own) < 1.6 * 2**20
    for context in contexts:
        client.delete_code_context(context)


def test_a_restart_ends_what_runs(server: ServerProcess, client: CodeContextClient) -> None:
    """What runs ends as CONTEXT_RESTARTED, what waits as NOT_STARTED, and processes end."""
    context = client.create_code_context()
    with LiveRun(client, context) as running:
        running.begun()
        ended = processes_of(server, context)[1:]  # not their keeper, who waits for the next
        with LiveRun(client, context) as waiting, Watch(ended) as watch:
            queued(client, context, 1)
            client.restart_code_context(context)
            assert watch.living() == []
            assert waiting.outcome is Outcome.NOT_STARTED
        assert running.outcome is Outcome.CONTEXT_RESTARTED
        assert running.end().message == "the context was restarted"
        assert not running.end().state_kept
    assert client.run_code("1 + 1", context=context).text == "2"
    client.delete_code_context(context)


def test_restarts_at_once_leave_one_interpreter(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """Restarts that come together all succeed, and the context works."""
    with ThreadPoolExecutor(3) as pool:
        restarts = [pool.submit(client.restart_code_context, context) for _ in range(6)]
        assert {restart.result().id for restart in restarts} == {context.id}
    assert client.run_code("1 + 1", context=context).text == "2"
    assert len(processes_of(server, context)) == 2


def test_a_failed_context_is_restarted(client: CodeContextClient, context: CodeContext) -> None:
    """A restart is the way out of FAILED."""
    client.run_code("import os; os._exit(1)", context=context)
    assert answer_of(client.run_code, "1", context=context) == "CONTEXT_FAILED"
    assert client.restart_code_context(context).failure == ""
    assert client.run_code("1 + 1", context=context).text == "2"


# Interrupts


def test_an_interrupt_keeps_the_state(client: CodeContextClient, context: CodeContext) -> None:
    """What runs is stopped and named, what waits goes on, and variables are kept."""
    client.run_code("x = 42", context=context)
    with LiveRun(client, context) as run:
        run.begun()
        with LiveRun(client, context, "print('begun', x)") as waiting:
            queued(client, context, 1)
            stopped = client.interrupt_code_context(context)
            assert stopped.execution_id == run.execution_id
            assert stopped.outcome is Outcome.INTERRUPTED
            assert stopped.state_kept
            assert run.outcome is Outcome.INTERRUPTED
            assert waiting.outcome is Outcome.SUCCEEDED
            assert waiting.stdout == "begun 42\n"


def test_an_interrupt_of_nothing_is_ok(client: CodeContextClient, context: CodeContext) -> None:
    """An idle context, or an execution that has ended, leaves nothing to stop."""
    assert client.interrupt_code_context(context).execution_id is None
    ended = client.run_code("1", context=context)
    stopped = client.interrupt_code_context(context, execution_id=ended.execution_id)
    assert stopped.execution_id is None
    assert stopped.outcome is Outcome.UNSPECIFIED
    assert client.run_code("1 + 1", context=context).text == "2"


def test_an_interrupt_of_what_is_elsewhere_is_refused(
    client: CodeContextClient, context: CodeContext
) -> None:
    """An unknown execution, or another context's, is NOT_FOUND, and what runs goes on."""
    other = client.create_code_context()
    with LiveRun(client, other) as run, LiveRun(client, context) as untouched:
        run.begun()
        untouched.begun()
        for id_ in (run.execution_id, "e0-1-" + "a" * 26, "nonsense"):
            with pytest.raises(ExecutionNotFoundError):
                client.interrupt_code_context(context, execution_id=id_)
        for each in (context, other):
            assert state_of(client, each) is ContextState.EXECUTING
        stopped = client.interrupt_code_context(context, execution_id=untouched.execution_id)
        assert stopped.execution_id == untouched.execution_id
        client.interrupt_code_context(other)
    client.delete_code_context(other)


def test_interrupts_do_not_hit_the_next_run(
    client: CodeContextClient, context: CodeContext
) -> None:
    """An interrupt that comes at the end of a run stops that one or none, never the next."""
    with ThreadPoolExecutor(2) as pool:
        for number in range(RACES):
            run = pool.submit(client.run_code, f"x = {number}", context=context)
            interrupt = pool.submit(client.interrupt_code_context, context)
            stopped, ended = interrupt.result(), run.result()
            following = client.run_code("'safe'", context=context)
            assert following.outcome is Outcome.SUCCEEDED, (number, following)
            assert following.text == "'safe'"
            assert ended.outcome in {Outcome.SUCCEEDED, Outcome.INTERRUPTED}, (number, ended)
            if ended.outcome is Outcome.INTERRUPTED:
                assert stopped.execution_id == ended.execution_id
                assert stopped.outcome is Outcome.INTERRUPTED


# What contexts share, and what not


def test_creates_at_once_do_not_mix(client: CodeContextClient) -> None:
    """Contexts that are created together each get their own environment, labels and directory."""

    def create(number: int) -> CodeContext:
        return client.create_code_context(
            env_vars={"NUMBER": str(number), f"ONLY_{number}": "x"}, labels={"n": str(number)}
        )

    with ThreadPoolExecutor(8) as pool:
        contexts = list(pool.map(create, range(16)))
    assert len({context.id for context in contexts}) == 16
    for number, context in enumerate(contexts):
        seen = client.run_code(
            "import os; (os.environ['NUMBER'], [n for n in os.environ if 'ONLY_' in n], os.getcwd())",
            context=context,
        )
        assert seen.text is not None
        assert ast.literal_eval(seen.text) == (str(number), [f"ONLY_{number}"], context.cwd)
        assert context.labels == {"n": str(number)}
        client.delete_code_context(context)


def test_a_shared_sandbox_goes_with_its_last_context(client: CodeContextClient) -> None:
    """Contexts in one sandbox share files but no state, and the files stay until the last one goes."""
    first = client.create_code_context()
    second = client.create_code_context(sandbox_id=first.sandbox_id)
    assert second.sandbox_id == first.sandbox_id
    client.run_code("x = 1; open('file', 'w').write('shared')", context=first)
    assert client.run_code("open('file').read()", context=second).text == "'shared'"
    lost = client.run_code("x", context=second)
    assert lost.error is not None
    assert lost.error.name == "NameError"
    client.delete_code_context(first)
    assert client.run_code("open('file').read()", context=second).text == "'shared'"
    third = client.create_code_context(sandbox_id=first.sandbox_id)
    client.delete_code_context(second)
    assert client.run_code("open('file').read()", context=third).text == "'shared'"
    client.delete_code_context(third)
    assert not has_folder(first)
    with pytest.raises(SandboxNotFoundError):
        client.create_code_context(sandbox_id=first.sandbox_id)


def test_a_create_that_fails_leaves_nothing(client: CodeContextClient) -> None:
    """A directory that is not there is refused, and neither context nor sandbox stays."""
    before = ids(client.list_code_contexts())
    with pytest.raises(InvalidArgumentError) as raised:
        client.create_code_context(cwd="/nowhere/at/all")
    assert [violation.field for violation in raised.value.field_violations] == ["cwd"]
    until(lambda: ids(client.list_code_contexts()) == before)


def test_a_create_whose_caller_leaves_is_undone(own_server: ServerProcess) -> None:
    """A caller without a request id that goes away before the answer leaves no context behind."""
    zygote = own_server.zygote
    with CodeContextClient(own_server.target) as client, connected(own_server.target) as stub:
        for each in [client.create_code_context() for _ in range(2)]:
            client.delete_code_context(each)
        zygote.suspend()
        try:
            pending = 0
            while pending < 2:  # the first may be served from the pool
                try:
                    stub.CreateCodeContext(pb.CreateCodeContextRequest(), timeout=0.5)
                except grpc.RpcError:
                    pending += 1
        finally:
            zygote.resume()
        for each in client.list_code_contexts(state=ContextState.IDLE):
            client.delete_code_context(each)
        until(lambda: not ids(client.list_code_contexts()))
        assert client.run_code("1 + 1").text == "2"


# Executions


def test_executions_outlive_their_context_for_a_time(tmp_path: Path) -> None:
    """What a deleted context ran can be read until it expires, and then is NOT_FOUND."""
    flags = ("--finished-execution-s", "1", "--pool-size", "1")
    with (
        ServerProcess(tmp_path / "state", *flags) as server,
        CodeContextClient(server.target) as client,
    ):
        context = client.create_code_context()
        run = client.run_code("print('kept'); 6 * 7", context=context)
        ended = time.monotonic()
        client.delete_code_context(context)
        read = answer_of(client.get_execution, run.execution_id)
        if time.monotonic() < ended + 1:
            assert read == "OK"
        until(lambda: answer_of(client.get_execution, run.execution_id) == "EXECUTION_NOT_FOUND")
        assert time.monotonic() >= ended + 0.9
        assert answer_of(lambda: list(client.watch_execution(run.execution_id))) == (
            "EXECUTION_NOT_FOUND"
        )


def test_a_deleted_contexts_execution_is_whole(client: CodeContextClient) -> None:
    """Get and watch of an execution give the same after the delete as before."""
    context = client.create_code_context()
    run = client.run_code("print('kept'); 6 * 7", context=context)
    before = list(client.watch_execution(run.execution_id))
    client.delete_code_context(context)
    kept = client.get_execution(run.execution_id)
    assert (kept.stdout, kept.text, kept.outcome) == ("kept\n", "42", Outcome.SUCCEEDED)
    assert list(client.watch_execution(run.execution_id)) == before
    assert list(client.watch_execution(run.execution_id, after_sequence=1)) == before[1:]


def test_a_sandbox_is_named_by_a_context_in_it(client: CodeContextClient) -> None:
    """Where a sandbox is wanted, a context in it will do."""
    first = client.create_code_context()
    second = client.create_code_context(sandbox_id=first)
    assert second.sandbox_id == first.sandbox_id
    assert {each.id for each in client.list_code_contexts(sandbox_id=second)} == {
        first.id,
        second.id,
    }
    for each in (first, second):
        client.delete_code_context(each)

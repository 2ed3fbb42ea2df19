"""Deletes: every row of the contract's table, with and without pid namespaces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from support.leftovers import LEFTOVERS, start
from support.processes import (
    Watch,
    has_folder,
    inhabitants,
    interpreter_of,
    keeper_of,
    processes_of,
    stopped,
    workspace_of,
)
from support.runs import LiveRun, answer_of, queued, state_of, until
from support.servers import MODES, ServerProcess

from codecontext import (
    CodeContext,
    CodeContextClient,
    ContextDeletedError,
    ContextExecutingError,
    ContextLostError,
    ContextNotFoundError,
    ContextState,
    ContextUnreachableError,
    InvalidContextIdError,
    Outcome,
)


@pytest.fixture(scope="module", params=MODES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server of each mode that this module's tests share."""
    with ServerProcess(tmp_path_factory.mktemp("state"), *request.param) as process:
        yield process
        with Watch(process.descendants()) as watch:
            assert process.stop() == 0
            assert watch.living() == []


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of the module's server."""
    with CodeContextClient(server.target) as each:
        yield each


def listed(client: CodeContextClient, context: CodeContext) -> bool:
    """Whether a context is in the list."""
    return any(each.id == context.id for each in client.list_code_contexts())


def assert_gone(context: CodeContext, before: Watch) -> None:
    """Nothing of a context is there at this moment."""
    assert before.living() == []
    assert inhabitants(context) == []
    assert not has_folder(context)


# The rows of the table


def test_an_idle_context_is_gone_with_the_answer(
    server: ServerProcess, client: CodeContextClient
) -> None:
    """OK means that the processes, the workspace and the list's entry are gone."""
    context = client.create_code_context()
    client.run_code("open('file', 'w').write('x')", context=context)
    assert (workspace_of(context) / "file").exists()
    with Watch(processes_of(server, context)) as watch:
        client.delete_code_context(context)
        assert_gone(context, watch)
    assert not listed(client, context)


def test_a_failed_context_is_deleted(server: ServerProcess, client: CodeContextClient) -> None:
    """A context whose interpreter died is deleted like any other."""
    context = client.create_code_context()
    with Watch(processes_of(server, context)) as watch:
        ended = client.run_code("import os; os._exit(3)", context=context)
        assert ended.outcome is Outcome.CRASHED
        assert state_of(client, context) is ContextState.FAILED
        client.delete_code_context(context)
        assert_gone(context, watch)


def test_an_empty_id_is_an_invalid_argument(client: CodeContextClient) -> None:
    """An empty id is refused with INVALID_CONTEXT_ID and the field."""
    with pytest.raises(InvalidContextIdError) as raised:
        client.delete_code_context("")
    assert raised.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in raised.value.field_violations] == ["context_id"]


STRANGE_IDS = {
    "no id": "invalid-id",
    "a blank": " ",
    "cut": "c0-0-",
    "a path": "../../etc/passwd",
    "of a life to come": "c0-" + "z" * 13 + "-" + "a" * 26,
    "of another host": "c7-1-" + "a" * 26,
    "upper case": "C0-1-" + "A" * 26,
    "of an execution": "e0-1-" + "a" * 26,
    "of a sandbox": "s0-1-" + "a" * 26,
    "long": "x" * 100_000,
    "no ASCII": "\N{SNOWMAN}\n\0",
}


@pytest.mark.parametrize("force", [False, True], ids=["gentle", "force"])
@pytest.mark.parametrize("context_id", STRANGE_IDS.values(), ids=STRANGE_IDS)
def test_an_id_that_never_was_is_not_found(
    client: CodeContextClient, context_id: str, force: bool
) -> None:
    """Whatever is no id of this server's is NOT_FOUND with CONTEXT_NOT_FOUND, however malformed."""
    with pytest.raises(ContextNotFoundError) as raised:
        client.delete_code_context(context_id, force=force)
    assert raised.value.code is grpc.StatusCode.NOT_FOUND
    assert raised.value.reason == "CONTEXT_NOT_FOUND"


def test_ids_of_other_things_are_not_found(client: CodeContextClient, context: CodeContext) -> None:
    """The ids of a sandbox and of an execution are no ids of contexts."""
    execution = client.run_code("1", context=context)
    for id_ in (context.sandbox_id, execution.execution_id, context.id + "a", context.id.upper()):
        assert answer_of(client.delete_code_context, id_) == "CONTEXT_NOT_FOUND"
    assert state_of(client, context) is ContextState.IDLE


def test_a_deleted_context_stays_deleted(client: CodeContextClient) -> None:
    """After a delete each call is NOT_FOUND with CONTEXT_DELETED, the time and the cause."""
    context = client.create_code_context()
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    client.delete_code_context(context)
    after = datetime.now(UTC)
    calls: list[Callable[[], object]] = [
        lambda: client.delete_code_context(context),
        lambda: client.delete_code_context(context, force=True),
        lambda: client.get_code_context(context),
        lambda: client.run_code("1", context=context),
        lambda: client.interrupt_code_context(context),
        lambda: client.restart_code_context(context),
    ]
    for call in calls:
        with pytest.raises(ContextDeletedError) as raised:
            call()
        assert raised.value.code is grpc.StatusCode.NOT_FOUND
        assert raised.value.metadata["cause"] == "deleted"
        assert raised.value.context_id == context.id
        assert before <= datetime.fromisoformat(raised.value.metadata["delete_time"]) <= after


def test_an_id_of_an_earlier_life_is_lost(client: CodeContextClient) -> None:
    """An id that an earlier life of this host made is NOT_FOUND with CONTEXT_LOST."""
    for id_ in ("c0-1-" + "a" * 26, "c0-0-" + "7" * 26):
        with pytest.raises(ContextLostError) as raised:
            client.delete_code_context(id_)
        assert raised.value.code is grpc.StatusCode.NOT_FOUND
        assert raised.value.context_id == id_


def test_a_delete_is_refused_while_code_runs(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Without force a delete is refused with the id of what runs, which goes on untouched."""
    code = "print('begun', flush=True)\nprint('got', input())"
    with LiveRun(client, context, code, allow_input=True) as run:
        sequence = run.begun().asked()
        for _ in range(3):
            with pytest.raises(ContextExecutingError) as raised:
                client.delete_code_context(context)
            assert raised.value.code is grpc.StatusCode.FAILED_PRECONDITION
            assert raised.value.execution_id == run.execution_id
            assert raised.value.context_id == context.id
        assert state_of(client, context) is ContextState.EXECUTING
        client.send_input(run.execution_id, "it", sequence=sequence)
        assert run.outcome is Outcome.SUCCEEDED
        assert "got it" in run.stdout
    client.delete_code_context(context)


def test_force_ends_what_runs_and_what_waits(
    server: ServerProcess, client: CodeContextClient
) -> None:
    """A forced delete is OK: the running execution is CONTEXT_DELETED, queued ones NOT_STARTED."""
    context = client.create_code_context()
    with LiveRun(client, context) as running:
        running.begun()
        with LiveRun(client, context) as second, LiveRun(client, context) as third:
            queued(client, context, 2)
            assert answer_of(client.delete_code_context, context) == "CONTEXT_EXECUTING"
            with Watch(processes_of(server, context)) as watch:
                client.delete_code_context(context, force=True)
                assert_gone(context, watch)
            assert running.outcome is Outcome.CONTEXT_DELETED
            assert not running.end().state_kept
            assert second.outcome is third.outcome is Outcome.NOT_STARTED
    gathered = client.get_execution(running.execution_id)
    assert gathered.outcome is Outcome.CONTEXT_DELETED
    assert gathered.stdout.strip() == "begun"


def test_force_ends_code_that_ignores_everything(
    server: ServerProcess, client: CodeContextClient
) -> None:
    """A forced delete does not ask the code: ignored signals delay nothing."""
    context = client.create_code_context()
    code = (
        "import signal, time\n"
        "for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "print('begun', flush=True)\n"
        "while True: time.sleep(1000)"
    )
    with LiveRun(client, context, code) as run:
        run.begun()
        with Watch(processes_of(server, context)) as watch:
            client.delete_code_context(context, force=True)
            assert_gone(context, watch)
        assert run.outcome is Outcome.CONTEXT_DELETED


# Races


def test_of_racing_deletes_one_is_ok(client: CodeContextClient) -> None:
    """Of several deletes at once exactly one is OK, and the others are NOT_FOUND once it is done."""
    with ThreadPoolExecutor(4) as pool:
        for force in (False, True) * 5:
            context = client.create_code_context()
            calls = [
                pool.submit(answer_of, client.delete_code_context, context, force=force)
                for _ in range(4)
            ]
            assert sorted(call.result() for call in calls) == ["CONTEXT_DELETED"] * 3 + ["OK"]


def test_a_delete_that_races_a_run_is_decided(client: CodeContextClient) -> None:
    """Either the run started, and the delete is refused, or the context was gone: never both."""
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            context = client.create_code_context()
            run = pool.submit(answer_of, client.run_code, "1", context=context)
            delete = pool.submit(answer_of, client.delete_code_context, context)
            answers = run.result(), delete.result()
            assert answers in {
                ("OK", "CONTEXT_EXECUTING"),
                ("OK", "OK"),  # the delete came after the run's end
                ("CONTEXT_NOT_FOUND", "OK"),
                ("CONTEXT_DELETED", "OK"),
            }
            if answers[1] != "OK":
                client.delete_code_context(context)


def test_a_forced_delete_that_races_a_run_is_decided(client: CodeContextClient) -> None:
    """A run that was accepted before a forced delete ends with an outcome, another is NOT_FOUND."""
    with ThreadPoolExecutor(1) as pool:
        for _ in range(20):
            context = client.create_code_context()
            run = pool.submit(client.run_code, "1", context=context)
            client.delete_code_context(context, force=True)
            try:
                outcome = run.result().outcome
            except ContextNotFoundError:
                continue
            assert outcome in {Outcome.SUCCEEDED, Outcome.CONTEXT_DELETED, Outcome.NOT_STARTED}


def test_a_delete_waits_for_a_restart(client: CodeContextClient) -> None:
    """A delete during a restart waits for it, then deletes: the restart is OK or NOT_FOUND."""
    with ThreadPoolExecutor(1) as pool:
        for _ in range(10):
            context = client.create_code_context()
            restart = pool.submit(answer_of, client.restart_code_context, context)
            client.delete_code_context(context)
            assert restart.result() in {"OK", "CONTEXT_NOT_FOUND", "CONTEXT_DELETED"}
            assert inhabitants(context) == []
            assert answer_of(client.get_code_context, context) == "CONTEXT_DELETED"


def test_other_contexts_notice_nothing(server: ServerProcess, client: CodeContextClient) -> None:
    """Neither state, nor process, nor a run of another context changes with a forced delete."""
    other, busy, context = (client.create_code_context() for _ in range(3))
    client.run_code("x = 42", context=other)
    pids = [interpreter_of(server, each).pid for each in (other, busy)]
    before = client.get_code_context(other)
    with LiveRun(client, context) as run, LiveRun(client, busy) as untouched:
        run.begun()
        untouched.begun()
        client.delete_code_context(context, force=True)
        assert state_of(client, busy) is ContextState.EXECUTING
        assert client.interrupt_code_context(busy).execution_id == untouched.execution_id
        assert untouched.outcome is Outcome.INTERRUPTED
    after = client.get_code_context(other)
    assert replace(after, resource_usage=None) == replace(before, resource_usage=None)
    assert [interpreter_of(server, each).pid for each in (other, busy)] == pids
    assert client.run_code("x", context=other).text == "42"
    for each in (other, busy):
        client.delete_code_context(each)


# What does not answer


def test_a_stopped_zygote_makes_a_delete_unavailable(
    server: ServerProcess, client: CodeContextClient
) -> None:
    """UNAVAILABLE comes within 5 s; the delete goes on, and the first retry after its end is OK."""
    context = client.create_code_context()
    with stopped(server.zygote):
        began = time.monotonic()
        with pytest.raises(ContextUnreachableError) as raised:
            client.delete_code_context(context, deadline=60)
        assert time.monotonic() - began < 20  # 5 s, on a machine that others load too
        assert raised.value.code is grpc.StatusCode.UNAVAILABLE
        assert raised.value.retry_delay is not None
        assert raised.value.retry_delay > timedelta()
        assert raised.value.context_id == context.id
        deleting = client.list_code_contexts(state=ContextState.DELETING)
        assert [each.id for each in deleting] == [context.id]
        assert answer_of(client.run_code, "1", context=context) == "CONTEXT_NOT_FOUND"
    until(lambda: not listed(client, context))
    assert inhabitants(context) == []
    client.delete_code_context(context)
    assert answer_of(client.delete_code_context, context) == "CONTEXT_DELETED"


def test_the_callers_own_deadline_is_kept(server: ServerProcess, client: CodeContextClient) -> None:
    """A caller with a shorter deadline gets UNAVAILABLE before it passes, not DEADLINE_EXCEEDED."""
    context = client.create_code_context()
    with LiveRun(client, context) as run:
        run.begun()
        with stopped(server.zygote):
            with pytest.raises(ContextUnreachableError):
                client.delete_code_context(context, force=True, deadline=2)
            # Its run has ended, whether the rest is known to be gone or not.
            assert run.outcome is Outcome.CONTEXT_DELETED
            with pytest.raises(ContextUnreachableError):  # and a retry is told the same
                client.delete_code_context(context, deadline=2)
        client.delete_code_context(context)
        assert answer_of(client.delete_code_context, context) == "CONTEXT_DELETED"


def test_a_retry_that_waits_gets_the_ok(server: ServerProcess, client: CodeContextClient) -> None:
    """Of retries that come while nothing answers, one gets the OK when it goes on."""
    context = client.create_code_context()
    with ThreadPoolExecutor(3) as pool:
        with stopped(server.zygote):
            with pytest.raises(ContextUnreachableError):
                client.delete_code_context(context, deadline=1)
            retries = [
                pool.submit(answer_of, client.delete_code_context, context) for _ in range(3)
            ]
        answers = sorted(retry.result() for retry in retries)
    assert answers == ["CONTEXT_DELETED", "CONTEXT_DELETED", "OK"]
    assert inhabitants(context) == []


def test_a_caller_that_went_away_is_owed_the_ok(
    server: ServerProcess, client: CodeContextClient
) -> None:
    """A delete goes on without its caller, whose retry gets the OK."""
    context = client.create_code_context()
    with (
        ThreadPoolExecutor(1) as pool,
        CodeContextClient(server.target) as leaving,
        stopped(server.zygote),
    ):
        call = pool.submit(answer_of, leaving.delete_code_context, context)
        until(lambda: state_of(client, context) is ContextState.DELETING)
        leaving.close()
        assert call.result() != "OK"
        # By the end of this one the server has long heard that the first has gone.
        assert answer_of(client.delete_code_context, context, deadline=1) == "CONTEXT_UNREACHABLE"
    until(lambda: not listed(client, context))
    client.delete_code_context(context)
    assert answer_of(client.delete_code_context, context) == "CONTEXT_DELETED"


def test_a_start_that_does_not_end_makes_a_delete_unavailable(
    server: ServerProcess, client: CodeContextClient
) -> None:
    """A delete of a context that can't be started is UNAVAILABLE, goes on, and owes its OK."""
    context = client.create_code_context()
    with ThreadPoolExecutor(1) as pool, stopped(server.zygote):
        restart = pool.submit(answer_of, client.restart_code_context, context)
        until(lambda: state_of(client, context) is ContextState.STARTING)
        with pytest.raises(ContextUnreachableError):
            client.delete_code_context(context, deadline=1)
        assert state_of(client, context) is ContextState.DELETING
        assert answer_of(client.run_code, "1", context=context) == "CONTEXT_NOT_FOUND"
    restart.result()
    until(lambda: not listed(client, context))
    assert inhabitants(context) == []
    client.delete_code_context(context)
    assert answer_of(client.delete_code_context, context) == "CONTEXT_DELETED"


def test_the_delete_deadline_is_an_option(tmp_path: Path) -> None:
    """`--delete-deadline-s` bounds the wait of a delete whose caller would wait longer."""
    with (
        ServerProcess(tmp_path / "state", "--delete-deadline-s", "0.5") as server,
        CodeContextClient(server.target) as client,
    ):
        context = client.create_code_context()
        with stopped(server.zygote):
            began = time.monotonic()
            with pytest.raises(ContextUnreachableError):
                client.delete_code_context(context, deadline=60)
            assert time.monotonic() - began < 4  # and not the 5 s of the default
        client.delete_code_context(context)


def test_a_context_that_starts_is_deleted_once_it_has(tmp_path: Path) -> None:
    """A delete of a context that still starts waits for the start, and leaves nothing."""
    with (
        ServerProcess(tmp_path / "state", "--pool-size", "0") as server,
        CodeContextClient(server.target) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        with stopped(server.zygote):
            create = pool.submit(client.create_code_context)
            until(lambda: any(client.list_code_contexts(state=ContextState.STARTING)))
            (context,) = client.list_code_contexts()
            delete = pool.submit(client.delete_code_context, context)
        delete.result()
        assert inhabitants(context) == []
        assert create.result().id == context.id
        assert answer_of(client.delete_code_context, context) == "CONTEXT_DELETED"


@pytest.mark.parametrize("leftover", LEFTOVERS)
def test_nothing_that_the_code_started_is_left(
    server: ServerProcess, client: CodeContextClient, leftover: str
) -> None:
    """OK means that daemons, children, stopped ones and those that fork on are gone too."""
    context = client.create_code_context()
    start(client, context, leftover)
    with Watch(processes_of(server, context)) as watch:
        client.delete_code_context(context)
        assert_gone(context, watch)


@pytest.mark.parametrize("leftover", LEFTOVERS)
def test_nothing_is_left_of_a_crash(
    server: ServerProcess, client: CodeContextClient, leftover: str
) -> None:
    """What a dead interpreter has left behind is gone at the latest with the context's delete."""
    context = client.create_code_context()
    start(client, context, leftover)
    with Watch(processes_of(server, context)) as watch:
        crash = client.run_code("os.kill(os.getpid(), 9)", context=context)
        assert crash.outcome is Outcome.CRASHED
        assert "SIGKILL" in crash.outcome_message
        client.delete_code_context(context)
        assert_gone(context, watch)


def test_a_workspace_of_any_kind_is_removed(client: CodeContextClient) -> None:
    """Directories without permissions, links, sockets, pipes and odd names go with the context."""
    context = client.create_code_context()
    made = client.run_code(
        "import os, socket\n"
        "os.makedirs('deep/' * 40); open('deep/file', 'w').close()\n"
        "os.mkdir('closed'); open('closed/file', 'w').close(); os.chmod('closed', 0)\n"
        "os.symlink('/etc', 'link'); os.symlink('nowhere', 'broken'); os.mkfifo('fifo')\n"
        "end = socket.socket(socket.AF_UNIX); end.bind('socket')\n"
        "open(b'\\xff\\n', 'w').close(); os.chmod('.', 0o500)\n",
        context=context,
    )
    assert made.outcome is Outcome.SUCCEEDED, made.error
    client.delete_code_context(context)
    assert not has_folder(context)
    assert Path("/etc/passwd").exists()


def test_a_killed_keeper_leaves_nothing(server: ServerProcess, client: CodeContextClient) -> None:
    """A keeper that is killed takes its context to FAILED, and nothing of it is left after delete."""
    context, other = client.create_code_context(), client.create_code_context()
    start(client, context, "deaf daemon")
    client.run_code("x = 1", context=other)
    with Watch(processes_of(server, context)) as watch:
        if "--no-pid-namespaces" in server.flags:
            code = "import time; os.kill(os.getppid(), 9); time.sleep(1000)"
            run = client.run_code(code, context=context)
        else:  # the code can't reach it
            with LiveRun(client, context) as live:
                live.begun()
                keeper_of(server, context).kill()
                live.end()
                run = client.get_execution(live.execution_id)
        assert run.outcome is Outcome.CRASHED
        assert not run.state_kept
        failed = client.get_code_context(context)
        assert failed.state is ContextState.FAILED
        assert failed.failure
        client.delete_code_context(context)
        assert_gone(context, watch)
    assert client.run_code("x", context=other).text == "1"
    client.delete_code_context(other)

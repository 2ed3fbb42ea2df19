"""Delete: what each situation answers, and that nothing is left behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from support.servers import ServerProcess

from codecontext import (
    CodeContext,
    CodeContextClient,
    ContextDeletedError,
    ContextExecutingError,
    ContextLostError,
    ContextNotFoundError,
    ContextState,
    ContextUnreachableError,
    Execution,
    InvalidArgumentError,
    Outcome,
)

DAEMON = """
import os
for name in ("one", "two"):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "987654321"])
        os._exit(0)
    os.wait()
import subprocess, signal
subprocess.Popen(["sh", "-c", "trap '' TERM HUP INT; while :; do sleep 987654321; done"])
for _ in range(20):
    subprocess.Popen(["sleep", "987654321"])
"""


@pytest.fixture(params=[[], ["--no-pid-namespaces"]], ids=["namespaces", "keepers"])
def own_server(request: pytest.FixtureRequest, state: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, with and without pid namespaces."""
    with ServerProcess(
        state, "--pool-size", "1", "--delete-deadline-s", "1", *request.param
    ) as each:
        yield each


@pytest.fixture
def own_client(own_server: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of the test's own server."""
    with CodeContextClient(own_server.target) as each:
        yield each


def start(
    client: CodeContextClient, context: CodeContext, code: str
) -> tuple[Callable[[], Execution], threading.Event]:
    """Runs code in a thread; returns what waits for its end, and an event that its first output sets."""
    began = threading.Event()
    ended: list[Execution] = []

    def run() -> None:
        ended.append(
            client.run_code(
                f"print('began')\n{code}", context=context, on_stdout=lambda text: began.set()
            )
        )

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> Execution:
        thread.join(60)
        return ended[0]

    assert began.wait(60)
    return wait, began


def test_idle_is_deleted_once(client: CodeContextClient) -> None:
    """An idle context's delete is OK, and the next one is told when it was deleted."""
    context = client.create_code_context()
    client.delete_code_context(context)
    with pytest.raises(ContextDeletedError) as refused:
        client.delete_code_context(context)
    assert refused.value.metadata["delete_time"].endswith("Z")
    with pytest.raises(ContextDeletedError):
        client.run_code("1", context=context)


@pytest.mark.parametrize("bad", ["invalid-id", "c0-zz-", "ü" * 50, "s0-1-" + "a" * 26, "x" * 5000])
def test_unknown_ids_are_not_found(client: CodeContextClient, bad: str) -> None:
    """An id that never existed is NOT_FOUND, however malformed it is."""
    with pytest.raises(ContextNotFoundError) as refused:
        client.delete_code_context(bad)
    assert refused.value.reason == "CONTEXT_NOT_FOUND"


def test_an_empty_id_is_invalid(client: CodeContextClient) -> None:
    """An empty id is INVALID_ARGUMENT with a reason of its own."""
    with pytest.raises(InvalidArgumentError) as refused:
        client.delete_code_context("")
    assert refused.value.reason == "INVALID_CONTEXT_ID"


def test_an_earlier_life_is_lost(client: CodeContextClient) -> None:
    """An id of an earlier life of the server is CONTEXT_LOST."""
    with pytest.raises(ContextLostError):
        client.delete_code_context("c0-1-" + "a" * 26)


def test_refused_while_executing(client: CodeContextClient, context: CodeContext) -> None:
    """A delete without force is refused while code runs, names the execution, and changes nothing."""
    wait, _ = start(client, context, "import time\nwhile True: time.sleep(0.01)")
    with pytest.raises(ContextExecutingError) as refused:
        client.delete_code_context(context)
    assert refused.value.metadata["execution_id"].startswith("e0-")
    assert client.get_code_context(context).state is ContextState.EXECUTING
    client.interrupt_code_context(context)
    assert wait().outcome is Outcome.INTERRUPTED
    assert client.run_code("1", context=context).outcome is Outcome.SUCCEEDED


def test_force_ends_what_runs_and_what_waits(client: CodeContextClient) -> None:
    """A forced delete ends the run as CONTEXT_DELETED, and a queued one as NOT_STARTED."""
    context = client.create_code_context()
    wait, _ = start(client, context, "while True: pass")
    with ThreadPoolExecutor() as pool:
        queued = pool.submit(client.run_code, "1", context=context)
        while client.get_code_context(context).queued_executions == 0:
            pass
        client.delete_code_context(context, force=True)
        assert queued.result(60).outcome is Outcome.NOT_STARTED
    ended = wait()
    assert (ended.outcome, ended.state_kept) == (Outcome.CONTEXT_DELETED, False)
    assert ended.stdout.strip() == "began"


def test_of_two_deletes_one_wins(client: CodeContextClient) -> None:
    """Of racing deletes exactly one is OK; the others are NOT_FOUND."""

    def delete(context: CodeContext) -> str:
        try:
            client.delete_code_context(context)
        except ContextNotFoundError as error:
            return error.reason
        return "OK"

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            context = client.create_code_context()
            answers = sorted(pool.map(delete, [context] * 4))
            assert answers == ["CONTEXT_DELETED"] * 3 + ["OK"]


def test_a_delete_and_a_run_are_decided(client: CodeContextClient) -> None:
    """Of a racing delete and run, either the run was first and the delete is refused, or it is gone."""

    def run(context: CodeContext) -> str:
        try:
            return client.run_code("1", context=context).outcome.name
        except ContextNotFoundError:
            return "NOT_FOUND"

    def delete(context: CodeContext) -> str:
        try:
            client.delete_code_context(context)
        except ContextExecutingError:
            return "EXECUTING"
        return "OK"

    with ThreadPoolExecutor(2) as pool:
        for _ in range(30):
            context = client.create_code_context()
            running, deleting = pool.submit(run, context), pool.submit(delete, context)
            answers = (running.result(60), deleting.result(60))
            # A run may also have ended before the delete came.
            assert answers in {("SUCCEEDED", "EXECUTING"), ("NOT_FOUND", "OK"), ("SUCCEEDED", "OK")}
            if answers[1] == "EXECUTING":
                client.delete_code_context(context)


def test_nothing_is_left(own_server: ServerProcess, own_client: CodeContextClient) -> None:
    """OK means that daemons, stubborn children and the workspace are gone; others notice nothing."""
    other = own_client.create_code_context()
    own_client.run_code("x = 1", context=other)
    context = own_client.create_code_context()
    assert own_client.run_code(DAEMON, context=context).outcome is Outcome.SUCCEEDED

    def sleepers() -> list[psutil.Process]:
        return [p for p in own_server.descendants() if "987654321" in " ".join(p.cmdline())]

    before = sleepers()
    assert len(before) >= 22
    workspace = Path(context.cwd)
    assert workspace.is_dir()
    own_client.delete_code_context(context)
    assert not [p for p in before if p.is_running()]
    assert not workspace.exists()
    assert own_client.run_code("x", context=other).results[0].text == "1"


def test_a_stopped_zygote_is_told(own_server: ServerProcess, own_client: CodeContextClient) -> None:
    """While the reaper stands still a delete is UNAVAILABLE; once it goes on, a retry gets the OK."""
    context = own_client.create_code_context()
    zygote = own_server.zygote
    zygote.send_signal(signal.SIGSTOP)
    try:
        for _ in range(2):
            with pytest.raises(ContextUnreachableError) as refused:
                own_client.delete_code_context(context)
            assert refused.value.retry_delay
        assert own_client.get_code_context(context).state is ContextState.DELETING
        with pytest.raises(ContextNotFoundError):
            own_client.run_code("1", context=context)
    finally:
        zygote.send_signal(signal.SIGCONT)
    own_client.delete_code_context(context)
    with pytest.raises(ContextDeletedError):
        own_client.delete_code_context(context)


def test_contexts_outlive_their_zygote(
    own_server: ServerProcess, own_client: CodeContextClient
) -> None:
    """When the zygote is killed, contexts keep their state, can be deleted, and new ones can be made."""
    context = own_client.create_code_context()
    own_client.run_code("x = 1", context=context)
    own_server.zygote.send_signal(signal.SIGKILL)
    assert own_client.run_code("x", context=context).results[0].text == "1"
    fresh = [own_client.create_code_context() for _ in range(3)]
    assert own_client.run_code("1", context=fresh[-1]).outcome is Outcome.SUCCEEDED
    own_client.delete_code_context(context)
    with pytest.raises(ContextDeletedError):
        own_client.get_code_context(context)


def test_nothing_outlives_the_server(
    own_server: ServerProcess, own_client: CodeContextClient
) -> None:
    """When the server is killed, every process below it ends."""
    context = own_client.create_code_context()
    own_client.run_code(DAEMON, context=context)
    descendants = own_server.descendants()
    assert len(descendants) > 20
    own_server.send_signal(signal.SIGKILL)
    own_server.wait()
    _, alive = psutil.wait_procs(descendants, timeout=30)
    assert not alive

"""Sandboxes of their own: made, found, destroyed, and what their contexts share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from support.processes import Watch, processes_of, stopped
from support.runs import LiveRun, answer_of, queued, state_of
from support.sandboxes import holder_of, marked, read, write
from support.servers import MODES, ServerProcess

from codecontext import (
    AsyncCodeContextClient,
    CodeContext,
    CodeContextClient,
    ContextLostError,
    ContextState,
    ContextUnreachableError,
    InvalidArgumentError,
    Outcome,
    QuotaExceededError,
    RequestIdReusedError,
    ResourceLimits,
    SandboxDestroyedError,
    SandboxExecutingError,
    SandboxNotFoundError,
)
from codecontext.resources import Sandbox

MIB = 1 << 20


@pytest.fixture(scope="module", params=MODES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server of each mode that this module's tests share; at its end nothing may be left."""
    # The machine may be slow: only what is stopped is meant to be UNAVAILABLE here.
    flags = ("--delete-deadline-s", "60", "--pool-size", "2", *request.param)
    with ServerProcess(tmp_path_factory.mktemp("state"), *flags) as process:
        yield process
        with Watch(process.descendants()) as watch:
            assert process.stop() == 0
            assert watch.living() == []


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of the module's server."""
    with CodeContextClient(server.target) as each:
        yield each


@pytest.fixture
def sandbox(client: CodeContextClient) -> Iterator[Sandbox]:
    """A fresh sandbox without contexts."""
    each = client.sandboxes.create()
    yield each
    if any(left.id == each.id for left in client.sandboxes.list()):
        client.sandboxes.destroy(each, force=True)


def has_cells(client: CodeContextClient) -> bool:
    """Whether the server locks contexts into cells with files of their own."""
    return client.get_server_info().isolation.tier == "cell"


def listed(client: CodeContextClient, **filters: dict[str, str]) -> list[str]:
    """The ids of the sandboxes that are listed."""
    return [each.id for each in client.sandboxes.list(**filters)]


# Making and finding


def test_a_sandbox_outlives_its_contexts(client: CodeContextClient, sandbox: Sandbox) -> None:
    """A sandbox stays without contexts, and its files with it, until it is destroyed."""
    for number in range(3):
        context = client.create_code_context(sandbox_id=sandbox)
        assert context.sandbox_id == sandbox.id
        assert context.cwd == sandbox.workspace
        assert read(client, context, "kept") == ("'x'" * bool(number) or None)
        write(client, context, "kept", "x")
        client.delete_code_context(context)
    assert listed(client).count(sandbox.id) == 1
    client.sandboxes.destroy(sandbox)
    assert sandbox.id not in listed(client)
    with pytest.raises(SandboxDestroyedError):
        client.create_code_context(sandbox_id=sandbox)


def test_a_sandbox_tells_what_it_is(client: CodeContextClient) -> None:
    """Labels, times, limits, contexts and isolation are shown as they are, by create, get and list."""
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    created = client.sandboxes.create(
        labels={"of": "me"}, ttl=1000, resource_limits=ResourceLimits(memory_bytes=200 * MIB)
    )
    contexts = [client.create_code_context(sandbox_id=created) for _ in range(2)]
    found = client.sandboxes.get(created)
    (shown,) = client.sandboxes.list(labels={"of": "me"})
    for each in (created, found, shown):
        assert each.id == created.id
        assert each.labels == {"of": "me"}
        assert each.create_time is not None
        assert before <= each.create_time <= datetime.now(UTC)
        assert each.expire_time == each.create_time + timedelta(seconds=1000)
        assert not each.private
        assert each.resource_limits.memory_bytes == 200 * MIB
        assert each.isolation == client.get_server_info().isolation
        assert each.network_policy == ("NONE" if has_cells(client) else "HOST")
        assert contexts[0].network_policy == each.network_policy
    assert (created.context_ids, created.resource_usage) == ((), None)
    assert found.context_ids == shown.context_ids == tuple(each.id for each in contexts)
    assert [each.resource_limits.memory_bytes for each in contexts] == [200 * MIB] * 2
    client.sandboxes.destroy(created)
    assert {answer_of(client.get_code_context, each) for each in contexts} == {"CONTEXT_DELETED"}


def test_a_private_sandbox_is_one_too(server: ServerProcess, client: CodeContextClient) -> None:
    """A context's own sandbox is got and listed as private, and is destroyed with the context."""
    context = client.create_code_context()
    found = client.sandboxes.get(context.sandbox_id)
    assert (found.private, found.context_ids) == (True, (context.id,))
    assert context.sandbox_id in listed(client)
    with Watch(processes_of(server, context)) as watch:
        client.sandboxes.destroy(found)
        assert watch.living() == []
    assert answer_of(client.get_code_context, context) == "CONTEXT_DELETED"
    other = client.create_code_context()
    client.delete_code_context(other)
    with pytest.raises(SandboxDestroyedError) as raised:
        client.sandboxes.get(other.sandbox_id)
    assert raised.value.metadata["cause"] == "removed with its last context"


def test_usage_is_measured(client: CodeContextClient, sandbox: Sandbox) -> None:
    """A sandbox's figures are those of its contexts together, and of what its workspace holds."""
    empty = client.sandboxes.get(sandbox).resource_usage
    one, two = (client.create_code_context(sandbox_id=sandbox) for _ in range(2))
    client.run_code("import subprocess; child = subprocess.Popen(['sleep', '1000'])", context=one)
    client.run_code(f"open('large', 'wb').write(bytes({3 * MIB})) and None", context=two)
    usage = client.sandboxes.get(sandbox).resource_usage
    assert usage is not None
    assert empty is not None
    assert (empty.processes, usage.processes) == (None, 3)
    assert (usage.memory_bytes or 0) > 2 * 20 * MIB
    if has_cells(client):
        assert (empty.workspace_bytes, empty.workspace_inodes) == (0, 1)
        assert 3 * MIB <= (usage.workspace_bytes or 0) < 4 * MIB
        assert usage.workspace_inodes == 2
    else:
        assert (usage.workspace_bytes, usage.workspace_inodes) == (None, None)


def test_lists_have_pages_and_filters(client: CodeContextClient) -> None:
    """Paging gives each sandbox once, in the order of creation, while others come and go."""
    made = [client.sandboxes.create(labels={"pages": "", "n": str(n % 2)}) for n in range(5)]
    ids, pages = [each.id for each in made], []
    for each in client.sandboxes.list(labels={"pages": ""}, page_size=2):
        pages.append(each.id)
        if len(pages) == 2:
            client.sandboxes.destroy(made[0])
            made.append(client.sandboxes.create(labels={"pages": ""}))
    assert pages == [*ids, made[-1].id]
    assert listed(client, labels={"pages": "", "n": "1"}) == [ids[1], ids[3]]
    assert listed(client, labels={"pages": "no"}) == []
    with pytest.raises(InvalidArgumentError):
        list(client.sandboxes.list(page_size=-1))
    for each in made[1:]:
        client.sandboxes.destroy(each)


def test_a_request_id_makes_one_sandbox(client: CodeContextClient) -> None:
    """The same id gets the first call's sandbox, at once or later, and is refused for another one."""
    id_ = f"sandbox-{time.monotonic_ns()}"
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(client.sandboxes.create, request_id=id_) for _ in range(4)]
        (sandbox_id,) = {call.result().id for call in calls}
    assert client.sandboxes.create(request_id=id_).id == sandbox_id
    with pytest.raises(RequestIdReusedError):
        client.sandboxes.create(request_id=id_, labels={"other": ""})
    assert listed(client).count(sandbox_id) == 1
    client.sandboxes.destroy(sandbox_id)


async def test_the_asynchronous_client_has_the_same(server: ServerProcess) -> None:
    """Create, get, list and destroy work from asyncio as they do without."""
    async with AsyncCodeContextClient(server.target) as client:
        sandbox = await client.sandboxes.create(labels={"async": ""})
        context = await client.create_code_context(sandbox_id=sandbox)
        assert (await client.sandboxes.get(sandbox)).context_ids == (context.id,)
        assert [s.id async for s in client.sandboxes.list(labels={"async": ""})] == [sandbox.id]
        await client.sandboxes.destroy(sandbox)
        with pytest.raises(SandboxDestroyedError):
            await client.sandboxes.get(sandbox)


# Limits


def test_limits_of_a_sandbox_are_its_contexts(client: CodeContextClient) -> None:
    """A context inherits the sandbox's limits; other values than what holds for all are refused."""
    limits = ResourceLimits(processes=50, workspace_bytes=4 * MIB, workspace_inodes=100)
    if not has_cells(client):
        assert answer_of(client.sandboxes.create, resource_limits=limits) == "NOT_IMPLEMENTED"
        return
    sandbox = client.sandboxes.create(resource_limits=limits)
    context = client.create_code_context(sandbox_id=sandbox)
    assert context.resource_limits == sandbox.resource_limits
    same = client.create_code_context(
        sandbox_id=sandbox, resource_limits=ResourceLimits(processes=50, memory_bytes=300 * MIB)
    )
    assert same.resource_limits.memory_bytes == 300 * MIB
    for other in ({"processes": 49}, {"workspace_bytes": 5 * MIB}, {"workspace_inodes": 101}):
        with pytest.raises(InvalidArgumentError) as raised:
            client.create_code_context(sandbox_id=sandbox, resource_limits=ResourceLimits(**other))
        (violation,) = raised.value.field_violations
        assert violation.field == f"resource_limits.{next(iter(other))}"
    too_much = f"open('f', 'wb', 0).write(b'x' * {5 * MIB}); open('g', 'wb', 0).write(b'x')"
    error = client.run_code(too_much, context=context).error
    assert error is not None
    assert "No space left" in error.value
    client.sandboxes.destroy(sandbox)


def test_processes_are_counted_together(client: CodeContextClient) -> None:
    """What one context of a sandbox takes of its processes, another can't have."""
    if "process_limit" not in client.get_server_info().isolation.guarantees:
        pytest.skip("this server does not promise it")
    sandbox = client.sandboxes.create(resource_limits=ResourceLimits(processes=25))
    one, two = (client.create_code_context(sandbox_id=sandbox) for _ in range(2))
    fork = "import os, time\nfor _ in range(15):\n    if os.fork() == 0: time.sleep(1000)"
    assert client.run_code(fork, context=one).outcome is Outcome.SUCCEEDED
    error = client.run_code(fork, context=two).error
    assert error is not None
    assert error.name == "BlockingIOError"
    client.delete_code_context(one)
    client.restart_code_context(two)
    assert client.run_code(fork, context=two).outcome is Outcome.SUCCEEDED
    client.sandboxes.destroy(sandbox)


def test_there_are_not_too_many(tmp_path: Path) -> None:
    """Past `max_sandboxes` a create is refused with the limit's name, until one is destroyed."""
    with (
        ServerProcess(tmp_path / "state", "--max-sandboxes", "2", "--pool-size", "1") as process,
        CodeContextClient(process.target) as client,
    ):
        client.create_code_context()
        with ThreadPoolExecutor(5) as pool:
            answers = [pool.submit(answer_of, client.sandboxes.create) for _ in range(5)]
            assert sorted(each.result() for each in answers) == ["OK"] * 2 + ["QUOTA_EXCEEDED"] * 3
        with pytest.raises(QuotaExceededError) as raised:
            client.sandboxes.create()
        assert raised.value.metadata["quota"] == "max_sandboxes"
        assert raised.value.metadata["limit"] == "2"
        client.sandboxes.destroy(next(each for each in client.sandboxes.list() if not each.private))
        client.sandboxes.create()


# What contexts share


def test_contexts_share_files_and_loopback(client: CodeContextClient, sandbox: Sandbox) -> None:
    """Two contexts of a sandbox have the same workspace, /tmp and ports, another sandbox's has others."""
    one, two = (client.create_code_context(sandbox_id=sandbox) for _ in range(2))
    other = client.create_code_context()
    serve = (
        "import os, socket, threading\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "def answer():\n    while True: listener.accept()[0].sendall(b'here')\n"
        "threading.Thread(target=answer, daemon=True).start()\n"
        f"path = '/tmp/{sandbox.id}'\n"
        "open(path, 'w').write('t'); open('shared', 'w').write('w')\n"
        "listener.getsockname()[1]"
    )
    port = client.run_code(serve, context=one).text
    look = (
        f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 30).recv(4).decode()"
        f" + open('/tmp/{sandbox.id}').read() + open('shared').read()"
    )
    assert client.run_code(look, context=two).text == "'heretw'"
    client.run_code("listener.close(); os.remove(path)", context=one)
    assert read(client, other, "shared") is None
    if has_cells(client):
        client.run_code(serve, context=one)
        assert read(client, other, f"/tmp/{sandbox.id}") is None
        error = client.run_code(look, context=other).error
        assert error is not None
        assert error.name == "ConnectionRefusedError"


def test_contexts_share_no_processes(client: CodeContextClient, sandbox: Sandbox) -> None:
    """A context of a sandbox sees no process of another one in it, and can't signal any."""
    if "no_foreign_processes" not in client.get_server_info().isolation.guarantees:
        pytest.skip("this server does not promise it")
    one, two = (client.create_code_context(sandbox_id=sandbox) for _ in range(2))
    client.run_code("import subprocess; child = subprocess.Popen(['sleep', '12321'])", context=one)
    names = (
        "import os, pathlib\n"
        "lines = [(p / 'cmdline').read_bytes() for p in pathlib.Path('/proc').glob('[0-9]*')]\n"
        "any(b'12321' in line for line in lines)"
    )
    assert client.run_code(names, context=one).text == "True"
    assert client.run_code(names, context=two).text == "False"
    # All that it can see gets a signal, but for itself.
    shoot = (
        "import signal\nfor n in range(2, 40_000):\n    if n != os.getpid():\n"
        "        try: os.kill(n, signal.SIGKILL)\n        except OSError: pass"
    )
    assert client.run_code(shoot, context=two).outcome is Outcome.SUCCEEDED
    assert client.run_code(names, context=one).text == "True"


def test_a_delete_ends_one_context_alone(
    server: ServerProcess, client: CodeContextClient, sandbox: Sandbox
) -> None:
    """A delete ends all that the context started, daemons too; its neighbour and the files stay."""
    one, two = (client.create_code_context(sandbox_id=sandbox) for _ in range(2))
    daemon = "!setsid sleep 1000 > /dev/null 2>&1 &"
    for each in (one, two):
        client.run_code(daemon, context=each)
    write(client, one, "kept", "x")
    client.run_code("y = 5", context=two)
    with (
        LiveRun(client, two) as run,
        Watch(processes_of(server, one)) as gone,
        Watch(processes_of(server, two)) as stays,
    ):
        run.begun()
        count = len(stays.living())
        client.delete_code_context(one)
        assert gone.living() == []
        assert len(stays.living()) == count >= 3
        assert state_of(client, two) is ContextState.EXECUTING
        client.interrupt_code_context(two)
    assert client.run_code("y", context=two).text == "5"
    assert read(client, two, "kept") == "'x'"


def test_a_restart_and_a_crash_keep_the_files(client: CodeContextClient, sandbox: Sandbox) -> None:
    """Files stay when a context is restarted or crashes, and a neighbour notices neither."""
    one, two = (client.create_code_context(sandbox_id=sandbox) for _ in range(2))
    write(client, one, "kept", "x")
    client.run_code("y = 5", context=two)
    client.restart_code_context(one)
    assert read(client, one, "kept") == "'x'"
    assert client.run_code("import os; os.abort()", context=one).outcome is Outcome.CRASHED
    assert client.run_code("y", context=two).text == "5"
    client.restart_code_context(one)
    assert read(client, one, "kept") == "'x'"


def test_many_contexts_leave_nothing(
    server: ServerProcess, client: CodeContextClient, sandbox: Sandbox
) -> None:
    """After 50 creates and deletes at random in one sandbox all processes of its contexts are gone."""
    seed = client.create_code_context(sandbox_id=sandbox)
    write(client, seed, "mark", sandbox.id)

    def live(number: int) -> None:
        context = client.create_code_context(sandbox_id=sandbox)
        client.run_code("!setsid sleep 1000 > /dev/null 2>&1 &", context=context)
        with Watch(processes_of(server, context)) as watch:
            if number % 3 == 0:
                client.run_code("import os; os._exit(1)", context=context)
            client.delete_code_context(context, force=number % 2 == 0)
            assert watch.living() == []

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(live, range(50)))
    assert client.sandboxes.get(sandbox).context_ids == (seed.id,)
    assert read(client, seed, "mark") == repr(sandbox.id)
    with Watch(marked(server, "mark")) as watch:
        client.sandboxes.destroy(sandbox)
        assert watch.living() == []
    assert marked(server, "mark") == []
    assert not Path(sandbox.workspace).exists() or has_cells(client)


# Destroying


def test_ids_that_never_were_are_not_found(client: CodeContextClient) -> None:
    """An empty id is INVALID_ARGUMENT, and whatever is no id of a sandbox here NOT_FOUND."""
    context = client.create_code_context()
    calls: list[Callable[[str], object]] = [
        client.sandboxes.get,
        client.sandboxes.destroy,
        lambda id_: client.sandboxes.destroy(id_, force=True),
        lambda id_: client.create_code_context(sandbox_id=id_ or "none"),
    ]
    for call in calls:
        for id_ in ("invalid-id", "s0-0-", context.id, "s7-1-" + "a" * 26, "x" * 10_000):
            with pytest.raises(SandboxNotFoundError) as raised:
                call(id_)
            assert raised.value.code is grpc.StatusCode.NOT_FOUND
            assert raised.value.reason == "SANDBOX_NOT_FOUND"
        with pytest.raises(ContextLostError):
            call("s0-1-" + "a" * 26)
    for call in calls[:3]:
        with pytest.raises(InvalidArgumentError) as invalid:
            call("")
        assert [each.field for each in invalid.value.field_violations] == ["sandbox_id"]
    client.delete_code_context(context)


def test_a_destroyed_sandbox_stays_destroyed(client: CodeContextClient) -> None:
    """After a destroy each call is NOT_FOUND with SANDBOX_DESTROYED, the time and the cause."""
    sandbox = client.sandboxes.create()
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    client.sandboxes.destroy(sandbox)
    after = datetime.now(UTC)
    for call in (client.sandboxes.get, client.sandboxes.destroy):
        with pytest.raises(SandboxDestroyedError) as raised:
            call(sandbox)  # type: ignore[operator]  # both take one
        assert raised.value.metadata["cause"] == "destroyed"
        assert before <= datetime.fromisoformat(raised.value.metadata["delete_time"]) <= after


def test_a_destroy_is_refused_while_code_runs(
    server: ServerProcess, client: CodeContextClient, sandbox: Sandbox
) -> None:
    """Without force nothing is touched while a context executes; with it all runs end, and all is gone."""
    idle, busy = (client.create_code_context(sandbox_id=sandbox) for _ in range(2))
    with LiveRun(client, busy) as run:
        run.begun()
        with LiveRun(client, busy) as second:
            queued(client, busy, 1)
            with pytest.raises(SandboxExecutingError) as raised:
                client.sandboxes.destroy(sandbox)
            assert raised.value.code is grpc.StatusCode.FAILED_PRECONDITION
            assert raised.value.execution_id == run.execution_id
            assert raised.value.metadata["sandbox_id"] == sandbox.id
            assert client.run_code("6 * 7", context=idle).text == "42"
            with Watch([*processes_of(server, idle), *processes_of(server, busy)]) as watch:
                client.sandboxes.destroy(sandbox, force=True)
                assert watch.living() == []
            assert second.outcome is Outcome.NOT_STARTED
        assert run.outcome is Outcome.CONTEXT_DELETED
    assert {answer_of(client.get_code_context, each) for each in (idle, busy)} == {
        "CONTEXT_DELETED"
    }


def test_it_expires(server: ServerProcess, client: CodeContextClient) -> None:
    """Past its ttl a sandbox goes with all its contexts, whatever runs in them."""
    sandbox = client.sandboxes.create(ttl=6)
    context = client.create_code_context(sandbox_id=sandbox)
    with Watch(processes_of(server, context)) as watch:
        with LiveRun(client, context) as run:
            assert run.outcome is Outcome.CONTEXT_DELETED
        # The run's end is told before the last of the rest is gone; a destroy waits for that.
        assert answer_of(client.sandboxes.destroy, sandbox) == "SANDBOX_DESTROYED"
        assert watch.living() == []
    with pytest.raises(SandboxDestroyedError) as raised:
        client.sandboxes.get(sandbox)
    assert raised.value.metadata["cause"] == "expired"


def unreachable(client: CodeContextClient, sandbox: Sandbox, context: CodeContext) -> None:
    """Tries to destroy a sandbox that can't be ended now, and to use it then."""
    with pytest.raises(ContextUnreachableError) as raised:
        client.sandboxes.destroy(sandbox, deadline=2)
    assert raised.value.retry_delay is not None
    assert raised.value.metadata["sandbox_id"] == sandbox.id
    assert sandbox.id in listed(client)
    assert answer_of(client.create_code_context, sandbox_id=sandbox) == "SANDBOX_NOT_FOUND"
    assert answer_of(client.run_code, "1", context=context) == "CONTEXT_NOT_FOUND"


def test_a_destroy_that_can_not_end_goes_on(
    server: ServerProcess, client: CodeContextClient
) -> None:
    """UNAVAILABLE comes in time, nothing new can begin, and the first retry after the end is OK."""
    sandbox = client.sandboxes.create()
    context = client.create_code_context(sandbox_id=sandbox)
    with Watch(processes_of(server, context)) as watch:
        with stopped(server.zygote):
            unreachable(client, sandbox, context)
        answers = []
        while not answers or answers[-1] == "CONTEXT_UNREACHABLE":
            answers.append(answer_of(client.sandboxes.destroy, sandbox))
        assert answers[-1] == "OK"
        assert watch.living() == []
    assert answer_of(client.sandboxes.destroy, sandbox) == "SANDBOX_DESTROYED"


def test_the_end_of_the_server_is_the_end_of_its_sandboxes(
    tmp_path: Path, server: ServerProcess, client: CodeContextClient
) -> None:
    """A drain removes sandboxes that have no contexts, and is a success."""
    with ServerProcess(tmp_path / "state", *server.flags) as process:
        with CodeContextClient(process.target) as own:
            sandbox = own.sandboxes.create()
            own.create_code_context(sandbox_id=own.sandboxes.create())
            assert Path(sandbox.workspace).exists() or has_cells(client)
        with Watch(process.descendants()) as watch:
            assert process.stop() == 0
            assert watch.living() == []
    assert list((tmp_path / "state").iterdir()) == []


# Races


def test_of_racing_destroys_one_is_ok(client: CodeContextClient) -> None:
    """Of several destroys at once exactly one is OK, and the others are NOT_FOUND once it is done."""
    with ThreadPoolExecutor(4) as pool:
        for force in (False, True) * 3:
            sandbox = client.sandboxes.create()
            client.create_code_context(sandbox_id=sandbox)
            calls = [
                pool.submit(answer_of, client.sandboxes.destroy, sandbox, force=force)
                for _ in range(4)
            ]
            answers = sorted(call.result() for call in calls)
            assert answers == ["OK"] + ["SANDBOX_DESTROYED"] * 3


@pytest.mark.parametrize("force", [False, True], ids=["gentle", "force"])
def test_a_destroy_that_races_other_calls_is_decided(
    server: ServerProcess, client: CodeContextClient, force: bool
) -> None:
    """Creates, runs and deletes at the time of a destroy happen before it or not at all."""
    with ThreadPoolExecutor(4) as pool:
        for number in range(12):
            sandbox = client.sandboxes.create()
            one, two = (client.create_code_context(sandbox_id=sandbox) for _ in range(2))
            with Watch([*processes_of(server, one), *processes_of(server, two)]) as watch:
                create = pool.submit(answer_of, client.create_code_context, sandbox_id=sandbox)
                run = pool.submit(answer_of, client.run_code, "1", context=one)
                delete = pool.submit(
                    answer_of, client.delete_code_context, two, force=number % 2 == 0
                )
                destroyed = answer_of(client.sandboxes.destroy, sandbox, force=force)
                assert destroyed in ({"OK"} if force else {"OK", "SANDBOX_EXECUTING"})
                assert create.result() in {"OK", "SANDBOX_NOT_FOUND", "SANDBOX_DESTROYED"}
                assert run.result() in {"OK", "CONTEXT_NOT_FOUND", "CONTEXT_DELETED"}
                assert delete.result() in {"OK", "CONTEXT_DELETED"}
                if destroyed != "OK":
                    client.sandboxes.destroy(sandbox, force=True)
                assert watch.living() == []
            assert list(client.list_code_contexts(sandbox_id=sandbox)) == []
            assert sandbox.id not in listed(client)


# What is killed from outside


def test_a_lost_holder_is_replaced(
    server: ServerProcess, client: CodeContextClient, sandbox: Sandbox
) -> None:
    """If the process that keeps a sandbox is killed, contexts keep the files until another one does."""
    if not has_cells(client):
        pytest.skip("a folder keeps the files")
    context = client.create_code_context(sandbox_id=sandbox)
    write(client, context, "holder-mark", sandbox.id)
    first = holder_of(server, context, "holder-mark")
    with Watch([first]) as watch:
        first.kill()
        assert watch.living(30) == []
    second = holder_of(server, context, "holder-mark")
    assert second.pid != first.pid
    client.delete_code_context(context)
    context = client.create_code_context(sandbox_id=sandbox)
    assert read(client, context, "holder-mark") == repr(sandbox.id)
    client.delete_code_context(context)
    second.kill()  # nobody has the files any more
    server.wait_for_log("sandbox destroyed", sandbox_id=sandbox.id, cause="lost")
    with pytest.raises(SandboxDestroyedError) as raised:
        client.create_code_context(sandbox_id=sandbox)
    assert raised.value.metadata["cause"] == "lost"

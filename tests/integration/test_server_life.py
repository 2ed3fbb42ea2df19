"""The server's own life: how it starts, drains and ends, and what survives of the processes below it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.processes import (
    Watch,
    has_folder,
    inhabitants,
    interpreter_of,
    keeper_of,
    pools_are_full,
    processes_of,
    workspace_of,
)
from support.runs import PATIENCE_S, LiveRun, answer_of, queued, state_of, until
from support.servers import MODES, ServerProcess, serve_command
from support.users import NOBODY, as_nobody

from codecontext import (
    CodeContext,
    CodeContextClient,
    ContextState,
    Outcome,
    RuntimeUnavailableError,
    ServerDrainingError,
)

ASK = "print('begun', flush=True)\nprint('got', input())"
DAEMONS = """
import os, signal
ready, told = os.pipe()
for number in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for each in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(each, signal.SIG_IGN)
            os.write(told, b'x')
            while number or os.fork() == 0:  # two that wait, and one that forks on
                if number:
                    signal.pause()
        os._exit(0)
for _ in range(3):
    os.read(ready, 1)
x = 42
"""


@contextlib.contextmanager
def serving(
    folder: Path, *flags: str, prefix: Sequence[str] = ()
) -> Iterator[tuple[ServerProcess, CodeContextClient]]:
    """A server of the test's own, and a client of it."""
    with (
        ServerProcess(folder, *flags, prefix=prefix) as server,
        CodeContextClient(server.target) as client,
    ):
        yield server, client


# Draining


@pytest.mark.parametrize("service", ["", "codecontext.v1.CodeContextService"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_lets_what_runs_end(state: Path, number: signal.Signals, service: str) -> None:
    """A drain turns health to NOT_SERVING, refuses new work, lets runs end, and exits with 0."""
    with serving(state) as (server, client), grpc.insecure_channel(server.target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=service)
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        context = client.create_code_context()
        with (
            Watch(server.descendants()) as before,
            LiveRun(client, context, ASK, allow_input=True) as run,
        ):
            sequence = run.asked()
            server.send_signal(number)
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            watch.cancel()
            for call in (
                lambda: client.run_code("1", context=context),
                client.create_code_context,
                lambda: client.restart_code_context(context),
            ):
                with pytest.raises(ServerDrainingError) as raised:
                    call()
                assert raised.value.code is grpc.StatusCode.UNAVAILABLE
                assert raised.value.retry_delay
            assert state_of(client, context) is ContextState.EXECUTING
            client.send_input(run.execution_id, "it", sequence=sequence)
            assert run.outcome is Outcome.SUCCEEDED
            assert run.stdout == "begun\ngot it\n"
            assert server.wait() == 0
            assert before.living() == []
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("flags", MODES)
def test_a_drain_ends_what_goes_on(state: Path, flags: tuple[str, ...]) -> None:
    """After the grace what runs is SERVER_STOPPED, what waits NOT_STARTED, and the exit status 0."""
    with serving(state, "--drain-grace-s", "0.2", *flags) as (server, client):
        context = client.create_code_context()
        client.run_code(DAEMONS, context=context)
        with LiveRun(client, context) as running, Watch(server.descendants()) as before:
            running.begun()
            with LiveRun(client, context) as waiting:
                queued(client, context, 1)
                server.send_signal(signal.SIGTERM)
                assert running.outcome is Outcome.SERVER_STOPPED
                assert running.end().message == "the server stopped"
                assert not running.end().state_kept
                assert waiting.outcome is Outcome.NOT_STARTED
            assert server.wait() == 0
            assert before.living() == []
        assert inhabitants(context) == []
    assert list(state.iterdir()) == []


def test_a_forced_delete_in_a_drain_is_a_delete(state: Path) -> None:
    """Whom a caller deletes while the server drains ends as CONTEXT_DELETED."""
    with serving(state) as (server, client):
        context, other = client.create_code_context(), client.create_code_context()
        with LiveRun(client, context) as run, LiveRun(client, other) as stopped:
            run.begun()
            stopped.begun()
            server.send_signal(signal.SIGTERM)
            server.wait_for_log("draining")
            client.delete_code_context(context, force=True)
            assert run.outcome is Outcome.CONTEXT_DELETED
            server.send_signal(signal.SIGTERM)
            assert stopped.outcome is Outcome.SERVER_STOPPED


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_forces(state: Path, second: signal.Signals) -> None:
    """A second signal ends the grace, and the exit status tells of it."""
    with serving(state, "--drain-grace-s", "1h") as (server, client):
        context = client.create_code_context()
        with LiveRun(client, context) as run, Watch(server.descendants()) as before:
            run.begun()
            server.send_signal(signal.SIGTERM)
            server.wait_for_log("draining")
            assert state_of(client, context) is ContextState.EXECUTING
            server.send_signal(second)
            assert run.outcome is Outcome.SERVER_STOPPED
            assert server.wait() == 128 + second
            assert before.living() == []
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("flags", MODES)
@pytest.mark.parametrize("module", ["launcher", "zygote"])
def test_a_signal_during_the_start_ends_it(
    state: Path, module: str, flags: tuple[str, ...]
) -> None:
    """A server that is told to end while it starts leaves neither process nor directory."""
    process = subprocess.Popen(serve_command(state, *flags), stderr=subprocess.PIPE, text=True)
    server = psutil.Process(process.pid)

    def started() -> bool:
        with contextlib.suppress(psutil.Error):
            commands = [" ".join(each.cmdline()) for each in server.children(recursive=True)]
            return any(f"workers.{module} " in command for command in commands)
        return False

    until(started)
    with Watch(server.children(recursive=True)) as below:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_S)
        # Where it had already started, it drained.
        assert process.returncode == (0 if '"serving"' in log else 128 + signal.SIGTERM), log
        assert below.living(PATIENCE_S) == []
    assert "Traceback" not in log
    assert list(state.iterdir()) == []


# The end of others


@pytest.mark.parametrize("flags", MODES)
def test_nothing_outlives_a_killed_server(state: Path, flags: tuple[str, ...]) -> None:
    """SIGKILL of the server is the end of every process below it, and the next one tidies up."""
    with serving(state, *flags) as (server, client):
        contexts = [client.create_code_context() for _ in range(2)]
        for context in contexts:
            client.run_code(DAEMONS, context=context)
        with LiveRun(client, contexts[0]) as run:
            run.begun()
            descendants = server.descendants()
            assert len(descendants) > 10
            with Watch(descendants) as watch:
                server.process.kill()
                assert server.wait() == -signal.SIGKILL
                assert watch.living(PATIENCE_S) == []
            until(lambda: not any(inhabitants(context) for context in contexts))
    (stale,) = state.iterdir()
    with serving(state, *flags) as (server, client):
        assert not stale.exists()
        assert len(list(state.iterdir())) == 1
        assert answer_of(client.delete_code_context, contexts[0]) == "CONTEXT_LOST"
        assert server.stop() == 0
    assert list(state.iterdir()) == []


RUNAWAYS = """
import os
for number in range(6):
    if os.fork() == 0:
        while True:
            if os.fork():
                os._exit(0)
            if number % 2:
                os.setsid()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_runs_away_ends_with_a_server_without_namespaces(
    state: Path, number: signal.Signals
) -> None:
    """Processes that fork and end all the time end with the server, stopped or killed, and so do the
    keepers that catch them: none of those is left stopped itself."""
    flags = ("--isolation", "none", "--no-pid-namespaces", "--drain-grace-s", "0")
    with serving(state, *flags) as (server, client):
        contexts = [client.create_code_context() for _ in range(2)]
        for context in contexts:
            client.run_code(RUNAWAYS, context=context)
        keepers = [keeper_of(server, context) for context in contexts]
        with Watch([*server.workers("launcher"), *server.workers("zygote"), *keepers]) as watch:
            server.send_signal(number)
            assert server.wait() == (0 if number == signal.SIGTERM else -number)
            assert watch.living(PATIENCE_S) == []
        assert not any(inhabitants(context) for context in contexts)


def test_a_living_server_keeps_its_directory(state: Path) -> None:
    """A server that starts beside another removes nothing of it."""
    with serving(state) as (_, client):
        context = client.create_code_context()
        client.run_code("open('file', 'w').close()", context=context)
        with serving(state) as (_, other):
            other.create_code_context()
            assert (workspace_of(context) / "file").exists()
        assert (workspace_of(context) / "file").exists()


def create_again(client: CodeContextClient) -> CodeContext:
    """Creates a context, as often as the service says that a retry makes sense."""
    created: list[CodeContext] = []

    def create() -> bool:
        with contextlib.suppress(RuntimeUnavailableError):
            created.append(client.create_code_context())
        return bool(created)

    until(create)
    return created[0]


@pytest.mark.parametrize("flags", MODES)
def test_contexts_outlive_their_zygote(state: Path, flags: tuple[str, ...]) -> None:
    """A killed zygote costs no context: states, runs and deletes go on, and so do creates."""
    with serving(state, *flags) as (server, client):
        idle, busy, doomed = (client.create_code_context() for _ in range(3))
        client.run_code(DAEMONS, context=idle)
        with LiveRun(client, busy, ASK, allow_input=True) as run:
            sequence = run.asked()
            for _ in range(2):
                server.zygote.kill()
                server.wait_for_log("zygote lost")
                server.log.clear()
                assert client.run_code("x", context=idle).text == "42"
                for _ in range(6):  # more than the pool had
                    client.delete_code_context(create_again(client))
            crash = client.run_code("import os; os._exit(7)", context=doomed)
            assert crash.outcome is Outcome.CRASHED
            assert "7" in crash.outcome_message
            client.send_input(run.execution_id, "it", sequence=sequence)
            assert run.outcome is Outcome.SUCCEEDED
        for context in (idle, busy, doomed):
            with Watch(processes_of(server, context) if context is not doomed else []) as watch:
                client.delete_code_context(context)
                assert watch.living() == []
            assert inhabitants(context) == []
        with Watch(server.descendants()) as watch:
            assert server.stop() == 0
            assert watch.living() == []


@pytest.mark.parametrize("flags", MODES)
def test_a_killed_keeper_after_its_zygote_leaves_nothing(
    state: Path, flags: tuple[str, ...]
) -> None:
    """What a keeper leaves behind is ended too when its zygote has died before it."""
    with serving(state, *flags) as (server, client):
        context = client.create_code_context()
        client.run_code(DAEMONS, context=context)
        server.zygote.kill()
        server.wait_for_log("zygote lost")
        with Watch(processes_of(server, context)) as watch, LiveRun(client, context) as run:
            run.begun()
            keeper_of(server, context).kill()
            assert run.outcome is Outcome.CRASHED
            client.delete_code_context(context)
            assert watch.living() == []
        assert inhabitants(context) == []


@pytest.mark.parametrize("flags", MODES)
def test_a_keeper_killed_with_its_zygote_leaves_nothing(
    state: Path, flags: tuple[str, ...]
) -> None:
    """What a keeper leaves behind is ended although nobody could tell how the keeper has ended."""
    with serving(state, *flags) as (server, client):
        context = client.create_code_context()
        client.run_code(DAEMONS, context=context)
        until(
            lambda: pools_are_full(client)
        )  # else the launcher may be forking one that looks like it
        keeper, launcher = keeper_of(server, context), server.workers("launcher")[-1]
        interpreter = interpreter_of(server, context)
        with Watch(processes_of(server, context)) as watch:
            launcher.suspend()
            try:
                server.zygote.kill()
                keeper.kill()
                # Without a pid namespace the interpreter lives on; with one it is reaped before.
                until(lambda: is_zombie(keeper) or is_zombie(interpreter))
            finally:
                launcher.resume()
            until(lambda: state_of(client, context) is ContextState.FAILED)
            client.delete_code_context(context)
            assert watch.living() == []
        assert inhabitants(context) == []


def is_zombie(process: psutil.Process) -> bool:
    """Whether a process has ended, and nobody has waited for it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("flags", MODES)
def test_a_killed_launcher_fails_contexts_truthfully(
    state: Path, flags: tuple[str, ...], which: int
) -> None:
    """Without their root processes can't be held: contexts are FAILED, and new ones are created."""
    with serving(state, *flags) as (server, client):
        idle, busy = client.create_code_context(), client.create_code_context()
        client.run_code(DAEMONS, context=idle)
        with LiveRun(client, busy) as run, Watch(server.descendants()) as watch:
            run.begun()
            until(lambda: pools_are_full(client))  # as above
            server.workers("launcher")[which].kill()
            assert run.outcome is Outcome.CRASHED
            until(lambda: state_of(client, idle) is ContextState.FAILED)
            for context in (idle, busy):
                assert client.get_code_context(context).failure
                client.delete_code_context(context)
                assert inhabitants(context) == []
            fresh = create_again(client)
            assert client.run_code("1 + 1", context=fresh).text == "2"
            until(lambda: not any(is_zombie(each) for each in server.descendants()))
            client.restart_code_context(fresh)
            client.run_code(DAEMONS, context=fresh)
            assert watch.living(PATIENCE_S) == []
            with Watch(processes_of(server, fresh)) as processes:
                client.delete_code_context(fresh)
                assert processes.living() == []
        with Watch(server.descendants()) as watch:
            assert server.stop() == 0
            assert watch.living() == []
    assert list(state.iterdir()) == []


# Listening


def refused(state: Path, *flags: str) -> str:
    """Starts a server that must refuse its options, and returns what it says."""
    process = subprocess.run(
        serve_command(state, *flags),
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
    )
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    return process.stderr


def test_a_port_in_use_is_told(state: Path, tmp_path: Path) -> None:
    """A server whose port is taken says so, and ends with status 2 and nothing left."""
    with serving(state) as (server, _):
        said = refused(tmp_path / "other", "--listen", server.target)
        assert server.target in said
        assert "in use" in said
        assert list((tmp_path / "other").iterdir()) == []


def test_a_language_that_was_only_found_may_fail(state: Path, tmp_path: Path) -> None:
    """A shell on the PATH that can't be run keeps no server from starting: its language says so, no other."""
    shell = tmp_path / "bash"
    shell.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    shell.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with ServerProcess(state, env=env) as server, CodeContextClient(server.target) as client:
        server.wait_for_log(f"runtime can't be used: runtime bash: {shell} fails: broken")
        failures = {each.name: each.failure for each in client.get_server_info().runtimes}
        assert [name for name, failure in failures.items() if failure] == ["bash"]
        assert "broken" in failures["bash"]
        with pytest.raises(RuntimeUnavailableError, match="broken"):
            client.create_code_context("bash")
        context = client.create_code_context()
        assert client.run_code("6 * 7", context=context).text == "42"


def test_a_runtime_that_was_configured_must_start(state: Path, tmp_path: Path) -> None:
    """A server does not start with an interpreter that its configuration names and that can't be run."""
    file = tmp_path / "config.toml"
    file.write_text("[runtimes.bash]\ninterpreter = '/bin/false'\n")
    with pytest.raises(RuntimeError, match="runtime bash: /bin/false fails"):
        ServerProcess(state, "--config", str(file))


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "nonsense"])
def test_an_open_address_is_refused(state: Path, address: str) -> None:
    """Nobody is let in without credentials by mistake."""
    assert address in refused(state, "--listen", address)


def test_an_open_address_is_taken_when_it_is_meant(state: Path) -> None:
    """`--insecure` allows an address that is not loopback."""
    with serving(state, "--listen", "0.0.0.0:0", "--insecure") as (server, _):
        port = server.target.rpartition(":")[2]
        with CodeContextClient(f"127.0.0.1:{port}") as client:
            assert client.get_server_info().contexts == 0


def test_unix_sockets(state: Path, tmp_path: Path) -> None:
    """A server listens on several addresses, and a unix socket is its owner's alone."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / "socket"
        flags = ("--listen", f"unix:{path}", "--listen", "127.0.0.1:0")
        for _ in range(2):  # the second finds the socket that the first has left
            with ServerProcess(state, *flags) as server:
                assert path.stat().st_mode & 0o777 == 0o600
                for target in (f"unix:{path}", server.log[-1]["addresses"].split(",")[1]):
                    with CodeContextClient(target) as client:
                        assert client.run_code("1 + 1").text == "2"
                server.process.kill()
                server.wait()


# What is not told


def test_the_log_holds_no_secrets(state: Path) -> None:
    """Neither code, nor output, nor values of variables are logged, at any level, in any failure."""
    secret = "Xq7-secret"
    with serving(state, "--log-level", "debug", "--interrupt-grace-s", "0.1") as (server, client):
        context = client.create_code_context(
            env_vars={"TOKEN": f"{secret}-env"}, labels={"label": f"{secret}-label"}
        )
        answer_of(client.create_code_context, cwd=f"/{secret}-cwd")
        answer_of(client.create_code_context, env_vars={f"{secret} name": "x"})
        answer_of(client.create_code_context, env_vars={"NAME": f"{secret}\0"})
        answer_of(client.create_code_context, language=f"{secret}-language")
        for code in (
            f"print('{secret}'); import sys; print('{secret}', file=sys.stderr); '{secret}'",
            f"raise ValueError('{secret}')",
            f"import os; os.system('echo {secret}; echo {secret} >&2'); {secret}",
            f"os.write(700, b'{secret}')",
            f"# {secret}\nos._exit(1)",
        ):
            client.run_code(code, context=context, env_vars={"RUN": f"{secret}-run"})
            if state_of(client, context) is ContextState.FAILED:
                client.restart_code_context(context)
        with LiveRun(client, context, f"x = '{secret}'\nprint('begun', flush=True)\nwhile 1: pass"):
            until(lambda: state_of(client, context) is ContextState.EXECUTING)
        assert server.stop() == 0
        assert server.wait_for_log("context created")
        assert secret not in server.log_text
        assert "a bug in the service" not in server.log_text


# An ordinary user


@pytest.mark.parametrize("flags", MODES)
def test_an_ordinary_user_has_it_all(home: Path, flags: tuple[str, ...]) -> None:
    """Without root contexts are created, run, deleted with their daemons, and end with the server."""
    prefix = as_nobody(home / "interpreter")
    with serving(home / "state", *flags, prefix=prefix) as (server, client):
        context, other = client.create_code_context(), client.create_code_context()
        who = client.run_code("import os; os.getuid()", context=context).text
        assert who == str(os.geteuid() or NOBODY)
        client.run_code(DAEMONS, context=context)
        closed = "os.mkdir('closed'); open('closed/x', 'w').close(); os.chmod('closed', 0)"
        assert client.run_code(closed, context=context).outcome is Outcome.SUCCEEDED
        assert client.run_code("x", context=context).text == "42"
        with LiveRun(client, other) as run:
            run.begun()
            assert client.interrupt_code_context(other).execution_id == run.execution_id
            assert run.outcome is Outcome.INTERRUPTED
        with Watch(processes_of(server, context)) as watch:
            client.delete_code_context(context)
            assert watch.living() == []
        assert inhabitants(context) == []
        assert not has_folder(context)
        client.run_code(DAEMONS, context=other)
        with Watch(server.descendants()) as watch:
            server.process.kill()
            server.wait()
            assert watch.living(PATIENCE_S) == []
        until(lambda: not inhabitants(other))

"""How runs of each language are stopped that don't stop by themselves: one suite, in each one's own words."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.kernels import NEEDS_KERNELS, write_kernelspecs
from support.languages import DIALECTS, Dialect, create
from support.processes import Watch
from support.runs import PATIENCE_S, LiveRun, queued, state_of, until
from support.servers import ServerProcess
from support.stubs import connected

from codecontext import CodeContext, CodeContextClient, ContextFailedError, ContextState
from codecontext.v1 import code_context_service_pb2 as pb


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that soon kills what ignores an interrupt."""
    kernels = write_kernelspecs(tmp_path_factory.mktemp("jupyter"))
    flags = ("--jupyter-paths", str(kernels), "--pool-size", "1", "--interrupt-grace-s", "0.3")
    with ServerProcess(tmp_path_factory.mktemp("impatient"), *flags) as each:
        yield each
        assert each.stop() == 0


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of it."""
    with CodeContextClient(server.target) as each:
        yield each


@pytest.fixture
def context(client: CodeContextClient, dialect: Dialect) -> Iterator[CodeContext]:
    """A fresh context of the language."""
    each = create(client, dialect)
    yield each
    client.delete_code_context(each, force=True)


def test_code_that_ignores_an_interrupt_is_killed(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """Code that ignores an interrupt is killed after the grace time, which outcome and context say; what
    waited never starts, and a restart makes the context good again."""
    with (
        LiveRun(client, context, dialect.stubborn) as run,
        LiveRun(client, context, dialect.say("never")) as waiting,
    ):
        run.begun()
        queued(client, context, 1)
        stopped = client.interrupt_code_context(context)
        assert (stopped.outcome, stopped.state_kept) == ("INTERRUPTED", False)
        assert (run.outcome, run.end().state_kept) == ("INTERRUPTED", False)
        assert "ignored the interrupt for 0.3 s and was killed" in run.end().message
        assert waiting.outcome == "NOT_STARTED"
    assert state_of(client, context) is ContextState.FAILED
    with pytest.raises(ContextFailedError, match="ignored the interrupt"):
        client.run_code(dialect.say("on"), context=context)
    client.restart_code_context(context)
    assert client.run_code(dialect.say("on"), context=context).stdout == "on\n"


@pytest.mark.needs("be interrupted")
def test_a_run_ends_with_its_caller(
    server: ServerProcess, client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """When the caller of a run goes away the run is interrupted, and the context goes on with its state."""
    client.run_code(dialect.keep("kept", "still"), context=context)
    code = f"{dialect.say('begun')}\n{dialect.endless}"
    with connected(server.target) as stub:
        call = stub.RunCodeStream(pb.RunCodeStreamRequest(context_id=context.id, code=code))
        execution_id = next(answer.event.execution_id for answer in call if answer.event.stdout)
        call.cancel()
    until(lambda: state_of(client, context) is ContextState.IDLE)
    assert client.get_execution(execution_id).outcome == "INTERRUPTED"
    assert client.run_code(dialect.tell("kept"), context=context).stdout == "still\n"


@pytest.mark.parametrize(
    "attack", ["breach", pytest.param("unplug", marks=pytest.mark.needs("unplug"))]
)
def test_an_attack_on_every_descriptor_hurts_its_context_alone(
    client: CodeContextClient, context: CodeContext, dialect: Dialect, attack: str
) -> None:
    """Code that breaks its own channel breaks its context at most, which a restart makes good again."""
    other = create(client, dialect)
    code = f"{getattr(dialect, attack)}\n{dialect.say('on')}"
    # A kernel finds its own sockets among the descriptors, and may wait for ever then.
    execution = client.run_code(code, context=context, timeout=2 if dialect.runtime else 20)
    if dialect.runtime:
        assert execution.outcome in {"SUCCEEDED", "CRASHED", "TIMED_OUT"}
    else:
        assert (execution.outcome, execution.state_kept) == ("CRASHED", False)
        assert state_of(client, context) is ContextState.FAILED
    assert client.run_code(dialect.say("on"), context=other).stdout == "on\n"
    client.delete_code_context(other)
    client.restart_code_context(context)
    assert client.run_code(dialect.say("on"), context=context).stdout == "on\n"


@NEEDS_KERNELS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_servers_end_is_that_of_every_language(
    state: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """When the server ends, by itself or not, every interpreter has ended, and all that it has started."""
    flags = ("--jupyter-paths", str(write_kernelspecs(tmp_path)), "--drain-grace-s", "0")
    with (
        ServerProcess(state, *flags, "--pool-size", "1") as server,
        CodeContextClient(server.target) as client,
        ExitStack() as stack,
    ):
        contexts = [(dialect, create(client, dialect)) for dialect in DIALECTS]
        for dialect, context in contexts:
            client.run_code(dialect.daemon, context=context)
        runs = [
            stack.enter_context(
                LiveRun(client, context, f"{dialect.say('begun')}\n{dialect.endless}")
            ).begun()
            for dialect, context in contexts
        ]
        with Watch(server.descendants()) as watch:
            server.send_signal(number)
            if number == signal.SIGTERM:
                assert [run.outcome for run in runs] == ["SERVER_STOPPED"] * len(runs)
            assert server.wait() == (0 if number == signal.SIGTERM else -number)
            assert watch.living(PATIENCE_S) == []

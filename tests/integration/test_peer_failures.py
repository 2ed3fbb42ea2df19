"""What has gone wrong in services of this kind, and does not here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from support.processes import Watch, processes_of, workspace_of
from support.proxy import CuttableProxy
from support.runs import LiveRun, until
from support.servers import ServerProcess
from support.stubs import connected, refusal_of

from codecontext import (
    CodeContext,
    CodeContextClient,
    ContextDeletedError,
    ContextFailedError,
    ContextState,
    Outcome,
    UnavailableError,
)
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

SECRET = "tell-nobody-0451"


@pytest.fixture
def private(state: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, which logs all that it ever logs."""
    with ServerProcess(state, "--pool-size", "1", "--log-level", "debug") as each:
        yield each


@pytest.mark.parametrize(
    "code",
    [
        "import os; _ = os.system('echo hi')",
        "import subprocess; _ = subprocess.run(['echo', 'hi'])",
        "import ctypes; libc = ctypes.CDLL(None); _ = libc.puts(b'hi')",
        "import os; _ = os.write(1, b'hi\\n')",
        "import os\nif os.fork() == 0: os.execlp('echo', 'echo', 'hi')\n_ = os.wait()",
    ],
    ids=["system", "subprocess", "C stdio", "descriptor", "fork and exec"],
)
def test_output_beside_python_is_captured_and_corrupts_nothing(
    client: CodeContextClient, context: CodeContext, code: str
) -> None:
    """What child processes and C code write is output of the run, and the next run is as good as any."""
    execution = client.run_code(code, context=context)
    assert (execution.outcome, execution.stdout) == (Outcome.SUCCEEDED, "hi\n")
    following = client.run_code("1 + 1", context=context)
    assert (following.text, following.stdout, following.gaps) == ("2", "", [])


@pytest.mark.parametrize("end", ["exit", "kill", "delete"])
def test_a_caller_never_waits_for_ever(
    client: CodeContextClient, context: CodeContext, end: str
) -> None:
    """A run whose interpreter exits, is killed or deleted ends at once, with what was written before."""
    last = {"exit": "os._exit(3)", "kill": "os.kill(os.getpid(), 9)", "delete": "open('go')"}[end]
    code = f"import os\nos.mkfifo('go')\nprint('begun', flush=True)\n{last}"
    with LiveRun(client, context, code) as run:
        run.begun()
        if end == "delete":
            client.delete_code_context(context, force=True)
        expected = Outcome.CONTEXT_DELETED if end == "delete" else Outcome.CRASHED
        assert (run.outcome, run.end().state_kept) == (expected, False)


def test_output_is_live(client: CodeContextClient, context: CodeContext) -> None:
    """What code has written arrives while the code goes on."""
    client.run_code("import os; os.mkfifo('go')", context=context)
    code = "import sys\nfor number in range(3):\n    sys.stdout.write(f'{number} ')\n    open('go').read()"
    seen: list[str] = []

    def on_stdout(text: str) -> None:
        seen.append(text)
        (workspace_of(context) / "go").write_text("")  # the code waits for this

    execution = client.run_code(code, context=context, on_stdout=on_stdout)
    assert execution.outcome is Outcome.SUCCEEDED
    assert seen == ["0 ", "1 ", "2 "]


def test_large_output_is_whole(client: CodeContextClient, context: CodeContext) -> None:
    """65 MB of output arrive whole."""
    sizes: list[int] = []
    code = "import sys\nfor _ in range(65): sys.stdout.write('x' * 1_000_000)"
    execution = client.run_code(
        code, context=context, on_stdout=lambda text: sizes.append(len(text))
    )
    assert (sum(sizes), execution.gaps) == (65_000_000, [])


def test_delete_ends_a_busy_loop(server: ServerProcess, client: CodeContextClient) -> None:
    """When a forced delete is OK, the busy loop's process has ended."""
    context = client.create_code_context()
    with LiveRun(client, context, "print('begun', flush=True)\nwhile True: pass") as run:
        run.begun()
        with Watch(processes_of(server, context)) as watch:
            client.delete_code_context(context, force=True)
            assert watch.living() == []
        assert run.outcome is Outcome.CONTEXT_DELETED


def test_what_a_context_was_asked_to_be_it_is(client: CodeContextClient) -> None:
    """Language, working directory and environment are those of the request, and runs are counted."""
    context = client.create_code_context("py", cwd="/usr/lib", env_vars={"ASKED": "yes"})
    assert (context.language, context.cwd) == ("python", "/usr/lib")
    code = "import os; print(os.getcwd(), os.environ['ASKED'])"
    counts = []
    for _ in range(3):
        execution = client.run_code(code, context=context)
        assert execution.stdout == "/usr/lib yes\n"
        counts.append(execution.execution_count)
    assert counts == [1, 2, 3]
    assert client.get_code_context(context).execution_count == 3
    client.delete_code_context(context)


def test_a_syntax_error_is_no_success(client: CodeContextClient, context: CodeContext) -> None:
    """Code that can't be parsed ends as RAISED with a SyntaxError, and runs no line."""
    execution = client.run_code("print('never')\n1 +", context=context)
    assert (execution.outcome, execution.stdout) == (Outcome.RAISED, "")
    assert execution.error is not None
    assert execution.error.name == "SyntaxError"


def test_any_value_is_a_result(client: CodeContextClient, context: CodeContext) -> None:
    """A value that is no JSON, such as a dict with a datetime, is a good result."""
    code = "import datetime; {'when': datetime.datetime(2026, 1, 2), b'raw': {1, 2}, 'self': ...}"
    execution = client.run_code(code, context=context)
    assert execution.outcome is Outcome.SUCCEEDED
    assert execution.text == (
        "{'when': datetime.datetime(2026, 1, 2, 0, 0), b'raw': {1, 2}, 'self': Ellipsis}"
    )


def test_input_takes_nothing_from_the_next_run(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Code that asks for input which nobody may give raises at once, and the next run is run."""
    for ask in ("input()", "import sys; sys.stdin.readline()", "!cat"):
        client.run_code(ask, context=context, timeout=30)
        following = client.run_code("1 + 1", context=context)
        assert (following.outcome, following.text) == (Outcome.SUCCEEDED, "2")


def test_each_run_gets_its_own_answer(client: CodeContextClient, context: CodeContext) -> None:
    """After timeouts and interrupts every run still gets its own output, result and outcome."""
    for number in range(10):
        late = client.run_code(
            f"print('late {number}')\nwhile True: pass", context=context, timeout=0.05
        )
        assert late.outcome is Outcome.TIMED_OUT
        execution = client.run_code(f"print('own {number}'); {number}", context=context)
        assert (execution.outcome, execution.text) == (Outcome.SUCCEEDED, str(number))
        assert execution.stdout == f"own {number}\n"


def test_a_run_is_never_made_twice(server: ServerProcess, context: CodeContext) -> None:
    """A run without a grace whose connection is cut fails with UNAVAILABLE, and is not run again."""
    code = "count = globals().get('count', 0) + 1\nprint('begun', flush=True)\nwhile True: pass"
    with (
        CodeContextClient(server.target) as direct,
        CuttableProxy(server.target) as proxy,
        CodeContextClient(proxy.target, reattach_grace=0) as client,
    ):
        with pytest.raises(UnavailableError):
            client.run_code(code, context=context, on_stdout=lambda text: proxy.cut())
        assert direct.run_code("count", context=context).text == "1"
        with connected(proxy.target) as stub:
            # The unary call too: its caller sees nothing of the run before the cut.
            call = stub.RunCode.future(pb.RunCodeRequest(context_id=context.id, code=code))
            until(lambda: direct.get_code_context(context).executing_execution_id is not None)
            running = direct.get_code_context(context).executing_execution_id or ""
            with direct.watch_execution(running) as events:
                assert any(event.stdout for event in events)
            proxy.cut()
            assert refusal_of(call.result).code is grpc.StatusCode.UNAVAILABLE
        execution = direct.run_code("count", context=context)
        assert (execution.text, execution.execution_count) == ("2", 4)


def test_values_of_the_environment_are_data(client: CodeContextClient) -> None:
    """Values with quotes, newlines and magics arrive as they are, run nothing, and shift no line."""
    value = "'''\"\"\"\n%%bash\nrm -rf x\n!echo no\n{1/0}\\N{SNOWMAN}\\0☃"
    context = client.create_code_context(env_vars={"OF_CONTEXT": value})
    code = "import os\nprint(os.environ['OF_CONTEXT'] + os.environ['OF_RUN'], end='')\n1/0"
    execution = client.run_code(code, context=context, env_vars={"OF_RUN": value})
    assert execution.stdout == value + value
    assert execution.error is not None
    assert (execution.error.name, execution.error.line_number) == ("ZeroDivisionError", 3)
    client.delete_code_context(context)


def test_the_log_tells_nothing_of_what_is_run(private: ServerProcess) -> None:
    """Code, output, values of the environment and errors of the code never reach the server's log."""
    with CodeContextClient(private.target) as client, connected(private.target) as stub:
        context = client.create_code_context(env_vars={"OF_CONTEXT": SECRET})
        show = f"import os, sys; print('{SECRET}', os.environ, file=sys.stderr)\n'{SECRET}'"
        client.run_code(show, context=context, env_vars={"OF_RUN": SECRET})
        client.run_code(f"raise ValueError('{SECRET}')", context=context)
        client.run_code(
            f"os.system('echo {SECRET}; echo {SECRET} >&2'); os._exit(3)", context=context
        )
        client.restart_code_context(context)
        client.run_code(f"'{SECRET}'; import os; os.closerange(3, 4096)", context=context)
        bad = pb.CreateCodeContextRequest(language=SECRET, env_vars={"0" + SECRET: SECRET})
        refusal_of(stub.CreateCodeContext, bad)
        refusal_of(stub.RunCode, pb.RunCodeRequest(context_id=context.id, code=SECRET))
        client.delete_code_context(context)
    private.stop()
    assert context.id in private.log_text
    assert SECRET not in private.log_text


def test_a_dead_context_says_so(client: CodeContextClient, context: CodeContext) -> None:
    """A context whose interpreter died is FAILED and refuses runs until it is restarted."""
    client.run_code("x = 1; import os; os._exit(7)", context=context)
    for _ in range(2):
        with pytest.raises(ContextFailedError) as refused:
            client.run_code("x", context=context)
        assert "7" in refused.value.metadata["failure"]
    dead = client.get_code_context(context)
    assert dead.state is ContextState.FAILED
    assert client.restart_code_context(context).id == context.id
    execution = client.run_code("'x' in dir()", context=context)
    assert (execution.text, execution.execution_count) == ("False", 1)


def test_creates_at_once_mix_up_nothing(client: CodeContextClient) -> None:
    """Contexts that are created at the same time have each its own environment, folder and labels."""
    barrier = threading.Barrier(8)
    folders = ("/", "/usr", "/usr/bin", "/usr/lib", "/usr/share", "/etc", "/dev", "/proc")

    def create(number: int) -> CodeContext:
        barrier.wait(30)
        return client.create_code_context(
            env_vars={"NUMBER": str(number)}, cwd=folders[number], labels={"number": str(number)}
        )

    with ThreadPoolExecutor(8) as pool:
        contexts = list(pool.map(create, range(8)))
    assert len({context.id for context in contexts}) == 8
    for number, context in enumerate(contexts):
        code = "import os; print(os.environ['NUMBER'], os.getcwd())"
        assert client.run_code(code, context=context).stdout == f"{number} {folders[number]}\n"
        assert client.get_code_context(context).labels == {"number": str(number)}
        client.delete_code_context(context)


def test_the_times_of_a_list_are_the_contexts_own(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Reading and listing change no times; a run changes when the context was last used."""

    def listed() -> CodeContext:
        return next(each for each in client.list_code_contexts() if each.id == context.id)

    first, second = listed(), listed()
    assert first.create_time == second.create_time == context.create_time
    assert first.last_used_time == second.last_used_time == context.last_used_time
    client.run_code("1", context=context)
    used = client.get_code_context(context)
    assert used.create_time == context.create_time
    assert used.last_used_time is not None
    assert context.last_used_time is not None
    assert used.last_used_time > context.last_used_time


def test_a_default_context_is_a_clients_own(server: ServerProcess) -> None:
    """Code without a context sees nothing of another client's, and a deleted default is not replaced
    in silence."""
    with CodeContextClient(server.target) as one, CodeContextClient(server.target) as two:
        first = one.run_code("mine = 1")
        second = two.run_code("'mine' in dir()")
        assert first.context_id != second.context_id
        assert second.text == "False"
        one.delete_code_context(first.context_id)
        with pytest.raises(ContextDeletedError):
            one.run_code("mine")


def test_every_run_names_its_context(
    stub: CodeContextServiceStub, client: CodeContextClient, context: CodeContext
) -> None:
    """The service itself takes no run without a context: none is ever chosen from those that are there."""
    client.run_code("x = 1", context=context)
    refusal = refusal_of(stub.RunCode, pb.RunCodeRequest(code="x"))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_CONTEXT_ID",
    )

"""What can go wrong in a context, and that each run says truthfully how it ended."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
from support.servers import ServerProcess

from codecontext import (
    CodeContext,
    CodeContextClient,
    ContextFailedError,
    ContextState,
    InvalidArgumentError,
    Outcome,
)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CodeContextClient]:
    """A client of a server that kills soon what ignores an interrupt."""
    folder = tmp_path_factory.mktemp("impatient")
    with (
        ServerProcess(folder, "--interrupt-grace-s", "0.3", "--pool-size", "1") as server,
        CodeContextClient(server.target) as each,
    ):
        yield each


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os; os._exit(3)", "exited with status 3"),
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    ],
)
def test_a_crash_is_told(
    client: CodeContextClient, context: CodeContext, code: str, how: str
) -> None:
    """A dead interpreter ends its run as CRASHED with how it died, and loses no output before it."""
    execution = client.run_code(f"print('before')\n{code}", context=context)
    assert (execution.outcome, execution.state_kept) == (Outcome.CRASHED, False)
    assert how in execution.outcome_message
    assert execution.stdout == "before\n"
    assert how in client.get_code_context(context).failure
    with pytest.raises(ContextFailedError):
        client.run_code("1", context=context)
    client.restart_code_context(context)
    again = client.run_code("1", context=context)
    assert (again.outcome, again.execution_count) == (Outcome.SUCCEEDED, 1)


@pytest.mark.parametrize("attack", ["os.close(fd)", "os.write(fd, b'garbage' * 9)"])
def test_a_corrupted_channel_fails_its_context_alone(
    client: CodeContextClient, context: CodeContext, attack: str
) -> None:
    """Code that closes or writes to every descriptor fails its own context, which says so."""
    code = f"import os\nfor fd in range(3, 4096):\n    try: {attack}\n    except OSError: pass\n"
    code += "while True: pass"
    execution = client.run_code(code, context=context)
    assert execution.outcome is Outcome.CRASHED
    assert "control channel" in execution.outcome_message
    other = client.create_code_context()
    assert client.run_code("1", context=other).outcome is Outcome.SUCCEEDED
    client.delete_code_context(other)


def test_exit_is_an_exception(client: CodeContextClient, context: CodeContext) -> None:
    """`sys.exit()` ends the run as RAISED, and the context lives."""
    client.run_code("x = 1", context=context)
    execution = client.run_code("import sys; sys.exit(3)", context=context)
    assert execution.outcome is Outcome.RAISED
    assert execution.error is not None
    assert execution.error.name == "SystemExit"
    assert client.run_code("x", context=context).results[0].text == "1"


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(1000)",
        "import subprocess; subprocess.run(['sleep', '1000'])",
        "!sleep 1000",
        "import asyncio; await asyncio.sleep(1000)",
        "import os; os.read(os.pipe()[0], 1)",
    ],
)
def test_a_timeout_keeps_the_state(
    client: CodeContextClient, context: CodeContext, code: str
) -> None:
    """A run whose timeout passes is interrupted, and nothing of it leaks into the next."""
    client.run_code("x = 1", context=context)
    execution = client.run_code(code, context=context, timeout=0.2)
    assert (execution.outcome, execution.state_kept) == (Outcome.TIMED_OUT, True)
    following = client.run_code("x", context=context)
    assert following.results[0].text == "1"
    assert not following.stderr


def test_code_that_ignores_interrupts_is_killed(impatient: CodeContextClient) -> None:
    """Code that ignores SIGINT is killed after the grace time, and the outcome says so."""
    context = impatient.create_code_context()
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    execution = impatient.run_code(code, context=context, timeout=0.1)
    assert (execution.outcome, execution.state_kept) == (Outcome.TIMED_OUT, False)
    assert "ignored the interrupt" in execution.outcome_message
    assert impatient.get_code_context(context).state is ContextState.FAILED
    impatient.delete_code_context(context)


def test_a_forked_child_speaks_for_itself(client: CodeContextClient, context: CodeContext) -> None:
    """A forked child that runs off the end of the code ends there, and finishes nothing twice."""
    code = "import os\npid = os.fork()\nif pid: _ = os.waitpid(pid, 0)\n"
    code += "print('child' if pid == 0 else 'parent')"
    execution = client.run_code(code, context=context)
    assert execution.outcome is Outcome.SUCCEEDED
    assert sorted(execution.stdout.split()) == ["child", "parent"]
    assert client.run_code("'next'", context=context).results[0].text == "'next'"


def test_c_output_comes_before_the_end(client: CodeContextClient, context: CodeContext) -> None:
    """What C code has left in its buffers belongs to the run that wrote it."""
    code = "import ctypes; _ = ctypes.CDLL(None).printf(b'from C\\n')"
    assert client.run_code(code, context=context).stdout == "from C\n"


def test_output_of_threads_comes_with_the_next_run(
    client: CodeContextClient, context: CodeContext
) -> None:
    """What a thread prints between two runs comes with the next one, marked late."""
    code = "import threading\ngo = threading.Event()\ndone = threading.Event()\n"
    code += "def late():\n    go.wait()\n    print('late')\n    done.set()\n"
    code += "threading.Thread(target=late).start()\n"
    code += "threading.Timer(0.3, go.set).start()"
    client.run_code(code, context=context)
    # The timer fires after that run's end; `done` is waited for in the next run at the latest.
    events = list(client.run_code_stream("done.wait(); print('now')", context=context))
    text = b"".join(event.stdout for event in events)
    assert sorted(text.split()) == [b"late", b"now"]


def test_closed_standard_streams(client: CodeContextClient, context: CodeContext) -> None:
    """Code that closes descriptors 1 and 2 keeps its context, and Python's output arrives."""
    code = "import os\nos.close(1); os.close(2)\nprint('still here')"
    execution = client.run_code(code, context=context)
    assert (execution.outcome, execution.stdout) == (Outcome.SUCCEEDED, "still here\n")
    assert client.run_code("1", context=context).outcome is Outcome.SUCCEEDED


def test_text_that_is_no_unicode(client: CodeContextClient, context: CodeContext) -> None:
    """Lone surrogates and NUL bytes are never an error of the service."""
    execution = client.run_code("print('a\\udc80b'); '\\ud800'", context=context)
    assert execution.stdout == "a\ufffdb\n"
    assert execution.outcome is Outcome.SUCCEEDED
    assert client.run_code("'\ud800'", context=context).outcome is Outcome.SUCCEEDED
    assert client.run_code("raise ValueError('\\ud800')", context=context).outcome is Outcome.RAISED
    assert client.run_code("1\0", context=context).outcome is Outcome.RAISED


def test_order_is_kept(client: CodeContextClient, context: CodeContext) -> None:
    """Prints, displays and shell commands arrive in the order that the code made them."""
    code = "print(1)\ndisplay('x')\nprint(2)\n!echo 3\nprint(4)"
    events = list(client.run_code_stream(code, context=context))
    seen = [
        event.stdout.decode() if event.stdout else "display"
        for event in events
        if event.stdout or event.HasField("result")
    ]
    assert "".join(seen) == "1\ndisplay2\n3\n4\n"
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


def test_many_prints(client: CodeContextClient, context: CodeContext) -> None:
    """100,000 prints arrive, all of them and in order."""
    execution = client.run_code("for i in range(100_000): print(i)", context=context)
    assert execution.stdout.split() == [str(i) for i in range(100_000)]


def test_memory_stays_flat_while_a_reader_is_slow(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """200 MB of output with a slow reader slow the run down, and do not grow the server."""
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    events = client.run_code_stream(
        "import sys\nfor _ in range(200): sys.stdout.write('x' * 1_000_000)", context=context
    )
    total, peak = 0, 0
    for number, event in enumerate(events):
        total += len(event.stdout)
        if number % 100 == 0:
            peak = max(peak, process.memory_info().rss)
    assert total == 200_000_000
    assert peak - before < 64 << 20


def test_a_vanished_client_interrupts_its_run(
    client: CodeContextClient, context: CodeContext
) -> None:
    """A run whose caller goes away is interrupted, and the context keeps its state."""
    stream = client.run_code_stream("x = 1\nprint('on')\nwhile True: pass", context=context)
    execution_id = ""
    for event in stream:
        execution_id = event.execution_id
        if event.stdout:
            break
    stream.close()
    *_, last = client.watch_execution(execution_id)
    assert last.completed.state_kept
    assert client.get_execution(execution_id).outcome is Outcome.INTERRUPTED
    assert client.run_code("x", context=context).results[0].text == "1"


def test_environment_is_data(client: CodeContextClient) -> None:
    """Variables with quotes, newlines and magics arrive as they are; those of a run go with it."""
    value = "a'\"b\n%%bash\n$HOME"
    context = client.create_code_context(env_vars={"OF_CONTEXT": value})
    read = "import os; print(os.environ.get('OF_CONTEXT'), os.environ.get('OF_RUN'), sep='|')"
    assert client.run_code(read, context=context, env_vars={"OF_RUN": value}).stdout == (
        f"{value}|{value}\n"
    )
    assert client.run_code(read, context=context).stdout == f"{value}|None\n"
    client.delete_code_context(context)


def test_all_that_is_wrong_is_named(client: CodeContextClient) -> None:
    """A bad create names each field that is wrong, and the languages that are known."""
    with pytest.raises(InvalidArgumentError) as refused:
        client.create_code_context("cobol", cwd="relative", env_vars={"1A": "x"}, labels={"": "x"})
    fields = {violation.field.partition("[")[0] for violation in refused.value.field_violations}
    assert fields == {"language", "cwd", "env_vars", "labels"}
    assert "python" in str(refused.value)
    with pytest.raises(InvalidArgumentError):
        client.create_code_context(cwd="/not/there")


@pytest.mark.parametrize("code", ["", "x" * ((1 << 20) + 1)], ids=["empty", "oversized"])
def test_code_that_is_no_code(client: CodeContextClient, context: CodeContext, code: str) -> None:
    """Empty and oversized code is refused, and runs nothing."""
    with pytest.raises(InvalidArgumentError):
        client.run_code(code, context=context)
    assert client.get_code_context(context).execution_count == 0


def test_large_results_arrive(client: CodeContextClient, context: CodeContext) -> None:
    """A result of 10 MB arrives whole."""
    code = "from IPython.display import display\nimport os\n"
    code += "display({'application/octet-stream': b'x' * 10_000_000}, raw=True)"
    result = client.run_code(code, context=context).results[0]
    assert result.data["application/octet-stream"] == b"x" * 10_000_000


def test_input_is_answered(client: CodeContextClient, context: CodeContext) -> None:
    """`input()` asks the caller if the run allows it, and raises at once if not."""
    answered = client.run_code(
        "name = input('who? '); name", context=context, on_input=lambda prompt, password: "me"
    )
    assert answered.results[0].text == "'me'"
    assert client.run_code("input()", context=context).outcome is Outcome.RAISED

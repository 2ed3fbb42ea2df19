"""What code can do to its own interpreter, and that each run says truthfully how it ended."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.processes import Watch, processes_of, workspace_of
from support.runs import LiveRun, queued
from support.servers import ServerProcess

from codecontext import (
    CodeContext,
    CodeContextClient,
    ContextFailedError,
    ContextState,
    Outcome,
)


@pytest.fixture
def neighbour(client: CodeContextClient) -> Iterator[CodeContext]:
    """Another context, which must notice nothing of what happens in the first one."""
    other = client.create_code_context()
    client.run_code("mine = 42", context=other)
    yield other
    assert client.run_code("mine", context=other).text == "42"
    client.delete_code_context(other)


def test_the_next_context_is_good(client: CodeContextClient) -> None:
    """Contexts that are created after a fault are as good as any."""
    bad = client.create_code_context()
    client.run_code("import os; os._exit(1)", context=bad)
    client.delete_code_context(bad)
    context = client.create_code_context()
    assert client.run_code("1", context=context).text == "1"
    client.delete_code_context(context)


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os; os._exit(3)", "exited with status 3"),
        ("import os; os._exit(0)", "exited with status 0"),
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        ("import os; os.abort()", "killed by SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("import os; os.execv('/bin/true', ['true'])", "exited with status 0"),
        ("import threading, os; threading.Thread(target=os._exit, args=(4,)).run()", "status 4"),
    ],
)
def test_a_crash_is_told(
    client: CodeContextClient, context: CodeContext, neighbour: CodeContext, code: str, how: str
) -> None:
    """A dead interpreter ends its run as CRASHED with how it died, and loses no output before it."""
    execution = client.run_code(f"print('before' * 20_000)\n{code}", context=context)
    assert (execution.outcome, execution.state_kept) == (Outcome.CRASHED, False)
    assert how in execution.outcome_message
    assert execution.stdout == "before" * 20_000 + "\n"
    failed = client.get_code_context(context)
    assert failed.state is ContextState.FAILED
    assert how in (failed.failure or "")
    with pytest.raises(ContextFailedError) as refused:
        client.run_code("1", context=context)
    assert how in refused.value.metadata["failure"]
    client.restart_code_context(context)
    again = client.run_code("1", context=context)
    assert (again.outcome, again.execution_count) == (Outcome.SUCCEEDED, 1)


def test_a_crash_between_runs_is_told(client: CodeContextClient, context: CodeContext) -> None:
    """An interpreter that dies between two runs makes its context FAILED, and the next run is refused."""
    client.run_code("import os, threading; os.mkfifo('go')", context=context)
    code = "threading.Thread(target=lambda: (open('go').read(), os._exit(5))).start()"
    client.run_code(code, context=context)
    with LiveRun(client, context, "print('begun'); threading.Event().wait()") as run:
        run.begun()
        (workspace_of(context) / "go").write_text("")
        assert run.outcome is Outcome.CRASHED
    assert "status 5" in (client.get_code_context(context).failure or "")


def test_what_waits_behind_a_crash_never_starts(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Runs that wait behind one that crashes end as NOT_STARTED; behind one that raises they go on."""
    client.run_code("import os; os.mkfifo('go')", context=context)
    go = workspace_of(context) / "go"
    for last, expected in (("1/0", Outcome.SUCCEEDED), ("os._exit(3)", Outcome.NOT_STARTED)):
        wait = f"print('begun'); open('go').read(); {last}"
        with LiveRun(client, context, wait) as first:
            first.begun()
            waiting = LiveRun(client, context, "ran = 1")
            queued(client, context, 1)
            go.write_text("")
            assert waiting.outcome is expected
            assert waiting.end().state_kept is (expected is Outcome.SUCCEEDED)
            if expected is Outcome.NOT_STARTED:
                assert [event.WhichOneof("event") for event in waiting.events] == ["completed"]


@pytest.mark.parametrize(
    "attack",
    ["os.close(fd)", "os.write(fd, b'garbage' * 9)", "os.dup2(null, fd)"],
)
@pytest.mark.parametrize("then", ["while True: pass", "print('on'); 1"])
def test_an_attack_on_every_descriptor_fails_its_context_alone(
    client: CodeContextClient,
    context: CodeContext,
    neighbour: CodeContext,
    attack: str,
    then: str,
) -> None:
    """Code that closes, writes to or replaces every descriptor fails its own context at most."""
    code = (
        "import os\nnull = os.open('/dev/null', os.O_RDWR)\n"
        "for name in sorted(map(int, os.listdir('/proc/self/fd'))):\n"
        "    fd = int(name)\n"
        f"    if fd not in (0, 1, 2, null):\n        try: {attack}\n        except OSError: pass\n{then}"
    )
    execution = client.run_code(code, context=context)
    assert execution.outcome is Outcome.CRASHED
    assert client.get_code_context(context).state is ContextState.FAILED
    if "while" in then:
        assert "control channel" in execution.outcome_message
    client.restart_code_context(context)
    assert client.run_code("3", context=context).text == "3"


def test_exit_is_an_exception(client: CodeContextClient, context: CodeContext) -> None:
    """`sys.exit()`, `exit()` and `quit()` end the run as RAISED, and the context lives."""
    client.run_code("x = 1", context=context)
    for code in ("import sys; sys.exit(3)", "exit()", "quit", "raise SystemExit"):
        execution = client.run_code(f"{code}\nprint('never')", context=context)
        if code == "quit":  # a mere name, whose value is not the last one
            continue
        assert execution.outcome is Outcome.RAISED
        assert execution.error is not None
        assert execution.error.name == "SystemExit"
        assert execution.stdout == ""
    assert client.run_code("x", context=context).text == "1"


_HANG_INTO_RUNS = (
    "def fails(*about): raise SystemExit(3)\nget_ipython().events.register({event!r}, fails)"
)

_RAISING = {
    "too deep": ("-" * 9000 + "1", "RecursionError|MemoryError"),
    "too deep to await": ("await x; " + "-" * 9000 + "1", "RecursionError|MemoryError"),
    "text exits": (
        "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
        "E|SystemExit",
    ),
    "is false": ("class E(Exception):\n    def __bool__(self): return False\nraise E", "E"),
    "is empty": (
        "class E(Exception):\n    def __len__(self): return 0\nasync def f(): raise E\nawait f()",
        "E",
    ),
    "attributes raise": (
        "class E(Exception):\n    def __getattribute__(self, name): raise ValueError(name)\nraise E",
        "E|ValueError",
    ),
    "class without a name": (
        (
            "class Meta(type):\n    @property\n    def __name__(cls): raise ValueError('no name')\n"
            "class E(Exception, metaclass=Meta): pass\nraise E"
        ),
        "E|ValueError",
    ),
    "after the run": (_HANG_INTO_RUNS.format(event="post_run_cell"), "SystemExit"),
    "after the code": (_HANG_INTO_RUNS.format(event="post_execute"), "SystemExit"),
    "in a transformation": (
        (
            "def fails(lines): raise SystemExit\nget_ipython().input_transformers_cleanup.append(fails)\n"
            "get_ipython().run_cell('%pprint')"
        ),
        "SystemExit",
    ),
}


@pytest.mark.parametrize(("code", "name"), _RAISING.values(), ids=_RAISING)
def test_whatever_is_raised_is_told_of(
    client: CodeContextClient, context: CodeContext, code: str, name: str
) -> None:
    """No exception ends the interpreter, whatever its class does and wherever the code has it raised."""
    execution = client.run_code(code, context=context)
    assert execution.outcome is Outcome.RAISED
    assert execution.error is not None
    assert re.fullmatch(name, execution.error.name)
    run = client.run_code("'lives'", context=context)
    assert run.outcome in (
        Outcome.SUCCEEDED,
        Outcome.RAISED,
    )  # what it has hung into the shell stays


def test_an_interpreter_that_is_sabotaged_says_what_failed(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Where code takes away what the interpreter itself needs, the run is CRASHED, and stderr tells why."""
    execution = client.run_code("import os; os.getpid = None", context=context)
    assert execution.outcome is Outcome.CRASHED
    assert "the interpreter failed: TypeError" in execution.stderr
    client.restart_code_context(context)
    assert (
        client.run_code("os.getpid() > 0 if 'os' in dir() else 'new'", context=context).text
        == "'new'"
    )


def test_an_uncaught_error_of_a_thread_is_output(
    client: CodeContextClient, context: CodeContext
) -> None:
    """An error in a thread is told on stderr, and is no error of the run."""
    code = "import threading\nt = threading.Thread(target=lambda: 1/0); t.start(); t.join()"
    execution = client.run_code(code, context=context)
    assert (execution.outcome, execution.error) == (Outcome.SUCCEEDED, None)
    assert "ZeroDivisionError" in execution.stderr


def test_running_out_of_the_stack_is_survived(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Endless recursion raises in the code, and the context lives."""
    code = "x = 1\nclass C:\n    def __repr__(self): return repr(self)\n    __str__ = __repr__\nC()"
    assert client.run_code(code, context=context).outcome in (Outcome.SUCCEEDED, Outcome.RAISED)
    assert client.run_code("x", context=context).text == "1"


# Processes that the code forks


@pytest.mark.parametrize(
    ("child", "status"),
    [
        ("print('child')", 0),
        ("print('child'); raise ValueError('in child')", 1),
        ("print('child'); import sys; sys.exit(7)", 7),
        ("print('child'); import os; os._exit(8)", 8),
        ("display('child'); print('child'); 1 + 1", 0),
        ("import os; _ = os.system('echo child')", 0),
    ],
)
def test_a_forked_child_speaks_for_itself(
    client: CodeContextClient, context: CodeContext, child: str, status: int
) -> None:
    """A forked child that leaves the code ends there, by its own status: nothing is finished twice,
    nothing of it is an event but what it prints."""
    code = (
        "import os\npid = os.fork()\nif pid == 0:\n    exec(CHILD)\n"
        "else:\n    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "if pid: print('parent', status)"
    ).replace("CHILD", repr(child))
    events = list(client.run_code_stream(code, context=context))
    kinds = [str(event.WhichOneof("event")) for event in events]
    assert (kinds[0], kinds[-1], kinds.count("completed")) == ("started", "completed", 1)
    assert not {"error", "result"} & set(kinds)
    text = b"".join(event.stdout for event in events).decode()
    assert sorted(text.splitlines()) == ["child", f"parent {status}"]
    if "raise" in child:
        assert b"in child" in b"".join(event.stderr for event in events)
    assert client.run_code("'next'", context=context).text == "'next'"


def test_a_child_that_goes_on_keeps_no_run_waiting(
    server: ServerProcess, client: CodeContextClient
) -> None:
    """Processes that go on in the background keep no run waiting, and end with their context."""
    context = client.create_code_context()
    for code in (
        "import os, time\nif os.fork() == 0: time.sleep(1000)",
        "import subprocess; child = subprocess.Popen(['sleep', '1000'])",
        "!sleep 1000 &",
        "import os; _ = os.system('sleep 1000 &')",
        "!setsid sleep 1000 > /dev/null 2>&1 &",
    ):
        assert client.run_code(code, context=context).outcome is Outcome.SUCCEEDED
    with Watch(processes_of(server, context)) as watch:
        assert len(watch.living()) >= 7
        client.delete_code_context(context)
        assert watch.living() == []


def test_c_output_comes_before_the_end(client: CodeContextClient, context: CodeContext) -> None:
    """What C code has left in its buffers belongs to the run that wrote it."""
    code = "import ctypes; _ = ctypes.CDLL(None).printf(b'from C\\n')"
    for _ in range(2):
        assert client.run_code(code, context=context).stdout == "from C\n"


@pytest.mark.parametrize("how", ["os.close(fd)", "os.dup2(null, fd)"])
def test_closed_standard_streams(client: CodeContextClient, context: CodeContext, how: str) -> None:
    """Code that closes or replaces descriptors 0 to 2 keeps its context, and Python's output arrives."""
    code = f"import os\nnull = os.open('/dev/null', 2)\nfor fd in (0, 1, 2): {how}\nprint('still here')"
    execution = client.run_code(code, context=context)
    assert (execution.outcome, execution.stdout) == (Outcome.SUCCEEDED, "still here\n")
    following = client.run_code("print('and here')\n1", context=context)
    assert (following.stdout, following.text) == ("and here\n", "1")


def test_text_that_is_no_unicode(client: CodeContextClient, context: CodeContext) -> None:
    """Lone surrogates and NUL characters in code and output are never an error of the service."""
    execution = client.run_code("print('a\\udc80b\\0')\n'\\ud800'", context=context)
    assert (execution.outcome, execution.stdout) == (Outcome.SUCCEEDED, "a\ufffdb\0\n")
    assert client.run_code("ascii('\ud800')", context=context).text == repr("'\\ufffd'")
    broken = client.run_code("print('never')\n1\0", context=context)
    assert (broken.outcome, broken.stdout) == (Outcome.RAISED, "")
    assert client.run_code("1", context=context).text == "1"

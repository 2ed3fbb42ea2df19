"""Completions and descriptions of names in a live context: what they tell, and that they change nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import psutil
import pytest
from support.processes import interpreter_of, workspace_of
from support.runs import LiveRun, answer_of, queued, until
from support.servers import ServerProcess
from support.stubs import refusal_of

from codecontext import (
    CodeContext,
    CodeContextClient,
    ContextDeletedError,
    ContextNotFoundError,
    IntrospectionFailedError,
    InvalidArgumentError,
    Outcome,
)
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

SLOW = (
    "import os\n"
    "if not os.path.exists('go'): os.mkfifo('go'); os.mkfifo('asked')\n"
    "class Slow:\n"
    "    def __dir__(self):\n"
    "        open('asked', 'w').close()\n"
    "        open('go').read()\n"
    "        return ['answered']\n"
    "slow = Slow()"
)
"""An object whose names are told once somebody has read from `asked` and written to `go`."""

HANG = "class Hang:\n    def __dir__(self):\n        while True: pass\nhang = Hang()\nkept = 1"


@pytest.fixture
def ask(client: CodeContextClient) -> Iterator[Callable[..., Future[tuple[str, ...]]]]:
    """Completes in another thread."""
    with ThreadPoolExecutor() as pool:

        def begin(context: CodeContext, code: str) -> Future[tuple[str, ...]]:
            return pool.submit(lambda: client.complete_code(context, code).matches)

        yield begin


@pytest.mark.parametrize(
    ("code", "match", "start"),
    [
        ("numbers.app", "append", 8),
        ("numbers.", "append", 8),
        ("1 + numb", "numbers", 4),
        ("table['alp", "alpha", 7),
        ("made.co", "colour", 5),
        ("'\N{GRINNING FACE}'; numbers.app", "append", 13),
        ("x = 1\n☃ = 2\nnumbers.app", "append", 20),
        ("import colle", "collections", 7),
        ("%tim", "%timeit", 0),
        ("open('/et", "/etc/", 6),
    ],
)
def test_completions(
    client: CodeContextClient, context: CodeContext, code: str, match: str, start: int
) -> None:
    """Names, attributes, keys, modules, magics and files are completed, at places in characters."""
    client.run_code(
        "numbers = []; table = {'alpha': 1}\nclass Made:\n    def __init__(self): self.colour = 1\n"
        "made = Made()",
        context=context,
    )
    found = client.complete_code(context, code)
    assert match in found.matches
    assert (found.cursor_start, found.cursor_end) == (start, len(code))


def test_a_cursor_in_the_middle(client: CodeContextClient, context: CodeContext) -> None:
    """Only what stands before the cursor is completed, on any line; where nothing fits, nothing is found."""
    found = client.complete_code(context, "a = '\N{GRINNING FACE}'\npri(1)\nb = 2", 11)
    assert "print" in found.matches
    assert (found.cursor_start, found.cursor_end) == (8, 11)
    for code in ("no_such_name_at_all", "é = 1; éé", "no_such_object."):
        assert client.complete_code(context, code).matches == ()
    assert len(client.complete_code(context, "").matches) > 100


def test_inspections(client: CodeContextClient, context: CodeContext) -> None:
    """Signature, documentation and, if asked, the source of a name are told; an unknown one is not found."""
    code = (
        "def area(width, height=2):\n    '''How large.'''\n    return width * height  # the source"
    )
    client.run_code(code, context=context)
    for asked, cursor in (("area", 2), ("x = area(1, ", None), ("'\N{GRINNING FACE}'; area", 8)):
        found = client.inspect_code(context, asked, cursor)
        assert found.found
        assert "area(width, height=2)" in (found.text or "")
        assert "How large." in (found.text or "")
        assert "the source" not in (found.text or "")
        assert "\x1b" not in (found.text or "")
    assert "# the source" in (client.inspect_code(context, "area", detail_level=1).text or "")
    assert "zfill" in (client.inspect_code(context, "x = str.zfill", 11).text or "")
    for unknown in ("no_such_name", "", "1 + 2", "((("):
        missing = client.inspect_code(context, unknown)
        assert (missing.found, missing.data) == (False, {})


def test_questions_change_nothing(client: CodeContextClient, context: CodeContext) -> None:
    """A question changes neither variables nor history nor counts, and what it writes is nobody's output."""
    code = (
        "import os, sys\ncalls = []\n"
        "class Loud:\n"
        "    '''Doc.'''\n"
        "    def _note(self):\n"
        "        calls.append(1); print('heard'); os.system('echo heard'); os.write(2, b'heard')\n"
        "        display('heard')\n"
        "    def __dir__(self): self._note(); return ['loud']\n"
        "    def __getattr__(self, name): self._note(); raise AttributeError(name)\n"
        "    def __repr__(self): self._note(); return 'Loud()'\n"
        "    @property\n"
        "    def grows(self): self._note(); return calls\n"
        "loud = Loud()\n41"
    )
    client.run_code(code, context=context)
    before = client.get_code_context(context)
    assert "loud" in client.complete_code(context, "loud.").matches
    client.complete_code(context, "loud.grows.")
    assert client.inspect_code(context, "loud").found
    client.inspect_code(context, "loud.grows", detail_level=1)
    client.complete_code(context, "calls.append(2); x = 1; x.")
    after = client.get_code_context(context)
    assert replace(after, resource_usage=None) == replace(before, resource_usage=None)
    execution = client.run_code(
        "len(calls), _, len(In), list(Out), '_oh' in dir()", context=context
    )
    assert execution.text == "(0, 41, 3, [1], True)"
    assert (execution.stdout, execution.stderr, len(execution.results)) == ("", "", 1)
    assert execution.execution_count == 2


def test_a_question_needs_an_idle_context(client: CodeContextClient, context: CodeContext) -> None:
    """While code runs, and where there is no interpreter or no context, the answer says so."""

    def answers() -> set[str]:
        return {
            answer_of(client.complete_code, context, "x"),
            answer_of(client.inspect_code, context, "x"),
        }

    with LiveRun(client, context) as run:
        run.begun()
        assert answers() == {"CONTEXT_EXECUTING"}
        client.interrupt_code_context(context)
        run.end()
    assert answers() == {"OK"}
    client.run_code("import os; os._exit(3)", context=context)
    assert answers() == {"CONTEXT_FAILED"}
    client.restart_code_context(context)
    assert answers() == {"OK"}
    client.delete_code_context(context)
    assert answers() == {"CONTEXT_DELETED"}
    with pytest.raises(ContextNotFoundError):
        client.complete_code("no-such-context", "x")


def test_wrong_fields_are_named(client: CodeContextClient, context: CodeContext) -> None:
    """A cursor outside of the code, too much code and an unknown level of detail are refused by name."""
    for cursor in (-1, 2, 1 << 30):
        with pytest.raises(InvalidArgumentError) as caught:
            client.complete_code(context, "\N{GRINNING FACE}", cursor)
        assert [each.field for each in caught.value.field_violations] == ["cursor"]
    with pytest.raises(InvalidArgumentError) as caught:
        client.inspect_code(context, "x" * (1 << 20) + "y", -1, detail_level=2)
    fields = {each.field for each in caught.value.field_violations}
    assert fields == {"cursor", "code", "detail_level"}


@pytest.mark.parametrize(
    "setup",
    [
        HANG,
        HANG.replace("while", "import signal; signal.pthread_sigmask(0, range(1, 65))\n        while"),
        HANG.replace("while True: pass", "import os; os.abort()"),
        HANG.replace("while True: pass", "import os; os._exit(0)"),
        HANG.replace("while True: pass", "import os; os.kill(os.getpid(), 9)"),
    ],
    ids=["loop", "deaf", "abort", "exit", "kill"],
)  # fmt: skip
def test_a_question_that_hangs_or_crashes(
    server: ServerProcess, client: CodeContextClient, context: CodeContext, setup: str
) -> None:
    """What hangs is given up in time, what crashes is told; the context keeps its state, and nothing stays."""
    client.run_code(setup, context=context)
    with pytest.raises(IntrospectionFailedError):
        client.complete_code(context, "hang.")
    assert client.run_code("kept", context=context).text == "1"
    assert interpreter_of(server, context).children() == []


def test_a_question_ends_within_its_deadline(
    client: CodeContextClient, context: CodeContext
) -> None:
    """A caller with a short deadline is told before it that there is no answer."""
    client.run_code(HANG, context=context)
    with pytest.raises(IntrospectionFailedError):
        client.complete_code(context, "hang.", deadline=2)


def test_a_run_waits_for_the_answer_and_goes_first(
    client: CodeContextClient, context: CodeContext, ask: Callable[..., Future[tuple[str, ...]]]
) -> None:
    """A run that comes while a question is answered begins after it, and before other questions."""
    client.run_code(SLOW, context=context)
    folder = workspace_of(context)
    answer = ask(context, "slow.")
    (folder / "asked").read_text()
    second = ask(context, "slow.")
    with LiveRun(client, context) as run:
        queued(client, context, 1)
        assert client.get_code_context(context).execution_count == 1
        (folder / "go").write_text("")
        assert answer.result() == ("answered",)
        run.begun()
        assert getattr(second.exception(), "reason", None) == "CONTEXT_EXECUTING"
        client.interrupt_code_context(context)
        assert run.outcome is Outcome.INTERRUPTED


def test_a_run_that_waits_for_an_answer_can_be_taken_back(
    client: CodeContextClient, context: CodeContext, ask: Callable[..., Future[tuple[str, ...]]]
) -> None:
    """A run that waits for an answer is taken back when its caller goes, and the answer comes all the same."""
    client.run_code(SLOW, context=context)
    folder = workspace_of(context)
    answer = ask(context, "slow.")
    (folder / "asked").read_text()
    with LiveRun(client, context):
        queued(client, context, 1)
    queued(client, context, 0)
    (folder / "go").write_text("")
    assert answer.result() == ("answered",)
    assert client.get_code_context(context).execution_count == 1


@pytest.mark.parametrize("end", ["delete", "restart", "kill"])
def test_a_question_in_a_context_that_ends(
    server: ServerProcess,
    client: CodeContextClient,
    context: CodeContext,
    ask: Callable[..., Future[tuple[str, ...]]],
    end: str,
) -> None:
    """A delete, a restart or a crash meanwhile is not held up, and the question's answer says what happened."""
    client.run_code(SLOW, context=context)
    answer = ask(context, "slow.")
    (workspace_of(context) / "asked").read_text()
    if end == "delete":
        client.delete_code_context(context)
    elif end == "restart":
        client.restart_code_context(context)
    else:
        interpreter_of(server, context).kill()
    expected = {"delete": "CONTEXT_NOT_FOUND", "restart": "OK", "kill": "CONTEXT_FAILED"}[end]
    if end == "restart":  # the client's own retry asks the fresh interpreter
        assert answer.result() == ()
    else:
        assert getattr(answer.exception(), "reason", None) == expected


def test_many_questions_at_once(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """Questions and runs from many threads are all answered, each with its own answer or CONTEXT_EXECUTING."""
    client.run_code(
        "count = 0\n" + "\n".join(f"name_{n} = {n}" for n in range(10)), context=context
    )
    seen: list[str] = []

    def work(number: int) -> None:
        for _ in range(5):
            try:
                found = client.complete_code(context, f"name_{number}")
            except Exception as error:
                seen.append(getattr(error, "reason", repr(error)))
            else:
                assert found.matches == (f"name_{number}",)
                seen.append("OK")
            assert client.run_code("count += 1", context=context).outcome is Outcome.SUCCEEDED

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 40
    assert set(seen) <= {"OK", "CONTEXT_EXECUTING"}
    assert client.run_code("count", context=context).text == "40"
    assert interpreter_of(server, context).children() == []


def test_threads_and_handlers_of_the_code(client: CodeContextClient, context: CodeContext) -> None:
    """Threads, a handler that reaps every child and warnings as errors of the code do not get in the way."""
    code = (
        "import os, signal, threading, warnings\nwarnings.simplefilter('error')\n"
        "def reap(*_):\n"
        "    try:\n        while os.waitpid(-1, os.WNOHANG)[0]: pass\n    except ChildProcessError: pass\n"
        "_ = signal.signal(signal.SIGCHLD, reap)\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\nnumbers = []"
    )
    client.run_code(code, context=context)
    for _ in range(10):
        assert "append" in client.complete_code(context, "numbers.").matches
    execution = client.run_code("threading.active_count()", context=context)
    assert (execution.text, execution.stderr) == ("2", "")


def test_without_descriptors_there_is_no_answer(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Code that has used up its descriptors makes a question fail, and nothing else."""
    code = (
        "import resource\nlimits = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))"
    )
    client.run_code(code, context=context)
    with pytest.raises(IntrospectionFailedError):
        client.complete_code(context, "lim")
    client.run_code("resource.setrlimit(resource.RLIMIT_NOFILE, limits)", context=context)
    assert client.complete_code(context, "lim").matches == ("limits",)


def test_answers_are_cut(client: CodeContextClient, context: CodeContext) -> None:
    """An answer that would be larger than a message is cut, and the context goes on."""
    code = (
        "class Big:\n"
        "    def __dir__(self): return ['n' + '\\U0001d4d0' * 1000 + str(i) for i in range(3_000)]\n"
        "big = Big()\ndef f(): pass\nf.__doc__ = '\\U0001d4d0\\ud800' * 5_000_000"
    )
    client.run_code(code, context=context)
    matches = client.complete_code(context, "big.").matches
    assert 100 < len(matches) <= 10_000
    described = client.inspect_code(context, "f").text
    assert described is not None
    assert 100_000 < len(described) < 1 << 20
    assert client.run_code("1", context=context).text == "1"


def test_a_stopped_interpreter(
    server: ServerProcess,
    stub: CodeContextServiceStub,
    client: CodeContextClient,
    context: CodeContext,
) -> None:
    """A question to an interpreter that does not move is UNAVAILABLE in time, and a run is not lost."""
    interpreter = interpreter_of(server, context)
    interpreter.suspend()
    try:
        until(lambda: psutil.Process(interpreter.pid).status() == psutil.STATUS_STOPPED)
        request = pb.CompleteCodeRequest(context_id=context.id, code="pri", cursor=3)
        assert refusal_of(stub.CompleteCode, request).reason == "CONTEXT_UNREACHABLE"
    finally:
        interpreter.resume()
    until(lambda: answer_of(client.complete_code, context, "pri") == "OK")
    assert client.run_code("1", context=context).text == "1"


def test_the_server_says_that_it_answers(client: CodeContextClient, context: CodeContext) -> None:
    """The runtime's capabilities name completions and inspections."""
    runtime = client.get_server_info().runtimes[0]
    assert {"complete", "inspect"} <= set(runtime.capabilities)


def test_a_deleted_context_says_so(client: CodeContextClient, context: CodeContext) -> None:
    """After a delete the answer is that of every other call."""
    client.delete_code_context(context)
    with pytest.raises(ContextDeletedError):
        client.inspect_code(context, "print")

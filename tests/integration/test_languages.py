"""What holds for a context whatever its language: one suite, in each language's own words."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from support.kernels import write_kernelspecs
from support.languages import BASH, NATIVE, Dialect, create
from support.processes import Watch, processes_of, workspace_of
from support.runs import LiveRun, answer_of, queued, state_of, until, usage_of
from support.servers import MODES, ServerProcess, residence_of

from codecontext import (
    CodeContext,
    CodeContextClient,
    ContextDeletedError,
    ContextExecutingError,
    ContextFailedError,
    ContextState,
    Execution,
    InputNotRequestedError,
    InvalidArgumentError,
    ResourceLimits,
)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def context(client: CodeContextClient, dialect: Dialect) -> Iterator[CodeContext]:
    """A fresh context of the language."""
    each = create(client, dialect)
    yield each
    if any(left.id == each.id for left in client.list_code_contexts()):
        client.delete_code_context(each, force=True)


class Started:
    """A run in a thread of its own, of which it is known that it has begun to write."""

    def __init__(self, client: CodeContextClient, context: CodeContext, code: str) -> None:
        self._begun = threading.Event()
        self._result: list[Execution] = []

        def run() -> None:
            execution = client.run_code(
                code, context=context, on_stdout=lambda text: self._begun.set()
            )
            self._result.append(execution)

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert self._begun.wait(30)

    def result(self) -> Execution:
        self._thread.join(30)
        return self._result[0]


def test_state_persists(client: CodeContextClient, context: CodeContext, dialect: Dialect) -> None:
    """Variables and functions of one run are there in the next one."""
    client.run_code(dialect.keep("kept", "a text"), context=context)
    client.run_code(dialect.define, context=context)
    code = f"{dialect.tell('kept')}\n{dialect.greet('you')}"
    assert client.run_code(code, context=context).stdout == "a text\nhello you\n"


def test_contexts_are_apart(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """A variable of one context is not there in another."""
    client.run_code(dialect.keep("PATHLESS", "secret"), context=context)
    other = create(client, dialect)
    execution = client.run_code(dialect.tell("PATHLESS"), context=other)
    client.delete_code_context(other)
    assert "secret" not in execution.stdout


def test_output_is_apart_and_in_order(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """What goes to standard output and to standard error comes by itself, each in its order."""
    code = "\n".join(
        part
        for number in range(20)
        for part in (dialect.say(f"out {number}"), dialect.complain(f"err {number}"))
    )
    execution = client.run_code(code, context=context)
    assert execution.outcome == "SUCCEEDED"
    assert execution.stdout.splitlines() == [f"out {number}" for number in range(20)]
    assert execution.stderr.splitlines() == [f"err {number}" for number in range(20)]


@pytest.mark.needs("bytes")
def test_output_is_bytes(client: CodeContextClient, context: CodeContext, dialect: Dialect) -> None:
    """Bytes that are no text arrive as they were written, in events and in the gathered output."""
    code = f"{dialect.raw}\n{dialect.say('on')}"
    written = b"\xff\0\xfe\non\n"
    events = list(client.run_code_stream(code, context=context))
    assert b"".join(event.stdout for event in events) == written
    execution = client.get_execution(events[0].execution_id)
    assert execution.stdout == written.decode(errors="replace")


@pytest.mark.needs("order")
def test_streams_keep_their_order(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """What goes to standard output and to standard error in turns comes in the code's order."""
    code = "\n".join((dialect.say("one"), dialect.complain("two"), dialect.say("three")) * 5)
    events = client.run_code_stream(code, context=context)
    shown = [event.stdout or event.stderr for event in events if event.stdout or event.stderr]
    assert b"".join(shown).split() == [b"one", b"two", b"three"] * 5


def test_all_output_comes(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """Nothing of a large output is lost or changes places, and it is there when the run has ended."""
    assert client.run_code(dialect.flood, context=context).stdout == ("x" * 3999 + "\n") * 1000
    numbers = client.run_code(dialect.lines, context=context).stdout
    assert numbers == "".join(f"{number}\n" for number in range(1000))


def test_a_failure_is_raised(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """Code that fails ends as RAISED with an error, and the state is kept."""
    client.run_code(dialect.keep("kept", "still"), context=context)
    execution = client.run_code(dialect.fail, context=context)
    assert execution.outcome == "RAISED"
    assert execution.state_kept
    assert execution.stdout == "before\n"
    assert execution.error is not None
    assert execution.error.name == dialect.failure
    assert client.run_code(dialect.tell("kept"), context=context).stdout == "still\n"


def test_a_syntax_error_is_raised(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """Code that can't be parsed ends as RAISED with the line, and the state is kept."""
    execution = client.run_code(dialect.broken, context=context)
    assert execution.outcome == "RAISED"
    assert execution.error is not None
    assert execution.error.name == dialect.syntax_error
    assert execution.error.line_number == dialect.broken_line
    assert client.run_code(dialect.say("on"), context=context).stdout == "on\n"


@pytest.mark.needs("be interrupted")
@pytest.mark.parametrize("how", ["endless", "sleep", "strict"])
def test_an_interrupt_keeps_the_state(
    client: CodeContextClient, context: CodeContext, dialect: Dialect, how: str
) -> None:
    """Code that computes or waits, for a child too, is interrupted, and the context lives on with its state."""
    client.run_code(dialect.keep("kept", "still"), context=context)
    code = f"{dialect.say('begun')}\n{getattr(dialect, how)}"
    started = Started(client, context, code)
    client.interrupt_code_context(context)
    execution = started.result()
    assert execution.outcome == "INTERRUPTED"
    assert execution.state_kept
    assert client.run_code(dialect.tell("kept"), context=context).stdout == "still\n"


@pytest.mark.needs("be interrupted")
def test_interrupts_hit_one_run_alone(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """Each interrupt ends the run that it is meant for, and never the next one."""
    for number in range(5):
        started = Started(client, context, f"{dialect.say('begun')}\n{dialect.endless}")
        client.interrupt_code_context(context)
        assert started.result().outcome == "INTERRUPTED"
        execution = client.run_code(dialect.say(f"run {number}"), context=context)
        assert (execution.outcome, execution.stdout) == ("SUCCEEDED", f"run {number}\n")


@pytest.mark.needs("be interrupted")
def test_an_interrupt_at_any_moment_hits_its_run_alone(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """However early a timeout passes, it ends its own run and no other, and keeps the state."""
    for number in range(10 if dialect.runtime else 60):
        timeout = 0.0001 * (1 + 3 * number % 30)
        short = client.run_code(dialect.endless, context=context, timeout=timeout)
        assert (short.outcome, short.state_kept) == ("TIMED_OUT", True)
        after = client.run_code(dialect.say(f"{number}"), context=context)
        assert (after.outcome, after.stdout, after.stderr) == ("SUCCEEDED", f"{number}\n", "")


@pytest.mark.needs("be interrupted")
@pytest.mark.parametrize("how", ["endless", "strict"])
def test_a_timeout_keeps_the_state(
    client: CodeContextClient, context: CodeContext, dialect: Dialect, how: str
) -> None:
    """A run whose timeout passes ends as TIMED_OUT, and the context lives on with its state."""
    client.run_code(dialect.keep("kept", "still"), context=context)
    execution = client.run_code(getattr(dialect, how), context=context, timeout=0.2)
    assert execution.outcome == "TIMED_OUT"
    assert execution.state_kept
    assert client.run_code(dialect.tell("kept"), context=context).stdout == "still\n"


@pytest.mark.needs("be interrupted")
@pytest.mark.parametrize("how", ["interrupt", "timeout"])
def test_a_question_can_be_stopped(
    client: CodeContextClient, context: CodeContext, dialect: Dialect, how: str
) -> None:
    """Code that waits for an answer is stopped, keeps its state, and the next question gets its own answer."""
    client.run_code(dialect.keep("kept", "still"), context=context)
    options = {"timeout": 0.2} if how == "timeout" else {}
    with LiveRun(client, context, dialect.ask, allow_input=True, **options) as run:
        sequence = run.asked()
        if how == "interrupt":
            client.interrupt_code_context(context)
        expected = "INTERRUPTED" if how == "interrupt" else "TIMED_OUT"
        assert (run.outcome, run.end().state_kept) == (expected, True)
        with pytest.raises(InputNotRequestedError):
            client.send_input(run.execution_id, "late", sequence=sequence)
    asked = client.run_code(dialect.ask, context=context, on_input=lambda *_: "you")
    assert asked.stdout == "hello you\n"
    assert client.run_code(dialect.tell("kept"), context=context).stdout == "still\n"


@pytest.mark.needs("be interrupted")
def test_a_run_that_waits_for_its_reader_can_be_stopped(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """A run that waits for its reader is interrupted, and its reader gets the end of it."""
    client.run_code(dialect.keep("kept", "still"), context=context)
    stream = client.run_code_stream(dialect.torrent, context=context)
    next(stream)
    stopped = client.interrupt_code_context(context)
    assert stopped is not None
    assert (stopped.outcome, stopped.state_kept) == ("INTERRUPTED", True)
    assert client.run_code(dialect.tell("kept"), context=context).stdout == "still\n"
    *_, last = stream
    assert last.HasField("completed")


def test_a_budget_of_output(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """Past its budget output is dropped and counted, and the run goes on to its end."""
    execution = client.run_code(dialect.lines, context=context, max_output_bytes=50)
    assert execution.outcome == "SUCCEEDED"
    assert len(execution.stdout) <= 50
    written = sum(len(f"{number}\n") for number in range(1000))
    assert len(execution.stdout) + sum(gap.bytes for gap in execution.gaps) == written


@pytest.mark.needs("hand on")
def test_output_between_runs_is_late(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """What the code has started writes between two runs comes first in the next one, and is marked late."""
    client.run_code(dialect.command("mkfifo go gone"), context=context)
    code = dialect.spawn("read x <go; echo late; echo >gone")
    assert client.run_code(code, context=context).stdout == ""
    (workspace_of(context) / "go").write_text("\n")
    (workspace_of(context) / "gone").read_text()  # it has been written by now
    events = list(client.run_code_stream(dialect.say("now"), context=context))
    shown = [(event.stdout, event.late) for event in events if event.stdout]
    assert shown == [(b"late\n", True), (b"now\n", False)]


def test_what_is_used_is_told(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """Memory, processes and CPU time of a context are measured, and a run's end tells what it has used."""
    mib = 1 << 20
    before = usage_of(client, context)
    execution = client.run_code(dialect.hold, context=context)
    assert execution.cpu_time > timedelta()
    assert execution.peak_memory_bytes > 64 * mib
    client.run_code(dialect.daemon, context=context)
    # Until the daemon has begun what it does, it may share all of the memory of the one who has forked it.
    until(lambda: usage_of(client, context).memory_own_bytes - before.memory_own_bytes > 60 * mib)
    after = usage_of(client, context)
    assert after.memory_own_bytes - before.memory_own_bytes < 120 * mib
    assert after.processes == before.processes + 1
    assert after.cpu_time > before.cpu_time


NASTY = 'it\'s "$HOME" `id` \\n %s {} é\n$(exit 3) #'


def test_environment(client: CodeContextClient, dialect: Dialect) -> None:
    """Variables are data: the code and its children find whatever they hold, and none of the server's own."""
    context = create(client, dialect, env_vars={"NASTY": NASTY, "EMPTY": ""})
    try:
        assert client.run_code(dialect.variable("EMPTY"), context=context).stdout == "\n"
        read = client.run_code(dialect.variable("NASTY"), context=context)
        assert read.stdout == NASTY + "\n"
        if "environment" not in dialect.cannot:
            run = client.run_code(
                dialect.variable("NASTY"), context=context, env_vars={"NASTY": f"x{NASTY}"}
            )
            assert run.stdout == f"x{NASTY}\n"
            child = dialect.command("printenv ONE NASTY")
            told = client.run_code(child, context=context, env_vars={"ONE": "of the run"})
            assert told.stdout == f"of the run\n{NASTY}\n"
        again = client.run_code(dialect.variable("NASTY"), context=context)
        assert again.stdout == NASTY + "\n"
        child = client.run_code(
            dialect.command("printenv NASTY; echo $SERVER_TOKEN."), context=context
        )
        assert child.stdout == f"{NASTY}\n.\n"
        assert client.run_code(dialect.variable("SERVER_TOKEN"), context=context).stdout == "\n"
    finally:
        client.delete_code_context(context)


@pytest.mark.needs("environment")
@pytest.mark.parametrize(("how", "outcome"), [("fail", "RAISED"), ("endless", "TIMED_OUT")])
def test_variables_of_a_run_go_with_it(
    client: CodeContextClient, context: CodeContext, dialect: Dialect, how: str, outcome: str
) -> None:
    """A variable that a run is given is gone after it, also after one that fails or is interrupted."""
    code = f"{dialect.variable('ONCE')}\n{getattr(dialect, how)}"
    env_vars = {"ONCE": "here"}
    timeout = 0.3 if how == "endless" else None
    execution = client.run_code(code, context=context, env_vars=env_vars, timeout=timeout)
    assert execution.outcome == outcome
    assert execution.stdout.startswith("here\n")
    assert client.run_code(dialect.variable("ONCE"), context=context).stdout == "\n"


def test_working_directory(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """A context works in the directory that it is given, after a restart too, or in its workspace; a missing
    one is refused."""
    assert client.run_code(dialect.where, context=context).stdout == f"{context.cwd}\n"
    elsewhere = create(client, dialect, cwd="/usr")
    assert client.run_code(dialect.where, context=elsewhere).stdout == "/usr\n"
    client.restart_code_context(elsewhere)
    assert client.run_code(dialect.where, context=elsewhere).stdout == "/usr\n"
    client.delete_code_context(elsewhere)
    with pytest.raises(InvalidArgumentError, match="cwd"):
        create(client, dialect, cwd="/no such directory")


def test_input(client: CodeContextClient, context: CodeContext, dialect: Dialect) -> None:
    """Code can ask for a line, and gets it."""
    asked: list[str] = []

    def answer(prompt: str, *_: object) -> str:
        asked.append(prompt)
        return "it's $you"

    execution = client.run_code(dialect.ask, context=context, on_input=answer)
    assert asked == ["name? "]
    assert execution.stdout == "hello it's $you\n"


@pytest.mark.needs("refuse input")
def test_input_that_nobody_gives(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """Without allow_input code that asks fails at once."""
    execution = client.run_code(dialect.ask, context=context)
    assert execution.outcome == "RAISED"
    assert dialect.refusal in f"{execution.stderr}{execution.error}"


def test_an_exit_is_a_crash(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """An interpreter that exits is a crash that names its status; the context is FAILED until a restart."""
    execution = client.run_code(f"{dialect.say('before')}\n{dialect.exit(3)}", context=context)
    assert execution.outcome == "CRASHED"
    assert "speak last" in dialect.cannot or execution.stdout == "before\n"
    assert not execution.state_kept
    assert "status 3" in execution.outcome_message
    with pytest.raises(ContextFailedError, match="status 3"):
        client.run_code(dialect.say("on"), context=context)
    client.restart_code_context(context)
    assert client.run_code(dialect.say("on"), context=context).stdout == "on\n"


def test_a_kill_is_a_crash(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """An interpreter that is killed is a crash that names the signal."""
    code = f"{dialect.pid}\n{dialect.endless}"
    started = Started(client, context, code)
    _interpreter_of(context).send_signal(signal.SIGKILL)
    execution = started.result()
    assert execution.outcome == "CRASHED"
    assert "SIGKILL" in execution.outcome_message


def test_a_crash_between_runs_fails_the_context(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """An interpreter that dies while nothing runs fails its context, which can be deleted then."""
    _interpreter_of(context).send_signal(signal.SIGKILL)
    until(lambda: state_of(client, context) is ContextState.FAILED)
    with pytest.raises(ContextFailedError, match="SIGKILL"):
        client.run_code(dialect.say("on"), context=context)
    client.delete_code_context(context)


def test_queued_runs_outlive_a_failure_and_no_crash(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """Runs that wait go on after one that fails; after a crash they end as NOT_STARTED."""
    codes = (dialect.fail, dialect.say("on"), dialect.exit(3), dialect.say("never"))
    with LiveRun(client, context, dialect.ask, allow_input=True) as first, ExitStack() as stack:
        sequence = first.asked()
        waiting = []
        for code in codes:
            waiting.append(stack.enter_context(LiveRun(client, context, code)))
            queued(client, context, len(waiting))
        client.send_input(first.execution_id, "you", sequence=sequence)
        assert first.outcome == "SUCCEEDED"
        expected = ["RAISED", "SUCCEEDED", "CRASHED", "NOT_STARTED"]
        assert [run.outcome for run in waiting] == expected


def test_a_restart_is_a_fresh_start(client: CodeContextClient, dialect: Dialect) -> None:
    """A restarted context has its id, its variables of the environment and its files, and no state or count."""
    context = create(client, dialect, env_vars={"NASTY": NASTY})
    client.run_code(dialect.keep("PATHLESS", "secret"), context=context)
    client.run_code(dialect.save("kept.txt", "kept"), context=context)
    assert client.get_code_context(context).execution_count == 2
    assert client.restart_code_context(context).id == context.id
    assert client.get_code_context(context).execution_count == 0
    assert "secret" not in client.run_code(dialect.tell("PATHLESS"), context=context).stdout
    assert client.run_code(dialect.variable("NASTY"), context=context).stdout == NASTY + "\n"
    assert client.run_code(dialect.load("kept.txt"), context=context).stdout.strip() == "kept"
    client.delete_code_context(context)


def test_a_restart_ends_what_runs(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """A run that a restart ends says so, and the next one finds a fresh interpreter."""
    started = Started(client, context, f"{dialect.say('begun')}\n{dialect.endless}")
    client.restart_code_context(context)
    assert started.result().outcome == "CONTEXT_RESTARTED"
    assert client.run_code(dialect.say("on"), context=context).stdout == "on\n"


def test_want_of_memory(client: CodeContextClient, dialect: Dialect) -> None:
    """A run that takes more memory than its context may have ends as OUT_OF_MEMORY, which names the limit."""
    limit = 256 << 20
    context = create(client, dialect, resource_limits=ResourceLimits(memory_bytes=limit))
    execution = client.run_code(dialect.hog, context=context)
    client.delete_code_context(context)
    assert (execution.outcome, execution.state_kept) == ("OUT_OF_MEMORY", False)
    assert str(limit) in execution.outcome_message


def test_processes_and_the_workspace_are_limited(
    client: CodeContextClient, dialect: Dialect
) -> None:
    """Processes and bytes past the limits are errors of the code; the state stays, and room is used again."""
    limits = ResourceLimits(processes=60, workspace_bytes=4 << 20)
    context = create(client, dialect, resource_limits=limits)

    def run(code: str, expected: str) -> None:
        execution = client.run_code(code, context=context)
        assert (execution.outcome, execution.state_kept) == (expected, True), execution

    run(dialect.keep("kept", "still"), "SUCCEEDED")
    run(dialect.command("head -c 5000000 /dev/zero >full.txt"), "RAISED")
    run(dialect.save("more.txt", "x" * 20_000), "RAISED")
    run(dialect.command("rm full.txt"), "SUCCEEDED")
    run(dialect.save("more.txt", "x" * 20_000), "SUCCEEDED")
    run(
        dialect.command("for n in $(seq 100); do sleep 60 & done >/dev/null 2>&1; exit 0"), "RAISED"
    )
    assert client.run_code(dialect.tell("kept"), context=context).stdout == "still\n"
    client.delete_code_context(context)


def test_files_are_limited(client: CodeContextClient, dialect: Dialect) -> None:
    """Open files and the size of one are limited, for children too; past that the code fails, and lives on."""
    limits = ResourceLimits(open_files=100, file_size_bytes=1 << 16)
    context = create(client, dialect, resource_limits=limits)
    assert client.run_code(dialect.command("ulimit -n"), context=context).stdout.strip() == "100"
    for name, code in (
        ("child.txt", dialect.command("head -c 100000 /dev/zero >child.txt")),
        ("own.txt", dialect.save("own.txt", "x" * 100_000)),
    ):
        execution = client.run_code(code, context=context)
        assert (execution.outcome, execution.state_kept) == ("RAISED", True)
        assert client.files.stat(context, name).size_bytes == 1 << 16
    client.delete_code_context(context)


def test_cpu_time_is_limited(client: CodeContextClient, dialect: Dialect) -> None:
    """Past its CPU time a context ends, and the run says so; what starting a kernel takes counts too."""
    limit = 3 if dialect.runtime else 1
    context = create(client, dialect, resource_limits=ResourceLimits(cpu_time=limit))
    execution = client.run_code(dialect.endless, context=context)
    assert (execution.outcome, execution.state_kept) == ("CRASHED", False)
    assert f"{limit} s of CPU time" in execution.outcome_message
    client.delete_code_context(context)


def _interpreter_of(context: CodeContext) -> psutil.Process:
    until(lambda: residence_of(context.id) is not None)  # the server's log tells, a moment later
    found = residence_of(context.id)
    assert found is not None
    return psutil.Process(found.pid)


def test_a_delete_refuses_while_code_runs(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """A delete refuses while code runs; with force the run ends as CONTEXT_DELETED."""
    started = Started(client, context, f"{dialect.say('begun')}\n{dialect.endless}")
    with pytest.raises(ContextExecutingError):
        client.delete_code_context(context)
    client.delete_code_context(context, force=True)
    assert started.result().outcome == "CONTEXT_DELETED"
    with pytest.raises(ContextDeletedError):
        client.run_code(dialect.say("on"), context=context)


def test_a_delete_ends_daemons(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """When a delete is answered every process of the context is gone, those that left its session too."""
    assert client.run_code(dialect.daemon, context=context).outcome == "SUCCEEDED"
    interpreter = _interpreter_of(context)
    namespace = _namespace(interpreter.pid)
    assert len(_in_namespace(namespace)) >= 2
    client.delete_code_context(context)
    assert not _in_namespace(namespace)


def test_a_restart_ends_daemons(
    server: ServerProcess, client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """A restart ends all that the code has started, whether its interpreter lives or has died."""
    for last in (dialect.say("on"), dialect.exit(3)):
        assert client.run_code(dialect.daemon, context=context).outcome == "SUCCEEDED"
        _, *started = processes_of(server, context)  # the first is the keeper
        with Watch(started) as old:
            assert len(old.living()) >= 2
            client.run_code(last, context=context)
            client.restart_code_context(context)
            assert old.living() == []


def test_what_is_started_inherits_no_channel(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """A program that the code starts has its standard descriptors, and no socket that leads to the server."""
    code = dialect.command("for fd in /proc/$$/fd/*; do echo ${fd##*/} $(readlink $fd); done")
    execution = client.run_code(code, context=context)
    opened = dict(line.split(" ", 1) for line in execution.stdout.splitlines())
    assert {"0", "1", "2"} <= set(opened)
    sockets = [fd for fd, target in opened.items() if target.startswith("socket:")]
    assert set(sockets) <= {"0", "1", "2"}  # Node makes pipes of sockets


def _namespace(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/pid").readlink())


def _in_namespace(namespace: str) -> list[int]:
    found = []
    for pid in psutil.pids():
        try:
            if _namespace(pid) == namespace:
                found.append(pid)
        except OSError:
            continue
    return found


def test_files_are_shared_in_a_sandbox(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """Files that are written in one language are read in others of the same sandbox, in cells in /tmp too."""
    names = ["shared.txt"]
    if client.get_server_info().isolation.tier == "cell":
        names.append("/tmp/shared.txt")
    for name in names:
        client.run_code(dialect.save(name, f"{name} of {dialect.language}"), context=context)
    for other in NATIVE:
        reader = create(client, other, sandbox_id=context.sandbox_id)
        for name in names:
            read = client.run_code(other.load(name), context=reader)
            assert read.stdout == f"{name} of {dialect.language}"
        client.delete_code_context(reader)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            each.values[0], id=each.id, marks=pytest.mark.xdist_group(f"languages-{each.id}")
        )
        for each in MODES
    ],
)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server that contains its contexts as well as it can, or little, or hardly."""
    kernels = write_kernelspecs(tmp_path_factory.mktemp("jupyter"))
    folder = tmp_path_factory.mktemp("place")
    flags = ("--jupyter-paths", str(kernels), "--pool-size", "0")
    with ServerProcess(folder, *flags, *request.param) as each:
        yield each
        assert each.stop() == 0


def test_every_language_lives_wherever_contexts_do(place: ServerProcess, dialect: Dialect) -> None:
    """An interpreter works, crashes, restarts and ends in cells, in pid namespaces, and below keepers."""
    with CodeContextClient(place.target) as client:
        context = create(client, dialect)
        assert client.run_code(dialect.say("on"), context=context).stdout == "on\n"
        assert client.run_code(dialect.exit(3), context=context).outcome == "CRASHED"
        client.restart_code_context(context)
        client.run_code(dialect.save("kept.txt", "kept"), context=context)
        assert client.run_code(dialect.load("kept.txt"), context=context).stdout.strip() == "kept"
        if "be interrupted" not in dialect.cannot:
            run = client.run_code(dialect.strict, context=context, timeout=0.2)
            assert (run.outcome, run.state_kept) == ("TIMED_OUT", True)
        assert client.run_code(dialect.daemon, context=context).outcome == "SUCCEEDED"
        with Watch(processes_of(place, context)) as processes:
            client.delete_code_context(context)
            assert processes.living() == []


REFUSALS = {"NOT_IMPLEMENTED", "FORK_UNSUPPORTED"}
"""The reasons of the errors that say that contexts of a language can't do something at all."""


class Outside:
    """What code must not reach: a context's file, a process with a secret, and a port of the machine."""

    def __init__(self, client: CodeContextClient) -> None:
        """Makes all of them; the context is on the server of the client."""
        self.file_secret, self.process_secret = (f"secret-{uuid.uuid4()}" for _ in range(2))
        self._client = client
        self._context = client.create_code_context("bash")
        client.run_code(BASH.save("secret.txt", self.file_secret), context=self._context)
        self.file = workspace_of(self._context) / "secret.txt"
        env = {"PATH": os.environ["PATH"], "SECRET": self.process_secret}
        self.process = subprocess.Popen(["sleep", "600"], env=env)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def close(self) -> None:
        self._listener.close()
        self.process.kill()
        self.process.wait()
        self._client.delete_code_context(self._context)


def test_code_reaches_nothing_outside(place: ServerProcess, dialect: Dialect) -> None:
    """What the server guarantees stops each language's own means; where that is nothing, they reach all."""
    with CodeContextClient(place.target) as client, closing(Outside(client)) as outside:
        context = create(client, dialect)

        def told(code: str) -> str:
            return client.run_code(code, context=context).stdout

        reached = {
            "no_foreign_files": outside.file_secret in told(dialect.load(str(outside.file))),
            "no_foreign_processes": outside.process_secret
            in told(dialect.load(f"/proc/{outside.process.pid}/environ")),
            "no_network": "connected" in told(dialect.connect(outside.port)),
        }
        told(dialect.kill(outside.process.pid))
        if "--no-pid-namespaces" in place.flags:  # it takes a moment to end
            until(lambda: outside.process.poll() is not None)
        reached["no_foreign_signals"] = outside.process.poll() is not None
        guaranteed = set(context.isolation.guarantees)
        assert not [each for each in guaranteed if reached.get(each)]
        if "--no-pid-namespaces" in place.flags:
            assert all(reached.values()), "nothing contains it here: can the attempts tell?"
        client.delete_code_context(context)


def test_capabilities_are_told(
    client: CodeContextClient, context: CodeContext, dialect: Dialect
) -> None:
    """What a runtime lists its contexts can do, and what it does not list is refused."""
    (info,) = (each for each in client.get_server_info().runtimes if each.name == context.runtime)
    env_vars = {"ONE": "1"}
    asks = {
        "complete": lambda: client.complete_code(context, "1"),
        "inspect": lambda: client.inspect_code(context, "1"),
        "fork": lambda: client.delete_code_context(*client.fork_code_context(context)),
        "environment": lambda: client.run_code("1", context=context, env_vars=env_vars),
    }
    refused = {name for name, ask in asks.items() if answer_of(ask) in REFUSALS}
    if "be interrupted" in dialect.cannot:
        refused.add("interrupt")
    assert set(info.capabilities) == {*asks, "interrupt", "input"} - refused


def test_aliases(client: CodeContextClient, dialect: Dialect) -> None:
    """A language is known by the names that people type."""
    for alias in dialect.aliases:
        context = client.create_code_context(alias)
        assert context.language == dialect.language
        client.delete_code_context(context)


def test_an_unknown_language_names_the_known_ones(
    client: CodeContextClient, dialect: Dialect
) -> None:
    """A language that nobody knows is refused with the names of those that are known."""
    with pytest.raises(InvalidArgumentError, match=dialect.language):
        client.create_code_context("cobol")

"""What code writes: that it arrives, when, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
from support.processes import interpreter_of, workspace_of
from support.runs import LiveRun, until
from support.servers import ServerProcess
from support.stubs import connected, kinds

from codecontext import CodeContext, CodeContextClient, Gap, GapReason, Outcome
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1 import execution_pb2
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub
from codecontext.v1.execution_pb2 import ExecutionEvent


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose executions may write little, and whose journals hold little."""
    folder = tmp_path_factory.mktemp("narrow")
    flags = ("--max-output-bytes", "1000000", "--journal-bytes", "65536", "--pool-size", "1")
    with ServerProcess(folder, *flags) as each:
        yield each


def told(events: list[ExecutionEvent]) -> list[str]:
    """What a run has written and shown, in order: neighbouring chunks of a stream are put together."""
    story: list[tuple[str, str]] = []
    for event in events:
        kind = str(event.WhichOneof("event"))
        if kind in ("stdout", "stderr"):
            text = (event.stdout or event.stderr).decode()
            if story and story[-1][0] == kind:
                text = story.pop()[1] + text
            story.append((kind, text))
        elif kind == "result":
            plain = [part.text for part in event.result.parts if part.mime_type == "text/plain"]
            story.append(("result", *plain))  # type: ignore[arg-type]  # each has one
    return [f"{kind}:{text}" for kind, text in story]


def test_python_events_keep_their_order(client: CodeContextClient, context: CodeContext) -> None:
    """Prints to both streams, displays, shell commands and the result come in the code's order."""
    code = (
        "import sys\nprint(1)\ndisplay(2)\nprint(3, file=sys.stderr)\nprint(4)\n!echo 5; echo 6\n"
        "print(7)\n!echo 8 >&2\nprint(9, file=sys.stderr)\nget_ipython().system('echo 10')\n11"
    )
    events = list(client.run_code_stream(code, context=context))
    assert told(events) == [
        "stdout:1\n",
        "result:2",
        "stderr:3\n",
        "stdout:4\n5\n6\n7\n",
        "stderr:8\n9\n",
        "stdout:10\n",
        "result:11",
    ]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


def test_every_run_has_its_frame(client: CodeContextClient, context: CodeContext) -> None:
    """A run's first event is `started`, its last `completed`, each once; an error comes before the end."""
    for code, outcome in (("1", "SUCCEEDED"), ("1/0", "RAISED"), ("1 +", "RAISED")):
        events = list(client.run_code_stream(f"print('x')\n{code}", context=context))
        names = kinds(events)
        assert (names[0], names[-1]) == ("started", "completed")
        assert (names.count("started"), names.count("completed")) == (1, 1)
        name = execution_pb2.ExecutionOutcome.Name(events[-1].completed.outcome)
        assert name == f"EXECUTION_OUTCOME_{outcome}"
        assert names[-2] == ("error" if outcome == "RAISED" else "result")
        assert len({event.execution_id for event in events}) == 1


def test_completed_tells_what_the_run_has_used(
    client: CodeContextClient, context: CodeContext
) -> None:
    """The end of a run tells its CPU time, the memory at its peak and its duration."""
    code = "big = bytearray(300_000_000)\nimport time\nuntil = time.process_time() + 0.2\n"
    code += "while time.process_time() < until: pass"
    execution = client.run_code(code, context=context)
    assert execution.cpu_time.total_seconds() >= 0.2
    assert execution.duration.total_seconds() >= 0.2
    assert execution.peak_memory_bytes > 300_000_000
    light = client.run_code("del big", context=context)
    assert light.cpu_time < execution.cpu_time
    assert light.peak_memory_bytes >= execution.peak_memory_bytes


@pytest.mark.parametrize(
    ("code", "stdout", "stderr"),
    [
        ("import sys; print('a'); print('b', file=sys.stderr)", "a\n", "b\n"),
        ("import os; _ = os.system('echo a; echo b >&2')", "a\n", "b\n"),
        ("import subprocess; _ = subprocess.run('echo a; echo b >&2', shell=True)", "a\n", "b\n"),
        ("!echo a; echo b >&2", "a\n", "b\n"),
        ("%%bash\necho a; echo b >&2", "a\n", "b\n"),
        ("import sys; _ = sys.stdout.writelines(['a', '\\n']); sys.stderr.write('b\\n');", "a\n", "b\n"),
        ("import logging; logging.warning('w')", "", "WARNING:root:w\n"),
        ("import os; print('a', end=''); _ = os.write(2, b'b')", "a", "b"),
    ],
)  # fmt: skip
def test_streams_are_kept_apart(
    client: CodeContextClient, context: CodeContext, code: str, stdout: str, stderr: str
) -> None:
    """What was written to standard output and to standard error arrives as that, and nothing else does."""
    execution = client.run_code(code, context=context)
    assert (execution.stdout, execution.stderr) == (stdout, stderr)


def test_bytes_arrive_as_they_are(stub: CodeContextServiceStub, context: CodeContext) -> None:
    """Binary output is not decoded on its way, and text that is no Unicode is replaced."""
    code = "import sys\n_ = sys.stdout.buffer.write(bytes(range(256)))\n_ = sys.stderr.buffer.write(b'\\xff')"
    answer = stub.RunCode(pb.RunCodeRequest(context_id=context.id, code=code)).execution
    assert (answer.stdout, answer.stderr) == (bytes(range(256)), b"\xff")
    code = "print('a\\ud800b')"
    answer = stub.RunCode(pb.RunCodeRequest(context_id=context.id, code=code)).execution
    assert answer.stdout == "a\ufffdb\n".encode()


def test_a_file_like_stdout(client: CodeContextClient, context: CodeContext) -> None:
    """Standard output is what libraries expect of it: an encoding, a descriptor, no terminal."""
    code = (
        "import sys, io\n"
        "assert sys.stdout.encoding == 'utf-8' and not sys.stdout.isatty() and sys.stdout.writable()\n"
        "assert (sys.stdout.fileno(), sys.stderr.fileno()) == (1, 2)\n"
        "sys.stdout.flush(); sys.stdout.reconfigure(line_buffering=True); sys.stdout.close()\n"
        "import contextlib\n"
        "with contextlib.redirect_stdout(io.StringIO()) as caught: print('inside')\n"
        "print('outside', caught.getvalue().strip())"
    )
    execution = client.run_code(code, context=context)
    assert (execution.error, execution.stdout) == (None, "outside inside\n")


def test_shell_output_is_live(client: CodeContextClient, context: CodeContext) -> None:
    """What a shell command or a child process writes arrives while it goes on."""
    folder = workspace_of(context)
    client.run_code("import os, subprocess; os.mkfifo('go')", context=context)
    for code in (
        "!echo 1; cat go; echo 2",
        "subprocess.run('echo 1; cat go; echo 2', shell=True);",
    ):
        seen: list[str] = []

        def on_stdout(text: str, seen: list[str] = seen) -> None:
            seen.append(text)
            if len(seen) == 1:
                (folder / "go").write_text("")

        execution = client.run_code(code, context=context, on_stdout=on_stdout)
        assert execution.outcome is Outcome.SUCCEEDED
        assert seen == ["1\n", "2\n"]


def test_displays_are_live(client: CodeContextClient, context: CodeContext) -> None:
    """A display arrives while the code goes on."""
    client.run_code("import os; os.mkfifo('go')", context=context)
    go = workspace_of(context) / "go"
    execution = client.run_code(
        "display('first')\nopen('go').read()",
        context=context,
        on_result=lambda result: go.write_text("on") if not result.is_main_result else None,
    )
    assert execution.text == "'on'"


def test_threads_write_to_the_run(client: CodeContextClient, context: CodeContext) -> None:
    """What threads print during a run is all there, and no line is torn by another thread."""
    code = (
        "import sys, threading\n"
        "def work(name):\n"
        "    for number in range(500): sys.stdout.write(f'{name} {number}\\n')\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads];"
    )
    lines = client.run_code(code, context=context).stdout.splitlines()
    assert sorted(lines) == sorted(f"{name} {n}" for name in range(8) for n in range(500))


@pytest.mark.parametrize("writer", ["print('late')", "os.write(1, b'late\\n')", "display('late')"])
def test_what_comes_between_runs_is_late(
    client: CodeContextClient, context: CodeContext, writer: str
) -> None:
    """What a thread writes between two runs comes first in the next run, and is marked late."""
    client.run_code("import os, threading; os.mkfifo('go'); os.mkfifo('gone')", context=context)
    code = (
        "def wait():\n    open('go').read()\n    WRITE\n    open('gone', 'w').close()\n"
        "threading.Thread(target=wait).start()"
    ).replace("WRITE", writer)
    client.run_code(code, context=context)
    (workspace_of(context) / "go").write_text("")
    (workspace_of(context) / "gone").read_text()  # it has been written by now
    events = list(client.run_code_stream("print('now')", context=context))
    late = [event for event in events if event.late]
    assert len(late) == 1
    assert late[0].sequence == 2
    assert b"late" in late[0].SerializeToString()
    assert told([event for event in events if not event.late]) == ["stdout:now\n"]


def test_one_hundred_thousand_prints(
    stub: CodeContextServiceStub, client: CodeContextClient, context: CodeContext
) -> None:
    """100,000 prints arrive, all of them and in order, also through the unary call."""
    code = "for number in range(100_000): print(number)"
    expected = "".join(f"{number}\n" for number in range(100_000))
    execution = client.run_code(code, context=context)
    assert (execution.stdout, execution.gaps) == (expected, [])
    answer = stub.RunCode(pb.RunCodeRequest(context_id=context.id, code=code)).execution
    assert (answer.stdout.decode(), list(answer.gaps)) == (expected, [])


def test_a_slow_reader_slows_the_run_down(
    server: ServerProcess, stub: CodeContextServiceStub, context: CodeContext
) -> None:
    """200 MB for a reader that does not read wait in the interpreter: the server's memory stays flat,
    and in the end not a byte is missing."""
    process = psutil.Process(server.pid)
    progress = workspace_of(context) / "progress"
    code = (
        "import sys\nfile = open('progress', 'wb', buffering=0)\n"
        "for number in range(200):\n    sys.stdout.write(f'{number:03}' * 333_333 + '\\n')\n"
        "    file.write(b'.')"
    )
    before = process.memory_info().rss
    with LiveCall(stub, context, code) as call:
        next(call.stream)
        interpreter = interpreter_of(server, context)
        # It stands still once it has to wait: its CPU time does not grow any more.
        used = -1.0
        until(lambda: progress.exists() and progress.stat().st_size > 0)
        while (now := sum(interpreter.cpu_times()[:2])) != used:
            used = now
            for _ in range(100):
                stub.GetServerInfo(pb.GetServerInfoRequest())
        assert progress.stat().st_size < 100
        peak = process.memory_info().rss
        content, total = b"", 0
        for number, response in enumerate(call.stream):
            total += len(response.event.stdout)
            content = response.event.stdout[-100:] or content
            if number % 50 == 0:
                stub.GetServerInfo(pb.GetServerInfoRequest())
                peak = max(peak, process.memory_info().rss)
            assert not response.event.HasField("gap")
    assert total == 200 * 1_000_000
    assert content.endswith(b"199199\n")
    assert peak - before < 64 << 20


class LiveCall:
    """A raw stream of a run, which is cancelled at the end."""

    def __init__(self, stub: CodeContextServiceStub, context: CodeContext, code: str) -> None:
        """Starts the run; nothing is read before it is asked for."""
        self.stream = stub.RunCodeStream(pb.RunCodeStreamRequest(context_id=context.id, code=code))

    def __enter__(self) -> LiveCall:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.cancel()


def test_a_run_that_waits_for_its_reader_can_be_stopped(
    client: CodeContextClient, stub: CodeContextServiceStub, context: CodeContext
) -> None:
    """A run that waits for its reader is interrupted at once, and tells its reader what is missing."""
    code = "import sys\nprint('begun')\nwhile True: sys.stdout.write('x' * 60_000)"
    with LiveCall(stub, context, code) as call:
        next(call.stream)
        stopped = client.interrupt_code_context(context)
        assert (stopped.outcome, stopped.state_kept) == (Outcome.INTERRUPTED, True)
        assert client.run_code("'free'", context=context).text == "'free'"
        *_, last = call.stream
    assert last.event.HasField("completed")


@pytest.mark.parametrize("stream", [True, False])
def test_past_its_budget_output_is_counted(narrow: ServerProcess, stream: bool) -> None:
    """Past the output budget output is dropped and counted in one gap, and the run goes on to its end."""
    with CodeContextClient(narrow.target) as client, connected(narrow.target) as stub:
        context = client.create_code_context()
        code = "import sys\nfor _ in range(50): sys.stdout.write('x' * 50_000)\ndone = 1"
        if stream:
            execution = client.run_code(code, context=context)
            size, gaps = len(execution.stdout), execution.gaps
            assert execution.outcome is Outcome.SUCCEEDED
        else:
            answer = stub.RunCode(pb.RunCodeRequest(context_id=context.id, code=code)).execution
            size, gaps = len(answer.stdout), [Gap.from_proto(gap) for gap in answer.gaps]
        (gap,) = gaps
        assert gap.reason is GapReason.OUTPUT_BUDGET
        assert size <= 1_000_000
        assert size + gap.bytes == 2_500_000
        assert gap.events > 0
        assert client.run_code("done", context=context).text == "1"
        client.delete_code_context(context)


def test_a_run_may_ask_for_a_smaller_budget(
    client: CodeContextClient, context: CodeContext
) -> None:
    """A run's own budgets of bytes and of events hold; its error and its end come all the same."""
    code = "print('x' * 100, end='')\n1/0"
    execution = client.run_code(code, context=context, max_output_bytes=50)
    assert (execution.stdout, execution.outcome) == ("", Outcome.RAISED)
    assert execution.error is not None
    assert sum(gap.bytes for gap in execution.gaps) == 100
    execution = client.run_code(
        "for number in range(10): display(number)", context=context, max_output_events=3
    )
    assert [result.text for result in execution.results] == ["0", "1", "2"]
    assert [(gap.events, gap.reason) for gap in execution.gaps] == [(7, GapReason.OUTPUT_BUDGET)]


def test_watchers_replay_and_follow(client: CodeContextClient, context: CodeContext) -> None:
    """Any number of watchers see the same events from any place, during the run and after its end."""
    client.run_code("import os; os.mkfifo('go')", context=context)
    code = "print('begun\\n', end='')\nopen('go').read()\nprint('end')"
    with LiveRun(client, context, code) as run:
        run.begun()
        unfinished = client.get_execution(run.execution_id)
        assert (unfinished.outcome, unfinished.stdout) == (Outcome.UNSPECIFIED, "begun\n")
        watch = client.watch_execution(run.execution_id)
        first = next(watch)
        (workspace_of(context) / "go").write_text("")
        live = [first, *watch]
        run.end()
    whole = [event.SerializeToString(deterministic=True) for event in run.events]
    assert [event.SerializeToString(deterministic=True) for event in live] == whole
    for after in range(len(run.events) + 2):
        replay = client.watch_execution(run.execution_id, after_sequence=after)
        found = [event.SerializeToString(deterministic=True) for event in replay]
        assert found == whole[after:]
    finished = client.get_execution(run.execution_id)
    assert (finished.outcome, finished.stdout) == (Outcome.SUCCEEDED, "begun\nend\n")
    assert finished.last_sequence == run.events[-1].sequence


def test_a_late_watcher_is_told_what_it_missed(narrow: ServerProcess) -> None:
    """A watcher that comes when the oldest part is dropped gets a gap that counts it, then the rest."""
    with CodeContextClient(narrow.target) as client:
        context = client.create_code_context()
        code = "import sys\nfor _ in range(15): sys.stdout.write('x' * 60_000)"
        execution = client.run_code(code, context=context)
        events = list(client.watch_execution(execution.execution_id))
        assert events[0].HasField("gap")
        gap = events[0].gap
        assert gap.reason == execution_pb2.GAP_REASON_JOURNAL_BOUND
        assert gap.bytes + sum(len(event.stdout) for event in events) == 15 * 60_000
        assert events[0].sequence == gap.events
        following = [event.sequence for event in events[1:]]
        assert following == list(range(gap.events + 1, gap.events + 1 + len(following)))
        gathered = client.get_execution(execution.execution_id)
        assert [(each.events, each.bytes) for each in gathered.gaps] == [(gap.events, gap.bytes)]
        client.delete_code_context(context)

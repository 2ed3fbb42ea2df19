"""What a context may use, and what happens past it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import Watch, inhabitants, processes_of
from support.runs import state_of, until
from support.servers import MODES, ServerProcess, serve_command
from support.tiers import server_of

from codecontext import (
    CodeContext,
    CodeContextClient,
    CodeContextError,
    ContextFailedError,
    ContextState,
    InvalidArgumentError,
    Outcome,
    ResourceLimits,
)

MIB = 1 << 20

MANY = """
import os, time
kept = bytearray(b'x') * (60 << 20)
for _ in range(8):
    if os.fork() == 0:
        kept = bytearray(b'y') * (60 << 20)
        time.sleep(1000)
time.sleep(1000)
"""
GROW = "kept = []\nwhile True: kept.append(bytearray(b'x') * (1 << 20))"
CHILD = f"import subprocess, sys\n_ = subprocess.run([sys.executable, '-c', {GROW!r}])"


MAXIMA = {
    "memory_bytes": 4 << 30,
    "cpu_time": 100,
    "cpus": 1.5,
    "open_files": 512,
    "file_size_bytes": 64 * MIB,
    "processes": 300,
    "workspace_bytes": 2 << 30,
    "workspace_inodes": 70_000,
}
"""The most of each limit that a context may ask for, by the name of the request's field."""


@pytest.fixture(scope="module", params=MODES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server whose contexts may have no more than `MAXIMA`."""
    most = {("cpu_time_s" if name == "cpu_time" else name): most for name, most in MAXIMA.items()}
    flags = [flag for name in most for flag in (f"--max-{name.replace('_', '-')}", str(most[name]))]
    flags += ["--open-files", "256", *request.param]
    with ServerProcess(tmp_path_factory.mktemp("limits") / "state", *flags) as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of the module's server."""
    with CodeContextClient(server.target) as each:
        yield each


def limited(client: CodeContextClient, **limits: float) -> CodeContext:
    """A context with limits."""
    return client.create_code_context(resource_limits=ResourceLimits(**limits))  # type: ignore[arg-type]


def has_groups(client: CodeContextClient) -> bool:
    """Whether the server's contexts are in control groups."""
    return "memory_limit_hard" in client.get_server_info().isolation.guarantees


def unkept_limits(client: CodeContextClient) -> list[str]:
    """The limits that nothing keeps in the tier of a server."""
    in_cells = client.get_server_info().isolation.tier == "cell"
    unkept = [] if in_cells else ["processes", "workspace_bytes", "workspace_inodes"]
    return unkept + ([] if has_groups(client) else ["cpus"])


def ends_as_out_of_memory(server: ServerProcess, client: CodeContextClient, code: str) -> None:
    """Checks that code which takes too much memory ends its context alone, which says why."""
    context, other = limited(client, memory_bytes=300 * MIB), client.create_code_context()
    _, *others = processes_of(server, context)
    assert others
    with Watch(others) as watch:  # the keeper of a cell waits for the next interpreter
        run = client.run_code(code, context=context)
        assert (run.outcome, run.state_kept) == (Outcome.OUT_OF_MEMORY, False)
        assert str(300 * MIB) in run.outcome_message
        failed = client.get_code_context(context)
        assert (failed.state, failed.failure) == (ContextState.FAILED, run.outcome_message)
        assert watch.living(10) == []
    assert client.run_code("6 * 7", context=other).text == "42"
    client.restart_code_context(context)
    assert client.run_code("1", context=context).text == "1"
    assert client.run_code(GROW, context=context).outcome is Outcome.OUT_OF_MEMORY
    client.delete_code_context(context)
    assert inhabitants(context) == []


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(GROW, id="interpreter"),
        pytest.param(CHILD, id="child"),
        pytest.param(
            "import mmap\nkept = [mmap.mmap(-1, 1 << 20)]\n"
            "while True:\n kept.append(mmap.mmap(-1, 1 << 20)); kept[-1].write(b'x' * (1 << 20))",
            id="shared memory",
        ),
        pytest.param(MANY, id="many processes"),
    ],
)
def test_memory_past_the_limit_ends_the_context(
    server: ServerProcess, client: CodeContextClient, code: str
) -> None:
    """A run whose processes take too much memory ends as OUT_OF_MEMORY, and its context says why."""
    if code in {CHILD, MANY} and has_groups(client):
        pytest.skip("the kernel ends the largest process alone, see test_control_groups.py")
    ends_as_out_of_memory(server, client, code)


@pytest.mark.parametrize("tier", ["uid", "landlock"])
def test_memory_past_the_limit_ends_the_context_without_cells(tier: str, open_path: Path) -> None:
    """Where users or Landlock contain code, too much memory ends a run as OUT_OF_MEMORY just so."""
    with server_of(tier, open_path) as own, CodeContextClient(own.target) as asking:
        for code in (GROW, CHILD, MANY):
            ends_as_out_of_memory(own, asking, code)


def test_memory_under_the_limit_is_free_to_use(client: CodeContextClient) -> None:
    """Pages that forked processes share count once, and memory that was given back counts no more."""
    context = limited(client, memory_bytes=300 * MIB)
    code = (
        "import os, time\nblock = bytearray(b'x') * (110 << 20)\nread, write = os.pipe()\n"
        "children = []\n"
        "for _ in range(4):\n"
        " children.append(os.fork())\n"
        " if not children[-1]:\n"
        "  sum(block[::4096]); os.write(write, b'x'); time.sleep(1.5); os._exit(0)\n"
        "for _ in range(4): os.read(read, 1)\n"
        "for child in children: os.waitpid(child, 0)\n"
    )
    run = client.run_code(code, context=context)
    assert run.outcome is Outcome.SUCCEEDED, run
    again = "for _ in range(6): block = None; block = bytearray(b'x') * (150 << 20)"
    assert client.run_code(again, context=context).outcome is Outcome.SUCCEEDED


def test_memory_that_is_taken_between_runs_counts_too(client: CodeContextClient) -> None:
    """A thread that takes too much memory when nothing runs leaves a FAILED context that says why."""
    context = limited(client, memory_bytes=300 * MIB)
    code = (
        f"import threading, time\ndef grow():\n time.sleep(0.2)\n exec({GROW!r})\n"
        "threading.Thread(target=grow).start()"
    )
    assert client.run_code(code, context=context).outcome is Outcome.SUCCEEDED
    until(lambda: state_of(client, context) is ContextState.FAILED)
    assert "memory" in client.get_code_context(context).failure
    with pytest.raises(ContextFailedError, match="memory"):
        client.run_code("1", context=context)


def test_cpu_time_past_the_limit_ends_the_context(client: CodeContextClient) -> None:
    """CPU time counts over all runs and processes of a context, and past the limit it ends."""
    context = limited(client, cpu_time=1.5)
    burn = "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass"
    assert client.run_code(burn, context=context).outcome is Outcome.SUCCEEDED
    child = f"import subprocess, sys\n_ = subprocess.run([sys.executable, '-c', {burn!r}])"
    assert client.run_code(child, context=context).outcome is Outcome.SUCCEEDED
    run = client.run_code("while True: pass", context=context)
    assert (run.outcome, run.state_kept) == (Outcome.CRASHED, False)
    assert "1.5 s of CPU time" in run.outcome_message


@pytest.mark.parametrize("open_files", [0, 64, 256, 512])
def test_limits_may_be_wider_than_the_default(client: CodeContextClient, open_files: int) -> None:
    """A context has the limit that was asked for, wider or narrower than what its pool was made with."""
    context = limited(client, open_files=open_files)
    run = client.run_code(
        "import resource\nresource.getrlimit(resource.RLIMIT_NOFILE)", context=context
    )
    assert run.text == repr((open_files or 256, open_files or 256))
    client.delete_code_context(context)


def test_open_files_are_limited(client: CodeContextClient) -> None:
    """A process can't have more open files than its context allows, nor raise that."""
    context = limited(client, open_files=64)
    code = "kept = []\nwhile True: kept.append(open('/dev/null'))"
    error = client.run_code(code, context=context).error
    assert error is not None
    assert "Too many open files" in error.value
    counted = client.run_code("n = len(kept); kept = None; n", context=context)
    assert 40 < int(counted.text or "") < 64
    raised = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 65))"
    assert client.run_code(raised, context=context).outcome is Outcome.RAISED
    by_default = "import resource; resource.getrlimit(resource.RLIMIT_NOFILE)"
    assert client.run_code(by_default, context=client.create_code_context()).text == "(256, 256)"


def test_the_size_of_files_is_limited(client: CodeContextClient) -> None:
    """A write past the largest file fails as one to a full disk would, and the context lives."""
    context = limited(client, file_size_bytes=MIB)
    run = client.run_code(f"open('f', 'wb', 0).write(b'x' * {MIB})", context=context)
    assert run.text == str(MIB)
    error = client.run_code("open('f', 'ab', 0).write(b'x')", context=context).error
    assert error is not None
    assert "File too large" in error.value


def test_limits_are_told(client: CodeContextClient) -> None:
    """A context tells the limits that hold for it, and the server what it gives and allows."""
    info = client.get_server_info().limits
    assert info.default_resource_limits.memory_bytes == 2 << 30
    assert info.max_resource_limits.memory_bytes == 4 << 30
    assert info.max_resource_limits.open_files == 512
    context = limited(client, memory_bytes=1 << 30, cpu_time=50.0)
    limits = client.get_code_context(context).resource_limits
    assert limits == context.resource_limits
    assert (limits.memory_bytes, limits.open_files) == (1 << 30, 256)
    assert limits.cpu_time is not None
    assert client.restart_code_context(context).resource_limits == limits


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"memory_bytes": -1}, "resource_limits.memory_bytes"),
        ({"open_files": 3}, "resource_limits.open_files"),
        ({"file_size_bytes": -5}, "resource_limits.file_size_bytes"),
    ],
)
def test_limits_that_cannot_be_are_refused(
    client: CodeContextClient, limits: dict[str, float], field: str
) -> None:
    """A limit that is none is refused by its name."""
    with pytest.raises(InvalidArgumentError) as refusal:
        limited(client, **limits)
    assert [each.field for each in refusal.value.field_violations] == [field]


@pytest.mark.parametrize(("name", "most"), MAXIMA.items())
def test_no_more_than_the_maximum_is_given(
    client: CodeContextClient, name: str, most: float
) -> None:
    """A context and a sandbox may have as much as the server allows, and are refused more by the name."""
    unkept = name in unkept_limits(client)
    for create in (client.create_code_context, client.sandboxes.create):
        with pytest.raises(CodeContextError) as refusal:
            create(resource_limits=ResourceLimits(**{name: most + 1}))  # type: ignore[arg-type]
        if unkept:  # it could only be ignored
            assert refusal.value.reason == "NOT_IMPLEMENTED"
            continue
        assert isinstance(refusal.value, InvalidArgumentError)
        (violation,) = refusal.value.field_violations
        assert violation.field == f"resource_limits.{name}"
        assert "the most that this server allows" in violation.description
    if not unkept:
        client.delete_code_context(limited(client, **{name: most}))


def test_what_cannot_be_limited_is_refused(client: CodeContextClient) -> None:
    """A limit that this server could only ignore is refused, however small."""
    for name in unkept_limits(client):
        with pytest.raises(CodeContextError) as refusal:
            limited(client, **{name: 1})
        assert refusal.value.reason == "NOT_IMPLEMENTED"


def test_processes_are_limited(client: CodeContextClient) -> None:
    """A sandbox can't have more processes than it may, whatever they do; its neighbours can."""
    if "process_limit" not in client.get_server_info().isolation.guarantees:
        pytest.skip("this server does not promise it")
    context, other = limited(client, processes=20), client.create_code_context()
    bomb = (
        "import os, time\nmade = 0\nwhile True:\n"
        "    if os.fork() == 0: time.sleep(1000)\n    made += 1"
    )
    error = client.run_code(bomb, context=context).error
    assert error is not None
    assert error.name == "BlockingIOError"
    assert int(client.run_code("made", context=context).text or "") <= 20
    assert client.run_code("import os; os.system('true')", context=other).text == "0"


def test_the_workspace_is_limited(client: CodeContextClient) -> None:
    """A workspace that is full says so, by bytes and by files, and room that was made can be used."""
    if "disk_limit" not in client.get_server_info().isolation.guarantees:
        pytest.skip("this server does not promise it")
    context = limited(client, workspace_bytes=4 * MIB, workspace_inodes=50)
    error = client.run_code(f"open('f', 'wb', 0).write(b'x' * {5 * MIB})", context=context).error
    full = client.run_code("open('g', 'wb', 0).write(b'x')", context=context).error
    assert error is None
    assert full is not None
    assert "No space left" in full.value
    files = "import os\nos.remove('f')\nfor n in range(100): open(f'file{n}', 'w').close()"
    error = client.run_code(files, context=context).error
    assert error is not None
    assert "No space left" in error.value
    assert (
        client.run_code("os.remove('file0'); open('again', 'w').close()", context=context).error
        is None
    )


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """A server whose default is more than its maximum does not start, and says so."""
    flags = ("--memory-bytes", "2GiB", "--max-memory-bytes", "1GiB")
    command = serve_command(tmp_path / "state", *flags)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "memory_bytes: is more than max_memory_bytes" in ended.stderr

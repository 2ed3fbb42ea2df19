"""Control groups of contexts: what the kernel limits by itself, and that none of them is left."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine import skip, why_no_memory_groups
from support.processes import interpreter_of
from support.runs import until
from support.servers import ServerProcess

from codecontext import (
    CodeContext,
    CodeContextClient,
    CodeContextError,
    ContextState,
    InvalidArgumentError,
    Outcome,
    ResourceLimits,
)
from codecontext_service.workers.control_groups import own_group

MIB = 1 << 20
LIMIT = 300 * MIB
GROW = "kept = []\nwhile True: kept.append(bytearray(b'x') * (1 << 20))"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose contexts are in control groups."""
    with ServerProcess(tmp_path_factory.mktemp("groups") / "state") as process:
        with CodeContextClient(process.target) as client:
            if "memory_limit_hard" not in client.get_server_info().isolation.guarantees:
                skip("there are no control groups", proof=why_no_memory_groups())
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of the module's server."""
    with CodeContextClient(server.target) as each:
        yield each


def limited(client: CodeContextClient, **limits: float) -> CodeContext:
    """A context with limits."""
    return client.create_code_context(resource_limits=ResourceLimits(**limits))  # type: ignore[arg-type]


def folders() -> set[Path]:
    """Where servers that this process starts have their groups."""
    found = set()
    for controller in ("memory", "cpu", "cpuacct"):
        found.add(Path(own_group(controller)[0]))
    return found


def groups_of(pid: int) -> set[Path]:
    """The groups that a server has of its own."""
    return {group for folder in folders() for group in folder.glob(f"codecontext-{pid}-*")}


def groups_with(server: ServerProcess, context: CodeContext) -> set[Path]:
    """The groups that the interpreter of a context is in."""
    pid = interpreter_of(server, context).pid
    return {
        group
        for own in groups_of(server.pid)
        for group in own.iterdir()
        if group.is_dir() and str(pid) in (group / "cgroup.procs").read_text().split()
    }


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(
            "import os\nfd = os.memfd_create('m')\nwhile True: os.write(fd, b'x' * (1 << 20))",
            id="memfd",
        ),
        pytest.param(
            "with open('/tmp/file', 'wb') as file:\n"
            "    for _ in range(400): file.write(b'x' * (1 << 20))",
            id="tmpfs",
        ),
        pytest.param(
            "import mmap\nblock = mmap.mmap(-1, 400 << 20)\n"
            "for at in range(0, 400 << 20, 4096): block[at] = 1",
            id="shared memory",
        ),
    ],
)
def test_memory_that_no_process_holds_counts(client: CodeContextClient, code: str) -> None:
    """Files in memory count as memory, and past the limit the run ends as OUT_OF_MEMORY."""
    context = limited(client, memory_bytes=LIMIT)
    run = client.run_code(code, context=context)
    assert (run.outcome, run.state_kept) == (Outcome.OUT_OF_MEMORY, False), run
    assert str(LIMIT) in run.outcome_message
    assert client.get_code_context(context).state is ContextState.FAILED
    client.delete_code_context(context)


def test_a_child_that_takes_too_much_is_killed_alone(client: CodeContextClient) -> None:
    """A child that is killed for want of memory leaves the interpreter and its state alive."""
    context = limited(client, memory_bytes=LIMIT)
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {GROW!r}]).returncode"
    run = client.run_code(code, context=context)
    assert (run.outcome, run.text) == (Outcome.SUCCEEDED, "-9"), run
    killed = client.run_code("import os; os.kill(os.getpid(), 9)", context=context)
    assert killed.outcome is Outcome.CRASHED, "it was the code, and not want of memory"


def test_processes_together_stay_under_the_limit(client: CodeContextClient) -> None:
    """Children that are small each are killed until all together use no more than the limit."""
    context = limited(client, memory_bytes=LIMIT)
    code = (
        "import os, signal, time\nends = []\npids = []\n"
        "for _ in range(10):\n"
        "    read, write = os.pipe()\n"
        "    pids.append(os.fork())\n"
        "    if pids[-1] == 0:\n"
        "        kept = bytearray(b'y') * (60 << 20); os.write(write, b'x'); time.sleep(1000)\n"
        "    os.close(write); ends.append(read)\n"
        "for end in ends: os.read(end, 1)\n"  # a byte, or the end of it: either way it is decided
        "killed = sum(os.waitpid(pid, os.WNOHANG)[0] != 0 for pid in pids)\n"
        "killed"
    )
    run = client.run_code(code, context=context)
    assert run.outcome is Outcome.SUCCEEDED, run
    assert 5 <= int(run.text or "") <= 9


def test_processors_are_shared_out(client: CodeContextClient) -> None:
    """Processes that may have half a processor together take 2 s for 1 s of CPU time, or longer."""
    context = limited(client, cpus=0.5)
    code = (
        "import os, time\nbegin = time.monotonic()\nchild = os.fork()\n"
        "end = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
        "if child == 0: os._exit(0)\n"
        "_ = os.waitpid(child, 0)\n"
        "time.monotonic() - begin"
    )
    run = client.run_code(code, context=context)
    assert float(run.text or "") > 1.6, run
    assert context.resource_limits is not None
    assert context.resource_limits.cpus == 0.5


@pytest.mark.parametrize("cpus", [-1.0, 0.001, float("nan"), float("inf")])
def test_no_share_of_processors(client: CodeContextClient, cpus: float) -> None:
    """A share of processors that can't be is refused by its name."""
    with pytest.raises(InvalidArgumentError) as refusal:
        limited(client, cpus=cpus)
    assert {each.field for each in refusal.value.field_violations} == {"resource_limits.cpus"}


def test_cpu_time_of_a_restarted_context_adds_up(client: CodeContextClient) -> None:
    """CPU time of interpreters that a context had before counts too."""
    context = client.create_code_context()
    client.run_code(
        "import time\nwhile time.process_time() < 0.5: pass\nimport os; os._exit(1)",
        context=context,
    )
    client.restart_code_context(context)
    usage = client.get_code_context(context).resource_usage
    assert usage is not None
    assert usage.cpu_time.total_seconds() > 0.4


def test_nothing_is_left_of_contexts(server: ServerProcess, client: CodeContextClient) -> None:
    """When a delete has succeeded, the context's control groups are gone, however it has ended."""
    chance = random.Random(7)
    endings = (
        "import os; os._exit(3)",
        "import os; os.kill(os.getpid(), 9)",
        "import os\nif os.fork() == 0: os.setsid(); os.execvp('sleep', ['sleep', '1000'])",
        "open('/tmp/file', 'w').write('x' * 100_000)",
        "1",
    )
    for _ in range(100):
        context = client.create_code_context()
        groups = groups_with(server, context)
        assert len(groups) == len(folders())
        client.run_code(chance.choice(endings), context=context)
        if chance.random() < 0.2:
            client.restart_code_context(context)
            assert groups_with(server, context) == groups
        client.delete_code_context(context)
        assert not any(group.exists() for group in groups)


def test_nothing_is_left_of_a_server(tmp_path: Path) -> None:
    """A server that is told to stop removes all its control groups, of contexts that live too."""
    with ServerProcess(tmp_path / "state") as server:
        with CodeContextClient(server.target) as client:
            client.create_code_context()
            if not groups_of(server.pid):
                skip("there are no control groups", proof=why_no_memory_groups())
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert not groups_of(server.pid)


def test_the_next_server_removes_what_a_dead_one_has_left(tmp_path: Path) -> None:
    """The control groups of a server that was killed go when the next one starts, those of others stay."""
    with ServerProcess(tmp_path / "other") as other, ServerProcess(tmp_path / "dead") as dead:
        if not (kept := groups_of(other.pid)):
            skip("there are no control groups", proof=why_no_memory_groups())
        with CodeContextClient(dead.target) as client:
            client.create_code_context()
        assert groups_of(dead.pid)
        dead.process.kill()
        dead.process.wait()
        with ServerProcess(tmp_path / "next"):
            assert not groups_of(dead.pid)
            assert groups_of(other.pid) == kept
        with CodeContextClient(other.target) as client:
            assert client.run_code("6 * 7").text == "42"


COVERED = "mount -t tmpfs none /sys/fs/cgroup"
READ_ONLY = "for each in /sys/fs/cgroup/*; do mount -o remount,bind,ro $each || exit 1; done"


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to mount")
@pytest.mark.parametrize("how", [COVERED, READ_ONLY], ids=["covered", "read-only"])
def test_a_machine_without_control_groups(tmp_path: Path, how: str) -> None:
    """Where no group can be made, the watchdog limits memory, and what is not kept is not promised."""
    prefix = ("unshare", "--mount", "sh", "-c", f'{how}; exec "$@"', "sh")
    with (
        ServerProcess(tmp_path / "state", prefix=prefix) as server,
        CodeContextClient(server.target) as client,
    ):
        server.wait_for_log("contexts are not fully contained", missing="memory_limit_hard")
        assert not groups_of(server.pid)
        assert "memory_limit_hard" not in client.get_server_info().isolation.guarantees
        assert "memory_limit_soft" in client.get_server_info().isolation.guarantees
        with pytest.raises(CodeContextError) as refusal:
            limited(client, cpus=0.5)
        assert refusal.value.reason == "NOT_IMPLEMENTED"
        context = limited(client, memory_bytes=LIMIT)
        run = client.run_code("import os\nos.memfd_create('m')", context=context)
        assert run.error is not None, "it would count for nobody"
        assert run.error.name == "PermissionError"
        run = client.run_code(GROW, context=context)
        assert (run.outcome, run.state_kept) == (Outcome.OUT_OF_MEMORY, False)
        client.delete_code_context(context)
        assert client.run_code("6 * 7").text == "42"


def test_a_context_is_in_its_group_before_it_runs(
    server: ServerProcess, client: CodeContextClient
) -> None:
    """Each context has groups of its own from its first moment, and so has all that it starts."""
    contexts = [client.create_code_context() for _ in range(5)]
    groups = [frozenset(groups_with(server, context)) for context in contexts]
    assert len(set(groups)) == len(contexts)
    run = client.run_code(
        "import subprocess\nchild = subprocess.Popen(['sleep', '1000'])", context=contexts[0]
    )
    assert run.outcome is Outcome.SUCCEEDED
    for group in groups[0]:
        until(lambda group=group: len((group / "cgroup.procs").read_text().split()) == 2)  # type: ignore[misc]
    for context in contexts:
        client.delete_code_context(context)

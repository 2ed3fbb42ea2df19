"""What a context uses, as `GetCodeContext` measures it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from support.processes import keeper_of, stopped
from support.runs import usage_of
from support.servers import MODES, ServerProcess
from support.tiers import server_of
from support.users import open_folder

from codecontext import CodeContextClient, ContextState

MIB = 1 << 20

WITHOUT_CELLS = ("uid", "landlock")

pytestmark = pytest.mark.parametrize("own_server", [*MODES, *WITHOUT_CELLS], indirect=True)


@pytest.fixture(scope="module")
def own_server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A server of each mode, and of each tier without cells."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        if request.param in WITHOUT_CELLS:
            yield stack.enter_context(server_of(request.param, folder))
        else:
            flags = ("--pool-size", "1", *request.param)
            yield stack.enter_context(ServerProcess(folder / "state", *flags))


@pytest.fixture
def own(own_server: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of that server."""
    with CodeContextClient(own_server.target) as each:
        yield each


def test_memory_that_is_taken_shows(own: CodeContextClient) -> None:
    """Memory that the code takes is counted as its own, and no more when it is given back."""
    context, other = own.create_code_context(), own.create_code_context()
    before, before_elsewhere = usage_of(own, context), usage_of(own, other)
    own.run_code(f"block = bytearray({200 * MIB})", context=context)
    taken = usage_of(own, context)
    assert 190 * MIB < taken.memory_own_bytes - before.memory_own_bytes < 230 * MIB
    assert taken.memory_bytes - before.memory_bytes > 190 * MIB
    assert taken.memory_bytes > taken.memory_own_bytes
    own.run_code("del block", context=context)
    assert usage_of(own, context).memory_own_bytes - before.memory_own_bytes < 30 * MIB
    assert usage_of(own, other).memory_own_bytes - before_elsewhere.memory_own_bytes < 30 * MIB


def test_processes_are_counted(own: CodeContextClient) -> None:
    """The interpreter counts as one process, its children and daemons as one each."""
    context = own.create_code_context()
    assert usage_of(own, context).processes == 1
    own.run_code(
        "import subprocess\nchild = subprocess.Popen(['sleep', '1000'])\n"
        "!setsid sleep 1000 > /dev/null 2>&1 &",
        context=context,
    )
    assert usage_of(own, context).processes == 3
    own.run_code("child.kill(); child.wait()", context=context)
    assert usage_of(own, context).processes == 2


def test_cpu_time_adds_up(own: CodeContextClient) -> None:
    """CPU time counts the interpreter's, its children's, and that of orphans which have ended."""
    context = own.create_code_context()
    burn = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    before = usage_of(own, context).cpu_time.total_seconds()
    own.run_code(burn, context=context)
    own.run_code(f"import subprocess, sys\nrun = [sys.executable, '-c', {burn!r}]", context=context)
    own.run_code("_ = subprocess.run(run)", context=context)
    orphan = (
        "import os\nread, write = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0: os.execv(run[0], run)\n"
        "    os._exit(0)\n"
        "os.wait()\nos.close(write)\nos.read(read, 1)"
    )
    own.run_code(
        orphan.replace("os.pipe()", "os.pipe(); os.set_inheritable(write, True)"), context=context
    )
    assert usage_of(own, context).cpu_time.total_seconds() - before > 1.15
    assert usage_of(own, context).processes == 1


def test_what_runs_can_be_measured(own: CodeContextClient) -> None:
    """A context that executes is measured too, and one that has failed has nothing to measure."""
    context = own.create_code_context()
    for answer in own.run_code_stream(
        "print('1\\n', end=''); import time; time.sleep(1000)", context=context
    ):
        if answer.stdout:
            found = own.get_code_context(context)
            assert found.state is ContextState.EXECUTING
            assert found.resource_usage is not None
            assert found.resource_usage.processes == 1
            own.interrupt_code_context(context)
    own.run_code("import os; os._exit(3)", context=context)
    found = own.get_code_context(context)
    assert (found.state, found.resource_usage) == (ContextState.FAILED, None)


def test_a_keeper_that_is_stopped_costs_the_figure_alone(
    own_server: ServerProcess, own: CodeContextClient
) -> None:
    """Where nobody can measure, the context is answered without a figure, not with a guess."""
    context = own.create_code_context()
    own.run_code("1", context=context)
    with stopped(keeper_of(own_server, context)):
        found = own.get_code_context(context)
        assert (found.state, found.resource_usage) == (ContextState.IDLE, None)
    assert usage_of(own, context).processes == 1

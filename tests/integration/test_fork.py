"""Forks: contexts with a copy of all the state of an idle one, which then live by themselves."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
from support.leftovers import LEFTOVERS, start
from support.processes import Watch, interpreter_of, keeper_of, processes_of
from support.runs import LiveRun, answer_of, state_of, until
from support.servers import MODES, PRELOADED, ServerProcess, host_pid
from support.stubs import connected, refusal_of

from codecontext import (
    AsyncCodeContextClient,
    CodeContext,
    CodeContextClient,
    CodeContextError,
    ContextExecutingError,
    ContextFailedError,
    ContextHasThreadsError,
    ContextState,
    ForkUnsupportedError,
    InvalidArgumentError,
    Outcome,
    QuotaExceededError,
)
from codecontext.resources import ResourceLimits
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1 import execution_pb2
from codecontext_service.workers.landlock import abi

MIB = 1 << 20

pytestmark = pytest.mark.parametrize("forking", MODES, indirect=True)


@pytest.fixture(scope="module")
def forking(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server of each mode that the tests of this module share; at the end nothing may be left."""
    folder = tmp_path_factory.mktemp("state")
    flags = (
        "--pool-size",
        "2",
        "--create-deadline-s",
        "5",
        "--max-contexts",
        "128",
        *request.param,
    )
    with ServerProcess(folder, *flags, "--preload", PRELOADED) as process:
        yield process
        descendants = process.descendants()
        assert process.stop() == 0
        assert not [left for left in descendants if left.is_running()]


@pytest.fixture
def own(forking: ServerProcess) -> Iterator[CodeContextClient]:
    """A client; the contexts that a test leaves are deleted after it."""
    with CodeContextClient(forking.target) as client:
        yield client
        for context in client.list_code_contexts():
            client.delete_code_context(context, force=True)


@pytest.fixture
def parent(own: CodeContextClient) -> CodeContext:
    """A context with some state."""
    context = own.create_code_context(env_vars={"COLOR": "red"}, labels={"user": "ada"})
    own.run_code(
        "import json, os\nx = [1, 2]\ngenerator = iter(range(5)); _ = next(generator)\n"
        "os.environ['SIZE'] = 'big'; os.makedirs('sub', exist_ok=True); os.chdir('sub')\n"
        "def square(n): return n * n",
        context=context,
    )
    return context


def value(client: CodeContextClient, context: CodeContext, code: str) -> str:
    """The value of an expression in a context."""
    run = client.run_code(code, context=context)
    assert run.outcome is Outcome.SUCCEEDED, run.error or run.outcome_message
    return run.text or ""


def fork(client: CodeContextClient, context: CodeContext) -> CodeContext:
    """One copy."""
    (child,) = client.fork_code_context(context)
    return child


# What a copy has


def test_a_copy_has_all_the_state(own: CodeContextClient, parent: CodeContext) -> None:
    """Variables, imports, functions, open computations, environment, directory and count are copied."""
    (child,) = own.fork_code_context(parent, labels={"trial": "1"})
    assert (
        value(own, child, "x, next(generator), square(4), json.dumps(1)") == "([1, 2], 1, 16, '1')"
    )
    seen = value(
        own, child, "os.environ['COLOR'], os.environ['SIZE'], os.path.basename(os.getcwd())"
    )
    assert seen == "('red', 'big', 'sub')"
    assert child.parent_context_id == parent.id
    assert child.id != parent.id
    assert child.sandbox_id == parent.sandbox_id
    assert child.labels == {"trial": "1"}
    assert child.state is ContextState.IDLE
    assert child.execution_count == 1
    assert own.get_code_context(child).execution_count == 3
    assert own.get_code_context(parent).execution_count == 1


def test_parent_and_copy_live_on_by_themselves(own: CodeContextClient, parent: CodeContext) -> None:
    """What one of them changes the other does not see; files they share."""
    child = fork(own, parent)
    own.run_code("x.append(3); open('from child', 'w').close()", context=child)
    own.run_code("x.append(4)", context=parent)
    assert value(own, parent, "x, next(generator)") == "([1, 2, 4], 1)"
    assert value(own, child, "x, next(generator)") == "([1, 2, 3], 1)"
    assert value(own, parent, "os.listdir()") == "['from child']"


@pytest.mark.parametrize("first", ["parent", "child"])
def test_each_can_be_deleted_first(
    forking: ServerProcess, own: CodeContextClient, parent: CodeContext, first: str
) -> None:
    """A delete of one leaves the other; the files go with the last one."""
    child = fork(own, parent)
    gone, left = (parent, child) if first == "parent" else (child, parent)
    with Watch([interpreter_of(forking, gone)]) as watch:
        own.delete_code_context(gone)
        assert watch.living() == []
    assert answer_of(own.delete_code_context, gone) == "CONTEXT_DELETED"
    assert value(own, left, "x.append(5); os.path.exists('../sub'), x") == "(True, [1, 2, 5])"
    with Watch(processes_of(forking, left)) as watch:
        own.delete_code_context(left)
        assert watch.living() == []


def test_copies_in_many_cells_are_deleted_at_once(
    forking: ServerProcess, own: CodeContextClient
) -> None:
    """Deletes of a copy in each of many cells at once are as fast as others: they don't hinder each other."""
    # Without cells each keeper has to look through all of the machine's processes.
    many = 12 if "--no-pid-namespaces" in forking.flags else 64
    parents = [own.create_code_context() for _ in range(many)]
    copies = [fork(own, each) for each in parents]
    with ThreadPoolExecutor(many) as pool:
        list(pool.map(own.delete_code_context, copies))
    assert value(own, parents[0], "1 + 1") == "2"


def test_many_copies_in_one_call(own: CodeContextClient, parent: CodeContext) -> None:
    """64 copies come from one call, each by itself, and a copy of a copy has the state of its own parent."""
    children = own.fork_code_context(parent, count=64)
    assert len({child.id for child in children}) == 64
    own.run_code("x = 'changed'", context=children[7])
    grandchildren = own.fork_code_context(children[7], count=2)
    assert [value(own, each, "x") for each in grandchildren] == ["'changed'"] * 2
    assert value(own, children[8], "x") == "[1, 2]"
    assert len({value(own, each, "os.getpid()") for each in children}) == 64
    own.delete_code_context(children[7])
    assert value(own, grandchildren[0], "x, os.getcwd().endswith('sub')") == "('changed', True)"


def test_trees_of_copies(forking: ServerProcess, own: CodeContextClient) -> None:
    """Whatever is forked, run, restarted, crashed and deleted in whatever order: each context has its own
    state, and at the end nothing is left."""
    rng = random.Random(
        MODES.index(next(m for m in MODES if set(m.values[0]) <= set(forking.flags)))
    )
    rng = random.Random(rng.random())
    root = own.create_code_context()
    with Watch([keeper_of(forking, root)]) as watch:
        expected: dict[str, tuple[CodeContext, list[int] | None]] = {root.id: (root, [])}
        own.run_code("import os, subprocess\npath = []", context=root)
        for number in range(40):
            context, path = rng.choice(list(expected.values()))
            action = rng.choice(
                ["fork", "fork", "fork", "run", "delete", "restart", "crash", "daemon"]
            )
            if path is None:
                action = rng.choice(["restart", "delete"])
            if action == "fork":
                for child in own.fork_code_context(context, count=rng.randint(1, 2)):
                    expected[child.id] = (child, list(path or []))
            elif action == "run":
                own.run_code(f"path.append({number})", context=context)
                expected[context.id] = (context, [*(path or []), number])
            elif action == "daemon":
                own.run_code(
                    "_ = subprocess.Popen(['sleep', '1000'], start_new_session=True)",
                    context=context,
                )
            elif action == "restart":
                own.restart_code_context(context)
                own.run_code("import os, subprocess\npath = []", context=context)
                expected[context.id] = (context, [])
            elif action == "crash":
                own.run_code("os._exit(1)", context=context)
                expected[context.id] = (context, None)
            elif len(expected) > 1:
                own.delete_code_context(context)
                del expected[context.id]
            if number % 8 == 0:
                for context, path in expected.values():
                    if path is not None:
                        assert value(own, context, "path") == str(path)
        left = [context for context, _ in expected.values()]
        rng.shuffle(left)
        with Watch(processes_of(forking, left[0])) as all_of_them:
            for context in left:
                own.delete_code_context(context)
            assert all_of_them.living() == []
        assert watch.living() == []


# What a delete ends


@pytest.mark.parametrize("leftover", LEFTOVERS)
@pytest.mark.parametrize("whose", ["parent", "child"])
def test_a_delete_ends_what_is_its_own_and_nothing_else(
    forking: ServerProcess,
    own: CodeContextClient,
    parent: CodeContext,
    leftover: str,
    whose: str,
) -> None:
    """All that a context started is gone, daemons and those that fork on too; its relatives' live on."""
    child = fork(own, parent)
    sibling = fork(own, parent)
    gone, left = (parent, child) if whose == "parent" else (child, parent)
    daemon = "import os, subprocess\nkept = subprocess.Popen(['setsid', 'sleep', '1000'])\nkept.pid"
    kept = [int(value(own, each, daemon)) for each in (left, sibling)]
    before = {each.pid for each in processes_of(forking, left)}
    ended = interpreter_of(forking, gone).pid
    start(own, gone, leftover)
    own.delete_code_context(gone)
    assert {each.pid for each in processes_of(forking, left)} == before - {ended}
    for pid in kept:
        there = host_pid(pid, psutil.Process(forking.pid))
        assert there is not None
        assert psutil.Process(there).name() in ("sleep", "setsid")
    assert value(own, sibling, "x, kept.poll()") == "([1, 2], None)"


def test_a_crash_takes_nothing_else(
    forking: ServerProcess, own: CodeContextClient, parent: CodeContext
) -> None:
    """How a copy ends is told as of any context, whoever its parent is; the others live on."""
    child, sibling = own.fork_code_context(parent, count=2)
    grandchild = fork(own, child)
    crash = own.run_code("os._exit(3)", context=child)
    assert crash.outcome is Outcome.CRASHED
    assert "status 3" in crash.outcome_message
    assert value(own, grandchild, "x") == "[1, 2]"
    crash = own.run_code("os.kill(os.getpid(), 11)", context=grandchild)
    assert "SIGSEGV" in crash.outcome_message
    own.run_code("os.abort()", context=parent)
    assert state_of(own, parent) == "FAILED"
    assert value(own, sibling, "x") == "[1, 2]"
    crash = own.run_code("os._exit(4)", context=sibling)  # an orphan by now
    assert "status 4" in crash.outcome_message
    with pytest.raises(ContextFailedError):
        own.fork_code_context(parent)


def test_a_copy_can_end_while_its_parent_runs(own: CodeContextClient, parent: CodeContext) -> None:
    """A parent that runs code does not keep its copies from ending, and how they ended is told all the same."""
    crashing, deleted = own.fork_code_context(parent, count=2)
    with LiveRun(own, parent) as live:
        live.begun()
        crash = own.run_code("os._exit(5)", context=crashing)
        assert "status 5" in crash.outcome_message
        own.delete_code_context(deleted)
        own.interrupt_code_context(parent)
    assert value(own, parent, "x") == "[1, 2]"


def test_the_codes_own_children_stay_its_own(own: CodeContextClient, parent: CodeContext) -> None:
    """That copies are reaped takes no exit status from the code, and a copy waits for none of its parent's."""
    own.run_code("import subprocess\nsleep = subprocess.Popen(['sleep', '1000'])", context=parent)
    child = fork(own, parent)
    own.run_code("os._exit(0)", context=child)
    statuses = value(
        own, parent, "[subprocess.run(['sh', '-c', f'exit {n}']).returncode for n in range(5)]"
    )
    assert statuses == "[0, 1, 2, 3, 4]"
    assert value(own, parent, "sleep.poll(), sleep.kill(), sleep.wait()") == "(None, None, -9)"


def test_a_parent_that_waits_for_all_children_goes_on(
    own: CodeContextClient, parent: CodeContext
) -> None:
    """`os.wait()` may take a copy's status: then nobody can tell it, and the copy counts as killed."""
    child = fork(own, parent)
    own.run_code("import signal; _ = signal.signal(signal.SIGCHLD, signal.SIG_DFL)", context=parent)
    with LiveRun(own, parent, "print('begun', flush=True); status = os.wait()[1]") as live:
        live.begun()
        crash = own.run_code("os._exit(6)", context=child)
        assert crash.outcome is Outcome.CRASHED
    assert value(own, parent, "os.waitstatus_to_exitcode(status)") == "6"
    own.delete_code_context(child)


def test_restarts(own: CodeContextClient, parent: CodeContext) -> None:
    """A restart of a copy, or of its parent, leaves the other; the files stay."""
    child = fork(own, parent)
    own.run_code("open('kept', 'w').close()", context=child)
    own.restart_code_context(child)
    assert value(
        own, child, "import os; sorted(globals().get('x', 'none')), os.listdir('sub')"
    ) == ("(['e', 'n', 'n', 'o'], ['kept'])")
    assert value(own, parent, "x") == "[1, 2]"
    own.run_code("x = 'child'", context=child)
    grandchild = fork(own, child)
    own.restart_code_context(parent)
    assert value(own, grandchild, "x") == "'child'"
    own.delete_code_context(child)
    own.delete_code_context(parent)
    assert value(own, grandchild, "x") == "'child'"


def test_an_interrupt_stops_one_run(own: CodeContextClient, parent: CodeContext) -> None:
    """An interrupt of a copy stops what runs there, and not what runs in its parent."""
    child = fork(own, parent)
    with LiveRun(own, parent) as above, LiveRun(own, child) as below:
        above.begun()
        own.interrupt_code_context(below.begun() and child)
        assert below.end().outcome == execution_pb2.EXECUTION_OUTCOME_INTERRUPTED
        assert state_of(own, parent) == "EXECUTING"
        own.interrupt_code_context(parent)
        assert above.end().outcome == execution_pb2.EXECUTION_OUTCOME_INTERRUPTED
    assert value(own, child, "x") == "[1, 2]"


# What is put right in a copy


def test_random_numbers_differ(own: CodeContextClient, parent: CodeContext) -> None:
    """Copies draw other random numbers than their parent, whatever it was seeded with."""
    own.run_code("import random, numpy; random.seed(1); numpy.random.seed(1)", context=parent)
    children = own.fork_code_context(parent, count=4)
    draw = "random.random(), numpy.random.random(), numpy.random.default_rng().random()"
    drawn = [value(own, each, draw) for each in (parent, *children)]
    assert len({number for each in drawn for number in each.strip("()").split(", ")}) == 15
    assert drawn[0].startswith("(0.13436424411240122, 0.417022004702574")


def test_output_comes_once_and_to_its_own(own: CodeContextClient, parent: CodeContext) -> None:
    """Nothing that was written before a fork comes again; later output comes to the context that made it."""
    before = own.run_code(
        "import ctypes, subprocess, sys\nlibc = ctypes.CDLL(None)\n"
        "_ = libc.printf(b'C '); print('python', end=' ')\nstream = sys.stdout\n"
        "saved = os.dup(1)",
        context=parent,
    )
    assert sorted(before.stdout.split()) == ["C", "python"]
    child = fork(own, parent)
    each = (
        "_ = libc.printf(b'C\\n'); print('stream', file=stream); _ = os.write(1, b'fd\\n')\n"
        "_ = os.write(saved, b'saved\\n')\n"
        "_ = subprocess.run(['echo', 'process']); print('err', file=sys.stderr)"
    )
    for context in (child, parent):
        run = own.run_code(each, context=context)
        assert sorted(run.stdout.split()) == ["C", "fd", "process", "saved", "stream"]
        assert run.stderr == "err\n"


def test_no_descriptor_of_the_parents_is_left(
    own: CodeContextClient, forking: ServerProcess, parent: CodeContext
) -> None:
    """A copy has neither the channel nor the output pipes of its parent, nor of another copy."""
    children = own.fork_code_context(parent, count=3)

    def links(context: CodeContext) -> set[str]:
        folder = Path(f"/proc/{interpreter_of(forking, context).pid}/fd")
        found = {str(each.readlink()) for each in folder.iterdir()}
        return {each for each in found if each.startswith(("socket:", "pipe:"))}

    seen: set[str] = set()
    for context in (parent, *children):
        mine = links(context)
        assert len(mine) == 3
        assert not mine & seen
        seen |= mine


def test_asyncio_goes_on(own: CodeContextClient, parent: CodeContext) -> None:
    """Top-level `await` works in parent and copies, with what was pending before, and each for itself."""
    own.run_code(
        "import asyncio, socket\none, other = socket.socketpair(); one.setblocking(False)\n"
        "event = asyncio.Event()\nasync def wait():\n    await event.wait(); return 'done'\n"
        "task = asyncio.create_task(wait()); await asyncio.sleep(0)",
        context=parent,
    )
    child = fork(own, parent)
    for context in (child, parent):
        code = (
            "event.set(); result = await task\n"
            "process = await asyncio.create_subprocess_exec('echo', 'hi', stdout=-1)\n"
            "(await process.communicate())[0], result"
        )
        if context is child:
            assert value(own, context, "await asyncio.sleep(0.01); event.is_set()") == "False"
        assert value(own, context, code) == "(b'hi\\n', 'done')"
    assert value(own, child, "asyncio.run(asyncio.sleep(0, 7))") == "7"


def test_libraries_know_the_process(own: CodeContextClient, parent: CodeContext) -> None:
    """What knows its process (multiprocessing, temporary names, unique ids) knows the copy's own."""
    own.run_code(
        "import multiprocessing, tempfile, uuid, secrets, ssl\n"
        "fork_ = multiprocessing.get_context('fork')\n"
        "worker = fork_.Process(target=print); worker.start(); worker.join()\n"
        "sleeper = fork_.Process(target=__import__('time').sleep, args=(1000,)); sleeper.start()\n"
        "_ = tempfile.mktemp(), uuid.uuid4()",
        context=parent,
    )
    children = own.fork_code_context(parent, count=2)
    code = "next(tempfile._get_candidate_names()), uuid.uuid4().hex, secrets.token_hex(), ssl.RAND_bytes(8)"
    assert len({value(own, each, code) for each in (parent, *children)}) == 3
    children_of = "len(multiprocessing.active_children())"
    assert [value(own, each, children_of) for each in (parent, *children)] == ["1", "0", "0"]
    square = "with fork_.Pool(2) as pool: squares = pool.map(square, [1, 2, 3])\nsquares"
    assert value(own, children[0], square) == "[1, 4, 9]"


# Memory and limits


def test_memory_is_shared_until_it_changes(own: CodeContextClient, parent: CodeContext) -> None:
    """Copies of a large context take little memory of their own, until they change what they have."""
    own.run_code(f"import numpy; block = numpy.ones({200 * MIB // 8})", context=parent)
    children = own.fork_code_context(parent, count=4)
    for child in children:
        usage = own.get_code_context(child).resource_usage
        assert usage is not None
        assert usage.memory_own_bytes < 20 * MIB
        assert usage.memory_bytes > 200 * MIB
        assert usage.processes == 1
    own.run_code(f"block[:{100 * MIB // 8}] = 2", context=children[0])
    usage = own.get_code_context(children[0]).resource_usage
    assert usage is not None
    assert 95 * MIB < usage.memory_own_bytes < 140 * MIB
    assert value(own, children[1], "block.sum() == len(block)") == "np.True_"


def test_limits_are_each_contexts_own(own: CodeContextClient, parent: CodeContext) -> None:
    """A copy that uses too much is ended alone; its limits are its parent's, or lower."""
    try:
        limited = own.create_code_context(
            resource_limits=ResourceLimits(memory_bytes=400 * MIB, open_files=200)
        )
    except CodeContextError as error:  # nothing limits memory here
        assert "memory_bytes" in str(error)  # noqa: PT017  # the server says which
        return
    own.run_code("x = 1; import resource", context=limited)
    one, other = own.fork_code_context(limited, count=2)
    hog = f"block = bytearray({600 * MIB}); block[::4096] = b'x' * len(block[::4096])\nwhile True: pass"
    assert own.run_code(hog, context=one).outcome is Outcome.OUT_OF_MEMORY
    assert value(own, other, "x, resource.getrlimit(resource.RLIMIT_NOFILE)[1]") == "(1, 200)"
    assert value(own, limited, "x") == "1"
    (lower,) = own.fork_code_context(limited, resource_limits=ResourceLimits(open_files=100))
    assert value(own, lower, "resource.getrlimit(resource.RLIMIT_NOFILE)[1]") == "100"
    with pytest.raises(InvalidArgumentError, match="open_files"):
        own.fork_code_context(limited, resource_limits=ResourceLimits(open_files=300))


# What is refused


def test_code_that_runs_is_not_forked(own: CodeContextClient, parent: CodeContext) -> None:
    """A fork of a context that executes is refused, with the execution's id."""
    with LiveRun(own, parent) as live:
        live.begun()
        with pytest.raises(ContextExecutingError) as refused:
            own.fork_code_context(parent)
        assert refused.value.metadata["execution_id"] == live.execution_id
        own.interrupt_code_context(parent)
    fork(own, parent)


@pytest.mark.parametrize("daemon", [True, False])
def test_threads_are_named(own: CodeContextClient, parent: CodeContext, daemon: bool) -> None:
    """A fork that would lose threads is refused and names them; if it may, it says which were lost."""
    own.run_code(
        "import threading; stop = threading.Event()\n"
        f"loader = threading.Thread(target=stop.wait, name='loader', daemon={daemon}); loader.start()",
        context=parent,
    )
    with pytest.raises(ContextHasThreadsError) as refused:
        own.fork_code_context(parent)
    assert refused.value.metadata["threads"] == "loader"
    forks = own.fork_code_context(parent, allow_threads=True)
    assert forks.lost_threads == ("loader",)
    (child,) = forks
    assert value(own, child, "loader.is_alive(), threading.active_count()") == "(False, 1)"
    assert (
        value(own, parent, "loader.is_alive(), stop.set(), loader.join()") == "(True, None, None)"
    )
    fork(own, parent)


def test_a_thread_that_was_joined_is_no_hindrance(
    own: CodeContextClient, parent: CodeContext
) -> None:
    """A thread that has ended for Python, but takes a moment longer for the kernel, refuses no fork."""
    own.run_code(
        "import ctypes, threading\n"
        "libc, key = ctypes.CDLL(None), ctypes.c_uint()\n"
        "libc.pthread_key_create(ctypes.byref(key), ctypes.cast(libc.usleep, ctypes.c_void_p))\n"
        "linger = lambda: libc.pthread_setspecific(key, ctypes.c_void_p(100_000))  # microseconds\n"
        "thread = threading.Thread(target=linger); thread.start(); thread.join()",
        context=parent,
    )
    fork(own, parent)


POOLS = {
    "OpenBLAS": """
import ctypes, glob, numpy, os
folder = os.path.join(os.path.dirname(numpy.__file__), '..', 'numpy.libs')
library = ctypes.CDLL(glob.glob(os.path.join(folder, '*openblas*'))[0])
name = next(n for n in ('scipy_openblas_set_num_threads64_', 'openblas_set_num_threads64_',
    'scipy_openblas_set_num_threads', 'openblas_set_num_threads') if hasattr(library, n))
getattr(library, name)(4)
square = numpy.ones((500, 500))
def work(): return float((square @ square)[0, 0])
""",
    "executor": """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(2); _ = pool.submit(int).result()
def work(): return ThreadPoolExecutor(1).submit(lambda: 500.0).result()
""",
}


@pytest.mark.parametrize("pool", POOLS)
def test_pools_of_threads_never_deadlock(
    own: CodeContextClient, parent: CodeContext, pool: str
) -> None:
    """Libraries with threads of their own work in a copy, or the fork is refused with the reason."""
    own.run_code(POOLS[pool], context=parent)
    assert value(own, parent, "work()") == "500.0"
    try:
        child = fork(own, parent)
    except ContextHasThreadsError:
        (child,) = own.fork_code_context(parent, allow_threads=True)
    assert value(own, child, "work()") == "500.0"
    assert value(own, parent, "work()") == "500.0"


@pytest.mark.parametrize("count", [-1, 65])
def test_a_count_out_of_bounds(own: CodeContextClient, parent: CodeContext, count: int) -> None:
    """Neither fewer than one copy nor more than 64 are made."""
    with pytest.raises(InvalidArgumentError, match="count"):
        own.fork_code_context(parent, count=count)


def test_all_or_nothing(
    forking: ServerProcess, own: CodeContextClient, parent: CodeContext
) -> None:
    """A fork that would pass the limit on contexts makes none; what fails on the way leaves none."""
    own.fork_code_context(parent, count=64)
    with pytest.raises(QuotaExceededError):
        own.fork_code_context(parent, count=64)
    assert len(list(own.list_code_contexts())) == 65
    own.run_code(
        "forks = []\n"
        "os.register_at_fork(\n"
        "    before=lambda: forks.append(1), after_in_child=lambda: len(forks) == 3 and os._exit(1)\n"
        ")",
        context=parent,
    )
    with connected(forking.target) as stub:  # which does not try again
        request = pb.ForkCodeContextRequest(context_id=parent.id, count=5)
        assert refusal_of(stub.ForkCodeContext, request).reason == "RUNTIME_UNAVAILABLE"
    assert len(list(own.list_code_contexts())) == 65
    assert value(own, parent, "x, len(forks)") == "([1, 2], 3)"


def test_a_copy_that_hangs_is_killed(
    forking: ServerProcess, own: CodeContextClient, parent: CodeContext
) -> None:
    """A copy that does not get ready in time is ended and the call fails; the parent is unharmed."""
    own.run_code(
        "import time; os.register_at_fork(after_in_child=lambda: time.sleep(1000))", context=parent
    )
    before = {each.pid for each in processes_of(forking, parent)}
    with connected(forking.target) as stub:
        refusal = refusal_of(
            stub.ForkCodeContext, pb.ForkCodeContextRequest(context_id=parent.id, count=2)
        )
    assert refusal.reason == "CONTEXT_UNREACHABLE"
    assert "in time" in refusal.message
    assert value(own, parent, "x") == "[1, 2]"
    assert [each.id for each in own.list_code_contexts()] == [parent.id]
    until(lambda: {each.pid for each in processes_of(forking, parent)} == before)


# Calls that come together


def test_the_same_request_forks_once(own: CodeContextClient, parent: CodeContext) -> None:
    """The same request id gets the same copies, even for those who ask at the same time."""
    with ThreadPoolExecutor() as pool:
        calls = [
            pool.submit(own.fork_code_context, parent, count=2, request_id=parent.id)
            for _ in range(5)
        ]
        answers = {tuple(child.id for child in call.result()) for call in calls}
    assert len(answers) == 1
    assert len(list(own.list_code_contexts())) == 3


@pytest.mark.parametrize("other", ["run", "delete", "restart", "fork", "complete"])
def test_what_races_a_fork_is_decided_one_way(
    own: CodeContextClient, parent: CodeContext, other: str
) -> None:
    """A call that comes while a fork is under way waits, or one of them is refused; both tell the truth."""
    own.run_code("import numpy; block = numpy.ones(10_000_000)", context=parent)
    calls: dict[str, Callable[[], object]] = {
        "run": lambda: value(own, parent, "x"),
        "delete": lambda: own.delete_code_context(parent),
        "restart": lambda: own.restart_code_context(parent),
        "fork": lambda: own.fork_code_context(parent, count=2),
        "complete": lambda: own.complete_code(parent, "squ"),
    }
    with ThreadPoolExecutor() as pool:
        forked = pool.submit(own.fork_code_context, parent, count=4)
        also = pool.submit(calls[other])
        also_error, forked_error = also.exception(), forked.exception()
    assert also_error is None or isinstance(also_error, ContextExecutingError)
    if forked_error is None:
        seen = {value(own, child, "globals().get('x')") for child in forked.result()}
        assert seen == {"[1, 2]"} or (other == "restart" and seen == {""})  # all of one moment
    else:
        reasons = {"CONTEXT_EXECUTING", "CONTEXT_NOT_FOUND", "CONTEXT_DELETED"}
        assert isinstance(forked_error, CodeContextError)
        assert forked_error.reason in reasons
    if other == "run":
        assert also.result() == "[1, 2]"


def test_a_caller_who_leaves_gets_no_copies(
    forking: ServerProcess, own: CodeContextClient, parent: CodeContext
) -> None:
    """A fork whose caller goes away leaves no copies, unless a request id has them kept for who asks again."""
    own.run_code("import time; os.register_at_fork(before=lambda: time.sleep(0.2))", context=parent)
    request = pb.ForkCodeContextRequest(context_id=parent.id, count=4)
    with connected(forking.target) as stub:
        with pytest.raises(grpc.RpcError):
            stub.ForkCodeContext(request, timeout=0.3)
        until(lambda: [each.id for each in own.list_code_contexts()] == [parent.id])
        request.request_id = parent.id
        with pytest.raises(grpc.RpcError):
            stub.ForkCodeContext(request, timeout=0.3)
        assert len(stub.ForkCodeContext(request).contexts) == 4
    assert len(list(own.list_code_contexts())) == 5


def test_a_checkpoint(own: CodeContextClient, parent: CodeContext) -> None:
    """A copy that is never run keeps the state of its moment, for as many tries as one likes."""
    checkpoint = fork(own, parent)
    for number in range(5):
        trial = fork(own, checkpoint)
        own.run_code(f"x.append({number})", context=trial)
        assert value(own, trial, "x") == f"[1, 2, {number}]"
        own.delete_code_context(trial)
    own.run_code("del x", context=parent)
    assert value(own, checkpoint, "x") == "[1, 2]"


def test_a_copy_is_kept_from_its_relatives(
    forking: ServerProcess, own: CodeContextClient, parent: CodeContext
) -> None:
    """In cells a copy can neither signal its parent or another copy, nor look into them; renames still work."""
    if "none" in forking.flags or abi() < 6:
        return
    own.run_code("mine = os.getpid()", context=parent)
    one, other = own.fork_code_context(parent, count=2)
    pid = value(own, other, "os.getpid()")
    for target in ("mine", pid):
        signal = own.run_code(f"os.kill({target}, 0)", context=one)
        assert signal.error is not None
        assert signal.error.name == "PermissionError"
        look = own.run_code(f"open(f'/proc/{{{target}}}/environ').read()", context=one)
        assert look.error is not None
        assert look.error.name == "PermissionError"
    move = "open('a', 'w').close(); os.mkdir('b'); os.rename('a', 'b/a'); os.listdir('b')"
    assert value(own, one, move) == "['a']"
    run = (
        "import subprocess; child = subprocess.Popen(['sleep', '1000']); child.kill(); child.wait()"
    )
    assert value(own, one, run) == "-9"
    generation = parent
    for _ in range(20):
        generation = fork(own, generation)
    assert value(own, generation, "x") == "[1, 2]"


# From the client, and from the command line


def test_a_branch_is_dropped_unless_it_is_kept(own: CodeContextClient, parent: CodeContext) -> None:
    """`with client.branch(…)` makes a copy, and deletes it with what runs in it, unless it was kept."""
    with own.branch(parent, labels={"trial": "1"}) as trial:
        own.run_code("x.append(3)", context=trial)
        assert value(own, trial.context, "x") == "[1, 2, 3]"
    assert answer_of(own.get_code_context, trial) == "CONTEXT_DELETED"
    with pytest.raises(ZeroDivisionError), own.branch(parent) as failing:
        raise ZeroDivisionError
    assert answer_of(own.get_code_context, failing) == "CONTEXT_DELETED"
    with own.branch(parent) as gone:
        own.delete_code_context(gone)
    with own.branch(parent) as kept:
        own.run_code("x.append(4)", context=kept)
        kept.keep()
    assert value(own, kept.context, "x") == "[1, 2, 4]"
    assert value(own, parent, "x") == "[1, 2]"


async def test_a_branch_from_asyncio(
    forking: ServerProcess, own: CodeContextClient, parent: CodeContext
) -> None:
    """`async with client.branch(…)` does the same."""
    async with AsyncCodeContextClient(forking.target) as client:
        async with client.branch(parent) as trial:
            await client.run_code("x.append(3)", context=trial)
        async with client.branch(parent) as kept:
            kept.keep()
        forks = await client.fork_code_context(parent, count=2)
    assert answer_of(own.get_code_context, trial) == "CONTEXT_DELETED"
    assert value(own, kept.context, "x") == "[1, 2]"
    assert len(forks) == 2


def test_the_command_line_forks(
    forking: ServerProcess, own: CodeContextClient, parent: CodeContext
) -> None:
    """`codecontext fork` prints the ids of the copies, or them as JSON, and names lost threads."""
    own.run_code(
        "import threading; stop = threading.Event()\n"
        "threading.Thread(target=stop.wait, name='loader', daemon=True).start()",
        context=parent,
    )

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "codecontext_service.cli", "--target", forking.target]
        return subprocess.run(
            [*program, "fork", *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    refused = command(parent.id)
    assert refused.returncode == 3
    assert "CONTEXT_HAS_THREADS" in refused.stderr
    done = command(parent.id, "--count", "2", "--label", "trial=1", "--allow-threads")
    assert done.returncode == 0, done.stderr
    assert "loader" in done.stderr
    copies = [own.get_code_context(line) for line in done.stdout.split()]
    assert [(each.parent_context_id, each.labels) for each in copies] == [
        (parent.id, {"trial": "1"})
    ] * 2
    shown = command(copies[0].id, "--json")
    assert json.loads(shown.stdout)["parent_context_id"] == copies[0].id


def test_other_languages_are_not_forked(own: CodeContextClient) -> None:
    """A context of a language that can't be forked says so, and the server tells before."""
    runtimes = own.get_server_info().runtimes
    languages = {each.language: each for each in runtimes if each.is_default}
    for language in languages.keys() - {"python"}:
        assert "fork" not in languages[language].capabilities
        if languages[language].failure:
            continue
        context = own.create_code_context(language)
        with pytest.raises(ForkUnsupportedError) as refused:
            own.fork_code_context(context)
        assert refused.value.metadata["language"] == language
        own.delete_code_context(context)
    assert "fork" in languages["python"].capabilities

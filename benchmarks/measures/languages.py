"""Other languages and a kernel: creates from the pool and past it, deletes, memory of an idle context."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from calls import EMPTY_CALL, Floor, create, delete, run, wait_for_pool
from effort import Effort
from figures import Expectation, Figures
from processes import helper, read_line, server
from snippets import SNIPPETS

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub
from codecontext_service.runtime_config import built_in_runtimes

_COMMANDS = {
    runtime.language: (runtime.interpreter, *arguments)
    for runtime in built_in_runtimes()
    for languages, arguments in (
        (("bash",), ("-c", "echo")),
        (("javascript", "typescript"), ("-e", "console.log()")),
    )
    if runtime.language in languages
}
"""What starts a bare interpreter of those that the server takes, which writes a line once it is there."""

_KERNEL = "ipykernel"
_CONFIG = f"""\
[runtimes.python]
pool_size = 0
[runtimes.{_KERNEL}]
kernelspec = "python3"
pool_size = 2
"""

_REFILL_BEGUN_S = 0.025
"""After this long the refill of a pool has begun, and has not ended."""

EXPECTATIONS = (
    *(
        Expectation(f"create from the pool, {each}", 3.0, EMPTY_CALL)
        for each in (*_COMMANDS, _KERNEL)
    ),
    *(
        Expectation(f"create past the pool, {each}", 2.0, f"bare start, {each}")
        for each in ("javascript", "typescript")
    ),
)


def measure(figures: Figures, effort: Effort) -> None:
    """Measures each runtime by itself, in turns with an empty call and a bare start."""
    with contextlib.ExitStack() as stack:
        floors = stack.enter_context(helper("calls"))
        config = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "config.toml"
        config.write_text(_CONFIG)
        served = stack.enter_context(server("--config", str(config)))
        floor = Floor(stack.enter_context(grpc.insecure_channel(read_line(floors))))
        stub = CodeContextServiceStub(stack.enter_context(grpc.insecure_channel(served.target)))
        for runtime in stub.GetServerInfo(pb.GetServerInfoRequest()).runtimes:
            if runtime.failure:
                continue
            if runtime.name in _COMMANDS:
                for into in effort.rounds(figures, 100):
                    _pooled(into, stub, floor, runtime)
                for into in effort.rounds(figures, 30):
                    _past_the_pool(into, stub, runtime)
                for into in effort.rounds(figures, 20):
                    _beside_a_refill(into, stub, runtime)
            elif runtime.name == _KERNEL:
                for into in effort.rounds(figures, 20):
                    _pooled(into, stub, floor, runtime)


def _pooled(
    into: Figures, stub: CodeContextServiceStub, floor: Floor, runtime: pb.RuntimeInfo
) -> None:
    name = runtime.name
    wait_for_pool(stub, name)
    with into.timed(EMPTY_CALL):
        floor.call()
    with into.timed(f"create from the pool, {name}", floor=EMPTY_CALL):
        context_id = create(stub, runtime=name)
    fresh = _own_memory(stub, context_id)
    into.add(f"own memory of a context that has not run yet, {name}", fresh, unit="byte")
    run(stub, context_id, SNIPPETS[runtime.language].run)
    own = _own_memory(stub, context_id)
    into.add(f"own memory of an idle context, {name}", own, unit="byte")
    wait_for_pool(stub, name)
    with into.timed(f"delete, {name}", floor=EMPTY_CALL):
        delete(stub, context_id)


def _beside_a_refill(into: Figures, stub: CodeContextServiceStub, runtime: pb.RuntimeInfo) -> None:
    """Creates and deletes contexts after a pause, and while the pool is refilled."""
    name = runtime.name
    pausing = f"create after a pause, {name}"
    wait_for_pool(stub, name)
    time.sleep(_REFILL_BEGUN_S)
    with into.timed(pausing):
        idle = create(stub, runtime=name)
    run(stub, idle, SNIPPETS[runtime.language].run)
    wait_for_pool(stub, name)
    other = create(stub, runtime=name)
    time.sleep(_REFILL_BEGUN_S)
    with into.timed(f"create beside a refill, {name}", floor=pausing):
        left = create(stub, runtime=name)
    pausing = f"delete after a pause, {name}"
    run(stub, other, SNIPPETS[runtime.language].run)
    wait_for_pool(stub, name)
    time.sleep(_REFILL_BEGUN_S)
    with into.timed(pausing):
        delete(stub, idle)
    taken = create(stub, runtime=name)
    time.sleep(_REFILL_BEGUN_S)
    with into.timed(f"delete beside a refill, {name}", floor=pausing):
        delete(stub, other)
    for context_id in (taken, left):
        delete(stub, context_id)


def _own_memory(stub: CodeContextServiceStub, context_id: str) -> int:
    context = stub.GetCodeContext(pb.GetCodeContextRequest(context_id=context_id)).context
    return context.resource_usage.memory_own_bytes


def _past_the_pool(into: Figures, stub: CodeContextServiceStub, runtime: pb.RuntimeInfo) -> None:
    name = runtime.name
    wait_for_pool(stub, name)
    bare = f"bare start, {name}"
    into.add(bare, _bare_start(name))
    with _empty_pool(stub, runtime) as begun:
        began = time.perf_counter()
        context_id = create(stub, runtime=name)
        into.add(f"create past the pool, {name}", time.perf_counter() - began, floor=bare)
        begun.append(context_id)


@contextlib.contextmanager
def _empty_pool(stub: CodeContextServiceStub, runtime: pb.RuntimeInfo) -> Iterator[list[str]]:
    """Takes all that is ready; what is put into the list is deleted with it."""
    contexts = [create(stub, runtime=runtime.name) for _ in range(runtime.pool_size)]
    yield contexts
    for context_id in contexts:
        delete(stub, context_id)


def _bare_start(name: str) -> float:
    began = time.perf_counter()
    with subprocess.Popen(_COMMANDS[name], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return time.perf_counter() - began

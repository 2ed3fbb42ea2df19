"""Languages other than Python: creates from the pool and past it, deletes, and what an idle context holds."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator

import grpc
from calls import EMPTY_CALL, Floor, create, delete, languages, run, wait_for_pool
from effort import Effort
from figures import Expectation, Figures
from processes import helper, read_line, server
from snippets import SNIPPETS

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

_STARTS = {
    "bash": ("bash", "-c", "echo"),
    "javascript": ("node", "-e", "console.log()"),
    "typescript": ("node", "-e", "console.log()"),
}
"""What starts a bare interpreter, which writes a line once it is there."""

EXPECTATIONS = (
    *(Expectation(f"create from the pool, {each}", 3.0, EMPTY_CALL) for each in _STARTS),
    *(
        Expectation(f"create past the pool, {each}", 2.0, f"bare start, {each}")
        for each in ("javascript", "typescript")
    ),
)


def measure(figures: Figures, effort: Effort) -> None:
    """Measures each language by itself, in turns with an empty call and a bare start."""
    with contextlib.ExitStack() as stack:
        floors = stack.enter_context(helper("calls"))
        served = stack.enter_context(server("--pool-size", "0"))
        floor = Floor(stack.enter_context(grpc.insecure_channel(read_line(floors))))
        stub = CodeContextServiceStub(stack.enter_context(grpc.insecure_channel(served.target)))
        for language in languages(stub):
            if language in _STARTS and shutil.which(_STARTS[language][0]):
                for into in effort.rounds(figures, 100):
                    _pooled(into, stub, floor, language)
                for into in effort.rounds(figures, 30):
                    _past_the_pool(into, stub, language)


def _pooled(into: Figures, stub: CodeContextServiceStub, floor: Floor, language: str) -> None:
    wait_for_pool(stub, language)
    with into.timed(EMPTY_CALL):
        floor.call()
    with into.timed(f"create from the pool, {language}", floor=EMPTY_CALL):
        context_id = create(stub, language)
    fresh = _own_memory(stub, context_id)
    into.add(f"own memory of a context that has not run yet, {language}", fresh, unit="byte")
    run(stub, context_id, SNIPPETS[language].run)
    own = _own_memory(stub, context_id)
    into.add(f"own memory of an idle context, {language}", own, unit="byte")
    wait_for_pool(stub, language)
    with into.timed(f"delete, {language}", floor=EMPTY_CALL):
        delete(stub, context_id)


def _own_memory(stub: CodeContextServiceStub, context_id: str) -> int:
    context = stub.GetCodeContext(pb.GetCodeContextRequest(context_id=context_id)).context
    return context.resource_usage.memory_own_bytes


def _past_the_pool(into: Figures, stub: CodeContextServiceStub, language: str) -> None:
    wait_for_pool(stub, language)
    bare = f"bare start, {language}"
    into.add(bare, _bare_start(language))
    with _empty_pool(stub, language) as begun:
        began = time.perf_counter()
        context_id = create(stub, language)
        into.add(f"create past the pool, {language}", time.perf_counter() - began, floor=bare)
        begun.append(context_id)


@contextlib.contextmanager
def _empty_pool(stub: CodeContextServiceStub, language: str) -> Iterator[list[str]]:
    """Takes all that is ready; what is put into the list is deleted with it."""
    info = stub.GetServerInfo(pb.GetServerInfoRequest())
    runtime = next(each for each in info.runtimes if each.language == language)
    contexts = [create(stub, language) for _ in range(runtime.pool_size)]
    yield contexts
    for context_id in contexts:
        delete(stub, context_id)


def _bare_start(language: str) -> float:
    began = time.perf_counter()
    with subprocess.Popen(_STARTS[language], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return time.perf_counter() - began

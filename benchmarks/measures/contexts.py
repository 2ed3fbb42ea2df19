"""Many live contexts: how calls and memory grow with their number."""

from __future__ import annotations

import contextlib
import itertools

import grpc
from calls import EMPTY_CALL, Floor, create, delete, run
from effort import Effort
from figures import Expectation, Figures
from memory import tree
from processes import helper, read_line, server

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

_COUNTS = (10, 100, 1000, 2000)
_QUICK_COUNTS = (10, 100)

EXPECTATIONS = (
    Expectation("RunCode('1+1'), contexts=2000", 1.3, "RunCode('1+1'), contexts=10"),
    Expectation("memory of all processes, contexts=2000", 16 * 1024),
)


def measure(figures: Figures, effort: Effort) -> None:
    """Measures calls while so many contexts are alive, each of which has run something."""
    counts = _QUICK_COUNTS if effort.quick else _COUNTS
    with contextlib.ExitStack() as stack:
        floors = stack.enter_context(helper("calls"))
        served = stack.enter_context(server("--max-contexts", str(max(counts) + 10)))
        floor = Floor(stack.enter_context(grpc.insecure_channel(read_line(floors))))
        stub = CodeContextServiceStub(stack.enter_context(grpc.insecure_channel(served.target)))
        alive: list[str] = []
        for count in counts:
            while len(alive) < count:
                alive.append(create(stub))
                run(stub, alive[-1], "1+1")
            _measure(figures, floor, stub, alive)
            size = tree(served.pid).bytes
            figures.add(f"memory of all processes, contexts={count}", size, unit="byte")


def _measure(
    figures: Figures, floor: Floor, stub: CodeContextServiceStub, alive: list[str]
) -> None:
    over = f", contexts={len(alive)}"
    for _ in range(3):
        for context_id in alive[:10]:  # to warm up: they may have been idle for long
            run(stub, context_id, "1+1")
    # The same ten in turns whatever the number, so that what differs is the number alone.
    for context_id in itertools.islice(itertools.cycle(alive[:10]), 200):
        with figures.timed(EMPTY_CALL + over):
            floor.call()
        with figures.timed("RunCode('1+1')" + over, floor=EMPTY_CALL + over):
            run(stub, context_id, "1+1")
    for _ in range(20):
        with figures.timed("a page of the list" + over, floor=EMPTY_CALL + over):
            stub.ListCodeContexts(pb.ListCodeContextsRequest(page_size=10))
        with figures.timed("create" + over, floor=EMPTY_CALL + over):
            context_id = create(stub)
        with figures.timed("delete" + over, floor=EMPTY_CALL + over):
            delete(stub, context_id)

"""Creates: from the pool, past it, and many at once; and deletes, of contexts that did nothing or much."""

from __future__ import annotations

import contextlib
import json
import sys
import time

import grpc
from calls import EMPTY_CALL, Floor, create, delete, run, wait_for_pool
from effort import Effort
from figures import Expectation, Figures
from processes import ask, helper, read_line, server
from snippets import SNIPPETS, request

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

EXPECTATIONS = (
    Expectation("create from the pool", 2.0, EMPTY_CALL),
    Expectation("create past the pool", 2.0, "bare fork", beyond_ms=3.0),
    Expectation("create past the pool", 1.0, "bare fork", beyond_ms=6.0),
    Expectation("200 creates at once", 1000.0),
    Expectation("delete, idle", 3.0),
)

_BURST = 200
_PYTHON = SNIPPETS["python"]


def measure(figures: Figures, effort: Effort) -> None:
    """Measures creates and deletes in turns with an empty call and a bare fork."""
    with contextlib.ExitStack() as stack:
        floors = stack.enter_context(helper("calls"))
        forker = stack.enter_context(helper("forks"))
        pooled = stack.enter_context(server())
        poolless = stack.enter_context(server("--pool-size", "0"))
        if missing := json.loads(read_line(forker))["missing"]:
            print(f"note: not installed, so not loaded: {', '.join(missing)}", file=sys.stderr)
        floor = Floor(stack.enter_context(grpc.insecure_channel(read_line(floors))))
        stub, bare = (
            CodeContextServiceStub(stack.enter_context(grpc.insecure_channel(each.target)))
            for each in (pooled, poolless)
        )
        for into in effort.rounds(figures, 300):
            wait_for_pool(stub)
            with into.timed(EMPTY_CALL):
                floor.call()
            with into.timed("create from the pool", floor=EMPTY_CALL):
                context_id = create(stub)
            run(stub, context_id, "1+1")
            wait_for_pool(stub)
            into.add("end of a bare fork", json.loads(ask(forker, "end")))
            with into.timed("delete, idle", floor="end of a bare fork"):
                delete(stub, context_id)
        for into in effort.rounds(figures, 200):
            into.add("bare fork", json.loads(ask(forker, "1"))[0])
            with into.timed("create past the pool", floor="bare fork"):
                context_id = create(bare)
            delete(bare, context_id)
        for into in effort.rounds(figures, 60):
            _other_deletes(into, stub)
        for into in effort.rounds(figures, 5):
            _burst(into, stub)


def _other_deletes(into: Figures, stub: CodeContextServiceStub) -> None:
    context_id = create(stub)
    stream = stub.RunCodeStream(request(context_id, _PYTHON.forever))
    next(iter(stream))
    wait_for_pool(stub)
    with into.timed("delete, forced while it runs", floor="delete, idle"):
        delete(stub, context_id, force=True)
    context_id = create(stub)
    run(stub, context_id, _PYTHON.children)
    wait_for_pool(stub)
    with into.timed("delete, with 50 child processes", floor="delete, idle"):
        delete(stub, context_id)


def _burst(into: Figures, stub: CodeContextServiceStub) -> None:
    wait_for_pool(stub)
    began = time.perf_counter()
    calls = [stub.CreateCodeContext.future(pb.CreateCodeContextRequest()) for _ in range(_BURST)]
    ids = [call.result().context.id for call in calls]
    into.add(f"{_BURST} creates at once", time.perf_counter() - began)
    began = time.perf_counter()
    deletes = [
        stub.DeleteCodeContext.future(pb.DeleteCodeContextRequest(context_id=context_id))
        for context_id in ids
    ]
    for call in deletes:
        call.result()
    into.add(f"{_BURST} deletes at once", time.perf_counter() - began)

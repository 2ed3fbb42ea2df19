"""Forks of a live context beside a bare fork of a process of the same size, and what an idle copy takes."""

from __future__ import annotations

import contextlib
import json

import grpc
from calls import create, delete, run, wait_for_pool
from effort import Effort
from figures import Expectation, Figures
from processes import ask, helper, read_line, server

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

_ROUNDS = {0: 100, 100: 100, 1024: 40, 4096: 20}
"""How often a context with arrays of so many MiB is forked."""

_MANY, _MANY_MIB = 16, 1024

EXPECTATIONS = (
    *(
        Expectation(f"fork, mib={mib}", 2.0, f"bare fork, mib={mib}", beyond_ms=2.0)
        for mib in _ROUNDS
    ),
    Expectation("own memory of an idle copy, mib=1024", 10.0),
    Expectation(f"own memory of {_MANY} idle copies of 1 GiB together", 160.0),
)


def measure(figures: Figures, effort: Effort) -> None:
    """Measures forks of each size in turns with bare ones."""
    with contextlib.ExitStack() as stack:
        forker = stack.enter_context(helper("forks"))
        serving = stack.enter_context(server("--memory-bytes", "0"))
        read_line(forker)
        stub = CodeContextServiceStub(stack.enter_context(grpc.insecure_channel(serving.target)))
        for mib, count in _ROUNDS.items():
            if effort.quick and mib > _MANY_MIB:
                continue
            parent = create(stub)
            run(stub, parent, f"import numpy; blocks = [numpy.ones(131072) for _ in range({mib})]")
            wait_for_pool(stub)
            for into in effort.rounds(figures, count):
                floor = f"bare fork, mib={mib}"
                into.add(floor, json.loads(ask(forker, f"1 {mib}"))[0])
                with into.timed(f"fork, mib={mib}", floor=floor):
                    (child,) = _fork(stub, parent, 1)
                own = _own_memory(stub, child)
                into.add(f"own memory of an idle copy, mib={mib}", own, unit="byte")
                with into.timed(f"delete of a copy, mib={mib}"):
                    delete(stub, child)
            if mib == _MANY_MIB:
                for into in effort.rounds(figures, 10):
                    _fork_many(into, stub, parent)
            delete(stub, parent)
        ask(forker, "1 0")


def _fork_many(into: Figures, stub: CodeContextServiceStub, parent: str) -> None:
    name = f"{_MANY} forks of 1 GiB in one call, each"
    with into.timed(name, floor=f"bare fork, mib={_MANY_MIB}", share=_MANY):
        children = _fork(stub, parent, _MANY)
    own = sum(_own_memory(stub, child) for child in children)
    into.add(f"own memory of {_MANY} idle copies of 1 GiB together", own, unit="byte")
    for child in children:
        delete(stub, child)


def _fork(stub: CodeContextServiceStub, parent: str, count: int) -> list[str]:
    answer = stub.ForkCodeContext(pb.ForkCodeContextRequest(context_id=parent, count=count))
    return [child.id for child in answer.contexts]


def _own_memory(stub: CodeContextServiceStub, context_id: str) -> int:
    request = pb.GetCodeContextRequest(context_id=context_id)
    return stub.GetCodeContext(request).context.resource_usage.memory_own_bytes

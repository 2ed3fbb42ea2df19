"""What isolation costs: runs, creates and deletes with the best that this machine has, beside none at all."""

from __future__ import annotations

import contextlib

import grpc
from calls import create, delete, run, wait_for_pool
from effort import Effort
from figures import Expectation, Figures
from processes import server
from snippets import SNIPPETS

from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

_BEST, _NONE = "isolated", "not isolated"
_ACTIONS = ("RunCode('1+1')", "create from the pool", "create past the pool", "delete")

EXPECTATIONS = tuple(
    Expectation(f"{each}, {_BEST}", 1.1, f"{each}, {_NONE}") for each in _ACTIONS[:2]
)


def measure(figures: Figures, effort: Effort) -> None:
    """Measures each in turns with the same without isolation."""
    with contextlib.ExitStack() as stack:
        servers = {
            (kind, pool): stack.enter_context(server("--isolation", isolation, *flags))
            for kind, isolation in ((_BEST, "auto"), (_NONE, "none"))
            for pool, flags in ((True, ()), (False, ("--pool-size", "0")))
        }
        calls = {
            key: CodeContextServiceStub(stack.enter_context(grpc.insecure_channel(served.target)))
            for key, served in servers.items()
        }
        for into in effort.rounds(figures, 150):
            for kind in (_BEST, _NONE):
                _measure(into, kind, calls[kind, True], calls[kind, False])


def _measure(
    into: Figures, kind: str, pooled: CodeContextServiceStub, bare: CodeContextServiceStub
) -> None:
    runs, pool, past, deletes = (f"{each}, {kind}" for each in _ACTIONS)
    floors = (f"{each}, {_NONE}" if kind == _BEST else "" for each in _ACTIONS)
    of_runs, of_pool, of_past, of_deletes = floors
    wait_for_pool(pooled)
    with into.timed(pool, floor=of_pool):
        context_id = create(pooled)
    wait_for_pool(pooled)
    code = SNIPPETS["python"].run
    run(pooled, context_id, code)
    for _ in range(3):
        with into.timed(runs, floor=of_runs):
            run(pooled, context_id, code)
    with into.timed(deletes, floor=of_deletes):
        delete(pooled, context_id)
    with into.timed(past, floor=of_past):
        context_id = create(bare)
    delete(bare, context_id)

"""Many clients at once, each with a context of its own: how many runs a second there are."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import grpc
from calls import create
from effort import Effort
from figures import Expectation, Figures
from processes import helper, read_line, server

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

_CLIENTS = (1, 16, 64)

EXPECTATIONS = (
    Expectation("time for each run, clients=64", 1 / 0.6, "time for each empty call, clients=64"),
)

_Call = Callable[[], Awaitable[object]]


def measure(figures: Figures, effort: Effort) -> None:
    """Measures how long a call takes, on the average of all that are made side by side."""
    with contextlib.ExitStack() as stack:
        floors = stack.enter_context(helper("calls"))
        served = stack.enter_context(server())
        asyncio.run(_measure(figures, effort, read_line(floors), served.target))


async def _measure(figures: Figures, effort: Effort, floor: str, target: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        with grpc.insecure_channel(target) as channel:
            stub = CodeContextServiceStub(channel)
            contexts = [create(stub) for _ in range(max(_CLIENTS))]
        # Each client has a connection of its own.
        options = (("grpc.use_local_subchannel_pool", 1),)
        empty: list[_Call] = []
        runs: list[_Call] = []
        for context_id in contexts:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(floor, options))
            call = channel.unary_unary("/benchmark.Floor/Empty")
            empty.append(lambda call=call: call(b""))  # type: ignore[misc]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(target, options))
            request = pb.RunCodeRequest(context_id=context_id, code="1+1")
            run = CodeContextServiceStub(channel).RunCode
            runs.append(lambda run=run, request=request: run(request))  # type: ignore[misc]
        for count in _CLIENTS:
            base = f"time for each empty call, clients={count}"
            for into in effort.rounds(figures, 20):
                into.add(base, await _side_by_side(empty[:count]))
                into.add(
                    f"time for each run, clients={count}",
                    await _side_by_side(runs[:count]),
                    floor=base,
                )


async def _side_by_side(calls: list[_Call], total: int = 640) -> float:
    """Makes calls, as many side by side as there are clients, and returns the time for each in seconds."""

    async def client(call: _Call) -> None:
        for _ in range(total // len(calls)):
            await call()

    began = time.perf_counter()
    await asyncio.gather(*map(client, calls))
    return (time.perf_counter() - began) / (total // len(calls) * len(calls))

"""Many clients at once, each with a connection and a context of its own: what each waits, and what all get.

The clients share one process, as those of the floor do, and the machine with what they measure.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from calls import CHUNK, create, delete, languages, run, wait_for_pool
from cpu import cpu_time_below_s, cpu_time_s
from effort import Effort
from figures import Expectation, Figures
from processes import Server, helper, read_line, server
from snippets import SNIPPETS, Snippets, request

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

_ROUNDS = {1: 2, 16: 1, 64: 1}
"""By the number of clients: how often everything is done."""
_QUICK_ROUNDS = {1: 1}
_QUICK_LANGUAGES = ("python", "bash")

_CALLS = 320
"""How many quick calls all clients make together in a round."""
_SLOWER_CALLS = 64
_LINES, _LINE = 256, 64
_CHUNKS = 16
_FEW = 16
"""Up to how many clients do what takes long by itself."""

EXPECTATIONS = (
    Expectation(
        "python: each of all RunCode('1+1'), clients=64",
        1 / 0.6,
        "python: each of all empty calls, clients=64",
    ),
)

_Do = Callable[["_Client"], Awaitable[float | None]]
"""Does something, and returns the moment that counts; None if it is the end."""


@dataclass
class _Client:
    """One client: its calls and its context."""

    empty: Callable[[bytes], Awaitable[bytes]]
    stream: Callable[[bytes], AsyncIterator[bytes]]
    stub: Any
    context_id: str
    passing: str = ""
    """A context that is there for a moment."""

    async def call(self) -> None:
        """Makes an empty call."""
        await self.empty(b"")

    async def run(self, code: str) -> None:
        """Runs code by one call."""
        await self.stub.RunCode(pb.RunCodeRequest(context_id=self.context_id, code=code))

    async def read(self, code: str) -> None:
        """Streams a run to its end."""
        async for _ in self.stub.RunCodeStream(request(self.context_id, code)):
            pass

    async def read_empty(self, messages: int, size: int) -> None:
        """Reads an empty stream to its end."""
        async for _ in self.stream(b"%d %d" % (messages, size)):
            pass

    async def first_message(self) -> float:
        """Reads an empty stream of one message, and returns the moment at which it comes."""
        came = 0.0
        async for _ in self.stream(b"1 1"):
            came = time.perf_counter()
        return came

    async def first_byte(self, code: str) -> float:
        """Streams a run to its end, and returns the moment at which its first output comes."""
        came = 0.0
        async for answer in self.stub.RunCodeStream(request(self.context_id, code)):
            if answer.event.stdout:
                came = came or time.perf_counter()
        return came

    async def create(self, language: str) -> None:
        """Creates a context that is there for a moment."""
        made = await self.stub.CreateCodeContext(pb.CreateCodeContextRequest(language=language))
        self.passing = made.context.id

    async def fork(self) -> None:
        """Makes a copy that is there for a moment."""
        made = await self.stub.ForkCodeContext(
            pb.ForkCodeContextRequest(context_id=self.context_id)
        )
        self.passing = made.contexts[0].id

    async def begin(self, code: str) -> None:
        """Begins a run in the passing context, and leaves it to itself."""
        asked = pb.RunCodeStreamRequest(context_id=self.passing, code=code, detach=True)
        stream = self.stub.RunCodeStream(asked)
        await stream.read()
        stream.cancel()

    async def leave(self, code: str) -> None:
        """Runs code in the passing context."""
        await self.stub.RunCode(pb.RunCodeRequest(context_id=self.passing, code=code))

    async def delete(self) -> None:
        """Deletes the passing context."""
        asked = pb.DeleteCodeContextRequest(context_id=self.passing, force=True)
        await self.stub.DeleteCodeContext(asked)


def measure(figures: Figures, effort: Effort) -> None:
    """Measures one language after the other, everything in turns with its floors."""
    with contextlib.ExitStack() as stack:
        floors = stack.enter_context(helper("calls"))
        served = stack.enter_context(server())
        servers = Server(read_line(floors), floors.pid), served
        with grpc.insecure_channel(served.target) as channel:
            stub = CodeContextServiceStub(channel)
            for language in languages(stub):
                if language in (_QUICK_LANGUAGES if effort.quick else SNIPPETS):
                    asyncio.run(_measure(figures, effort, stub, language, servers))


async def _measure(
    figures: Figures,
    effort: Effort,
    stub: CodeContextServiceStub,
    language: str,
    servers: tuple[Server, Server],
) -> None:
    snippets = SNIPPETS[language]
    rounds = _QUICK_ROUNDS if effort.quick else _ROUNDS
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(max(rounds)):
            context_id = create(stub, language)
            for code in filter(None, (snippets.before, snippets.run)):
                run(stub, context_id, code)
            clients.append(await _connect(stack, servers, context_id))
        for count, times in rounds.items():
            for number in range(-1 if count == 1 else 0, times):  # the first one is to warm up
                into = figures if number >= 0 else Figures()
                turn = _Turn(into, stub, language, clients[:count], servers)
                await turn.calls(snippets)
                await turn.streams(snippets)
                await turn.lives(snippets)
        for client in clients:
            delete(stub, client.context_id)


async def _connect(
    stack: contextlib.AsyncExitStack, servers: tuple[Server, Server], context_id: str
) -> _Client:
    """Opens connections that are no other client's."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    base, service = [
        await stack.enter_async_context(grpc.aio.insecure_channel(each.target, options))
        for each in servers
    ]
    return _Client(
        base.unary_unary("/benchmark.Floor/Empty"),
        base.unary_stream("/benchmark.Floor/Stream"),
        CodeContextServiceStub(service),
        context_id,
    )


class _Turn:
    """Everything, done once by so many clients."""

    def __init__(
        self,
        figures: Figures,
        stub: CodeContextServiceStub,
        language: str,
        clients: list[_Client],
        servers: tuple[Server, Server],
    ) -> None:
        self._floor, self._served = servers
        self._figures = figures
        self._stub = stub
        self._language = language
        self._clients = clients

    @property
    def _few(self) -> bool:
        return len(self._clients) <= _FEW

    async def calls(self, snippets: Snippets) -> None:
        """Measures runs by one call each."""
        with self._cpu("an empty call", self._floor.pid):
            await self._timed("empty call", _Client.call, _CALLS, all_="empty calls")
        if self._language == "python":  # by itself, since to look at all processes takes long
            code = snippets.run
            with self._cpu(f"RunCode('{code}')", self._served.pid):
                await self._all(lambda it: it.run(code), _CALLS // len(self._clients))
        for name, code, times in (
            (f"RunCode('{snippets.run}')", snippets.run, _CALLS),
            (f"RunCode('{snippets.print}')", snippets.print, _CALLS),
            ("a table of 100 rows", snippets.table, _SLOWER_CALLS),
            ("a plot", snippets.plot if self._few else "", 1),
        ):
            if code:
                await self._timed(
                    name, lambda it, code=code: it.run(code), times, "empty call", all_=name
                )

    async def streams(self, snippets: Snippets) -> None:
        """Measures streamed runs."""
        first = "first message of an empty stream"
        await self._timed(first, _Client.first_message, _SLOWER_CALLS)
        await self._timed(
            "first byte of a streamed run",
            lambda it: it.first_byte(snippets.slow),
            _SLOWER_CALLS,
            first,
        )
        for count, size in ((_LINES, _LINE), (_CHUNKS, CHUNK)):
            of = f" in writes of {size} B"
            empty, code = "a MiB of empty streams" + of, snippets.writes(count, size)
            mib = count * size / (1 << 20)
            await self._amount(empty, mib, lambda it, c=count, s=size: it.read_empty(c, s))
            await self._amount("a MiB of stdout" + of, mib, lambda it, c=code: it.read(c), empty)
        if snippets.result and self._few:
            code, mib = snippets.result, 1e7 / (1 << 20)
            await self._amount("a MiB of results of 10 MB", mib, lambda it: it.read(code), empty)

    async def lives(self, snippets: Snippets) -> None:
        """Measures creates, forks and deletes."""
        floor = "empty call"
        await self._create(floor)
        await self._timed("delete", _Client.delete, floor=floor, all_="deletes")
        await self._create()
        await self._all(lambda it: it.begin(snippets.forever))
        await self._timed("delete, forced while it runs", _Client.delete, floor=floor)
        if self._few:
            await self._create()
            await self._all(lambda it: it.leave(snippets.children))
            await self._timed("delete, with 50 child processes", _Client.delete, floor=floor)
        if self._language == "python":
            await self._timed("fork", _Client.fork, floor=floor, all_="forks")
            await self._all(_Client.delete)

    @contextlib.contextmanager
    def _cpu(self, name: str, pid: int) -> Iterator[None]:
        """Adds what each of `_CALLS` calls takes of processors: in the server, below it, and in the clients."""
        if self._language != "python":
            yield
            return
        parts = {
            "in the server": lambda: cpu_time_s(pid),
            "below the server": lambda: cpu_time_below_s(pid),
            "in the clients": lambda: cpu_time_s(os.getpid()),
        }
        before = {part: now() for part, now in parts.items()}
        yield
        for part, now in parts.items():
            value = (now() - before[part]) / (_CALLS // len(self._clients) * len(self._clients))
            if value > 0:
                self._figures.add(self._name(f"CPU time of {name} {part}"), value)

    async def _create(self, floor: str = "") -> None:
        wait_for_pool(self._stub, self._language)
        if floor:
            await self._timed(
                "create", lambda it: it.create(self._language), floor=floor, all_="creates"
            )
        else:
            await self._all(lambda it: it.create(self._language))

    async def _timed(
        self, name: str, do: _Do, total: int = 1, floor: str = "", *, all_: str = ""
    ) -> None:
        """Adds how long each call took, and if wanted what one of them takes on the average.

        Args:
            name: What the call is.
            do: Makes the call.
            total: How many all clients make together; at least one each.
            floor: What it is compared to.
            all_: What the calls are together.
        """
        times = max(1, total // len(self._clients))
        latencies: list[float] = []
        elapsed = await self._all(do, times, latencies)
        for latency in latencies:
            self._figures.add(self._name(name), latency, floor=self._name(floor))
        if all_:
            base = "each of all empty calls" if floor == "empty call" else ""
            self._figures.add(
                self._name(f"each of all {all_}"),
                elapsed / (times * len(self._clients)),
                floor=self._name(base),
                rate="calls",
            )

    async def _amount(self, name: str, mib_each: float, do: _Do, floor: str = "") -> None:
        """Adds how long a MiB takes where each client reads so many."""
        elapsed = await self._all(do)
        seconds = elapsed / (mib_each * len(self._clients))
        self._figures.add(self._name(name), seconds, floor=self._name(floor), rate="MiB")

    def _name(self, name: str) -> str:
        return f"{self._language}: {name}, clients={len(self._clients)}" if name else ""

    async def _all(self, do: _Do, times: int = 1, latencies: list[float] | None = None) -> float:
        """Has every client do something so often, side by side; returns how long all of it took."""

        async def client(it: _Client) -> None:
            for _ in range(times):
                began = time.perf_counter()
                came = await do(it)
                if latencies is not None:
                    latencies.append((came or time.perf_counter()) - began)

        began = time.perf_counter()
        await asyncio.gather(*map(client, self._clients))
        return time.perf_counter() - began

"""Streams: how soon the first byte comes, and how much comes in a second."""

from __future__ import annotations

import collections
import contextlib
import threading
import time

import grpc
from calls import CHUNK, Floor, create, delete, read_stdout
from effort import Effort
from figures import Expectation, Figures
from processes import ask, helper, read_line, server
from snippets import SNIPPETS, request

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

EXPECTATIONS = (
    Expectation("first byte of a streamed run", 2.0),
    Expectation("100,000 prints", 1000.0),
    Expectation("100,000 prints", 3.0, "100,000 prints into a pipe"),
    Expectation("a MiB of stdout, in 64 KiB", 2.0, "a MiB of an empty stream, in 64 KiB"),
    Expectation("a run of 200 lines, watched", 1.05, "a run of 200 lines"),
)

_PRINTS = 100_000
_PYTHON = SNIPPETS["python"]
_LINES = """
import time
for n in range(200):
    until = time.perf_counter() + 0.001
    while time.perf_counter() < until: pass
    print(n)
"""
_SIZES = {64: 4, 1024: 16, 8 * 1024: 64, CHUNK: 128}
"""By the bytes of a write: how many MiB are read at once."""


def measure(figures: Figures, effort: Effort) -> None:
    """Measures each stream in turns with an empty one."""
    with contextlib.ExitStack() as stack:
        floors = stack.enter_context(helper("calls"))
        printer = stack.enter_context(helper("prints"))
        served = stack.enter_context(server())
        read_line(printer)
        floor = Floor(stack.enter_context(grpc.insecure_channel(read_line(floors))))
        stub = CodeContextServiceStub(stack.enter_context(grpc.insecure_channel(served.target)))
        context_id = create(stub)
        for into in effort.rounds(figures, 600):
            _first_bytes(into, floor, stub, context_id)
        expected = sum(len(str(number)) + 1 for number in range(_PRINTS))
        code = f"for number in range({_PRINTS}): print(number)"
        for into in effort.rounds(figures, 9):
            into.add("100,000 prints into a pipe", float(ask(printer, str(_PRINTS))))
            with into.timed("100,000 prints", floor="100,000 prints into a pipe"):
                size = read_stdout(stub, context_id, code)
            assert size == expected, size
        for size in _SIZES:
            for into in effort.rounds(figures, 9):
                _throughput(into, floor, stub, context_id, size=size)
        for into in effort.rounds(figures, 20):
            _watched(into, stub, context_id)
        for into in effort.rounds(figures, 9):
            with into.timed("a result of 10 MB", floor="a MiB of an empty stream, in 64 KiB"):
                size = _read_result(stub, context_id)
            assert size > 10_000_000, size
        delete(stub, context_id)


def _first_bytes(
    into: Figures, floor: Floor, stub: CodeContextServiceStub, context_id: str
) -> None:
    began = time.perf_counter()
    into.add("first message of an empty stream", floor.first_message() - began)
    asked = request(context_id, _PYTHON.slow)
    first = 0.0
    began = time.perf_counter()
    for answer in stub.RunCodeStream(asked):
        if answer.event.stdout:
            first = first or time.perf_counter()
    name = "first byte of a streamed run"
    into.add(name, first - began, floor="first message of an empty stream")


def _watched(into: Figures, stub: CodeContextServiceStub, context_id: str) -> None:
    """Times a run that computes and prints, without a watcher and with one that reads along."""
    with into.timed("a run of 200 lines"):
        read_stdout(stub, context_id, _LINES)
    with into.timed("a run of 200 lines, watched", floor="a run of 200 lines"):
        stream = stub.RunCodeStream(request(context_id, _LINES))
        first = next(stream)
        watch = stub.WatchExecution(pb.WatchExecutionRequest(execution_id=first.event.execution_id))
        watcher = threading.Thread(target=lambda: collections.deque(watch, maxlen=0))
        watcher.start()
        collections.deque(stream, maxlen=0)
    watcher.join()


def _throughput(
    into: Figures, floor: Floor, stub: CodeContextServiceStub, context_id: str, *, size: int
) -> None:
    mib = _SIZES[size]
    count = (mib << 20) // size
    empty = f"a MiB of an empty stream, bytes={size}"
    names = {f"a MiB of stdout, bytes={size}": empty}
    if size == CHUNK:  # the ones that are held to what is expected
        names["a MiB of stdout, in 64 KiB"] = "a MiB of an empty stream, in 64 KiB"
    messages = min(count, 20_000)  # a million small messages would take a minute
    began = time.perf_counter()
    read = floor.read(messages, size)
    empty_s = (time.perf_counter() - began) / (read / (1 << 20))
    assert read == messages * size, read
    began = time.perf_counter()
    read = read_stdout(stub, context_id, _PYTHON.writes(count, size))
    stdout_s = (time.perf_counter() - began) / mib
    assert read == mib << 20, read
    for name, floor_name in names.items():
        into.add(floor_name, empty_s, rate="MiB")
        into.add(name, stdout_s, floor=floor_name, rate="MiB")


def _read_result(stub: CodeContextServiceStub, context_id: str) -> int:
    asked = request(context_id, _PYTHON.result)
    return sum(
        len(part.text) for answer in stub.RunCodeStream(asked) for part in answer.event.result.parts
    )

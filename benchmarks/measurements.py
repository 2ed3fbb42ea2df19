"""What is measured: each figure beside its floor, in turns."""

from __future__ import annotations

import json
import time
from subprocess import Popen

import grpc
from figures import Figures
from floor_server import SERVICE
from processes import ask

from codecontext import CodeContextClient
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

CHUNK = 64 * 1024
PRINTS = 100_000
SLOW = "print('x', flush=True); import time; time.sleep(0.003)"


class Floor:
    """The calls of the floor's server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._empty: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/{SERVICE}/Empty"
        )
        self._stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(
            f"/{SERVICE}/Stream"
        )

    def call(self) -> None:
        """Makes an empty unary call."""
        self._empty(b"")

    def first_message(self) -> float:
        """Reads a stream of one message, and returns the moment at which it comes."""
        came = 0.0
        for _ in self._stream(b"1 1"):
            came = time.perf_counter()
        return came

    def read(self, chunks: int) -> int:
        """Reads a stream of chunks, and returns how many bytes it had."""
        return sum(map(len, self._stream(b"%d %d" % (chunks, CHUNK))))


def create(stub: CodeContextServiceStub) -> str:
    """Creates a context and returns its id."""
    return stub.CreateCodeContext(pb.CreateCodeContextRequest()).context.id


def measure_runs(figures: Figures, floor: Floor, target: str, count: int) -> None:
    """Measures a run, by the bare stub and by the client."""
    with grpc.insecure_channel(target) as channel, CodeContextClient(target) as client:
        stub = CodeContextServiceStub(channel)
        context_id = create(stub)
        request = pb.RunCodeRequest(context_id=context_id, code="1+1")
        answer = stub.RunCode(request)
        assert answer.execution.results[0].parts[0].text == "2", answer
        for number in range(-count // 10, count):
            into = figures if number >= 0 else Figures()  # the first are to warm up
            with into.timed("empty call"):
                floor.call()
            with into.timed("RunCode('1+1')"):
                stub.RunCode(request)
            with into.timed("client.run_code('1+1')"):
                client.run_code("1+1", context=context_id)
        stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=context_id))


def measure_streams(
    figures: Figures, floor: Floor, stub: CodeContextServiceStub, count: int
) -> None:
    """Measures the time to the first byte of a run that goes on after it."""
    context_id = create(stub)
    request = pb.RunCodeStreamRequest(context_id=context_id, code=SLOW)
    for number in range(-count // 10, count):
        into = figures if number >= 0 else Figures()
        began = time.perf_counter()
        into.add("first message of an empty stream", floor.first_message() - began)
        first = 0.0
        began = time.perf_counter()
        for answer in stub.RunCodeStream(request):
            if answer.event.stdout:
                first = first or time.perf_counter()
        into.add("first byte of a streamed run", first - began)
    stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=context_id))


def wait_for_pool(stub: CodeContextServiceStub) -> None:
    """Waits until the pool is full and the server has nothing to do."""
    runtime = stub.GetServerInfo(pb.GetServerInfoRequest()).runtimes[0]
    while runtime.pool_ready < runtime.pool_size:
        time.sleep(0.002)
        runtime = stub.GetServerInfo(pb.GetServerInfoRequest()).runtimes[0]


def measure_creates(
    figures: Figures, floor: Floor, stub: CodeContextServiceStub, count: int
) -> None:
    """Measures creates from a full pool, and deletes of contexts that have run something."""
    for number in range(-count // 10, count):
        into = figures if number >= 0 else Figures()
        wait_for_pool(stub)
        with into.timed("empty call (beside creates)"):
            floor.call()
        with into.timed("create from the pool"):
            context_id = create(stub)
        stub.RunCode(pb.RunCodeRequest(context_id=context_id, code="1+1"))
        wait_for_pool(stub)
        request = pb.DeleteCodeContextRequest(context_id=context_id)
        with into.timed("delete, everything gone"):
            stub.DeleteCodeContext(request)


def measure_forks(
    figures: Figures, forker: Popen[str], stub: CodeContextServiceStub, count: int
) -> None:
    """Measures creates by a server without a pool."""
    for number in range(-count // 10, count):
        into = figures if number >= 0 else Figures()
        into.add("bare fork", json.loads(ask(forker, "1"))[0])
        with into.timed("create past the pool"):
            context_id = create(stub)
        stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=context_id))


def measure_prints(
    figures: Figures, printer: Popen[str], stub: CodeContextServiceStub, count: int
) -> None:
    """Measures how long it takes to read 100,000 lines, each printed by a `print` of its own."""
    context_id = create(stub)
    code = f"for number in range({PRINTS}): print(number)"
    request = pb.RunCodeStreamRequest(context_id=context_id, code=code)
    expected = sum(len(str(number)) + 1 for number in range(PRINTS))
    for number in range(-1, count):
        into = figures if number >= 0 else Figures()
        into.add("100,000 prints into a pipe", float(ask(printer, str(PRINTS))))
        with into.timed("100,000 prints"):
            size = sum(len(answer.event.stdout) for answer in stub.RunCodeStream(request))
        assert size == expected, size
    stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=context_id))


def measure_throughput(
    figures: Figures, floor: Floor, stub: CodeContextServiceStub, count: int, mib: int
) -> None:
    """Measures how long it takes to read a large standard output, written in chunks."""
    context_id = create(stub)
    chunks = (mib << 20) // CHUNK
    code = f"import sys\nfor _ in range({chunks}): _ = sys.stdout.write('x' * {CHUNK})"
    request = pb.RunCodeStreamRequest(context_id=context_id, code=code)
    for _ in range(count):
        with figures.timed(f"{mib} MiB of empty stream"):
            size = floor.read(chunks)
        assert size == mib << 20, size
        with figures.timed(f"{mib} MiB of stdout"):
            size = sum(len(answer.event.stdout) for answer in stub.RunCodeStream(request))
        assert size == mib << 20, size
    stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=context_id))

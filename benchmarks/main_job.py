"""Measures the main job beside its floors, in one run: `make bench`, or with `--quick`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
from floor_server import SERVICE

from codecontext import CodeContextClient
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "examples"))
from local_server import local_server  # noqa: E402

CHUNKS = 2048
"""How many chunks of 64 KiB a throughput is measured with."""


@contextlib.contextmanager
def helper(name: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a helper process, and ends it."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / name)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Figures:
    """Times by name, in seconds."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def measure(self, name: str, action: Callable[[], object]) -> None:
        """Times one action."""
        began = time.perf_counter()
        action()
        self.add(name, time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        """Takes a time."""
        self.times.setdefault(name, []).append(seconds)

    def p50(self, name: str) -> float:
        """Returns the median."""
        return statistics.median(self.times[name])

    def p99(self, name: str) -> float:
        """Returns the 99th percentile."""
        return sorted(self.times[name])[int(len(self.times[name]) * 0.99)]


def fork_times(forker: subprocess.Popen[str], count: int) -> list[float]:
    """Asks the floor of a create for some forks."""
    assert forker.stdin is not None
    assert forker.stdout is not None
    forker.stdin.write(f"{count}\n")
    forker.stdin.flush()
    times: list[float] = json.loads(forker.stdout.readline())
    return times


def measure_calls(
    figures: Figures, target: str, empty: Callable[[bytes], bytes], rounds: int
) -> None:
    """Measures runs, creates from the pool, deletes and first bytes, with the empty call between."""
    with grpc.insecure_channel(target) as channel, CodeContextClient(target) as client:
        stub = CodeContextServiceStub(channel)
        context_id = stub.CreateCodeContext(pb.CreateCodeContextRequest()).context.id
        run = pb.RunCodeRequest(context_id=context_id, code="1+1")
        slow = "print('x')\nimport time; time.sleep(0.005)"
        streamed = pb.RunCodeStreamRequest(context_id=context_id, code=slow)
        for _ in range(50):
            empty(b"")
            stub.RunCode(run)
        for _ in range(rounds):
            figures.measure("empty unary call", lambda: empty(b""))
            figures.measure("RunCode('1+1')", lambda: stub.RunCode(run))
            figures.measure(
                "client.run_code('1+1')", lambda: client.run_code("1+1", context=context_id)
            )
        for _ in range(rounds // 5):
            began = time.perf_counter()
            came = [time.perf_counter() for a in stub.RunCodeStream(streamed) if a.event.stdout]
            figures.add("first byte of a stream", came[0] - began)
        for _ in range(rounds // 10):
            while stub.GetServerInfo(pb.GetServerInfoRequest()).runtimes[0].pool_ready < 4:
                pass
            began = time.perf_counter()
            created = stub.CreateCodeContext(pb.CreateCodeContextRequest()).context.id
            figures.add("create from the pool", time.perf_counter() - began)
            request = pb.DeleteCodeContextRequest(context_id=created)
            figures.measure("delete, all gone", lambda r=request: stub.DeleteCodeContext(r))


def measure_forks(figures: Figures, target: str, rounds: int) -> None:
    """Measures creates past the pool, with the bare fork between."""
    with helper("fork_floor.py") as forker, grpc.insecure_channel(target) as channel:
        stub = CodeContextServiceStub(channel)
        fork_times(forker, 5)
        for _ in range(rounds // 10):
            for seconds in fork_times(forker, 1):
                figures.add("bare fork", seconds)
            began = time.perf_counter()
            created = stub.CreateCodeContext(pb.CreateCodeContextRequest()).context.id
            figures.add("create past the pool", time.perf_counter() - began)
            stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=created))


def measure_throughput(figures: Figures, target: str, floor: grpc.Channel) -> None:
    """Measures how long 128 MiB take as an empty stream, and as standard output."""
    stream = floor.unary_stream(f"/{SERVICE}/Stream")
    with grpc.insecure_channel(target) as channel:
        stub = CodeContextServiceStub(channel)
        context_id = stub.CreateCodeContext(pb.CreateCodeContextRequest()).context.id
        code = f"import sys\nfor _ in range({CHUNKS}): _ = sys.stdout.write('x' * 65536)"
        request = pb.RunCodeStreamRequest(context_id=context_id, code=code)
        for _ in range(3):
            figures.measure(
                "128 MiB, empty stream", lambda: sum(map(len, stream(str(CHUNKS).encode())))
            )
            figures.measure(
                "128 MiB of stdout",
                lambda: sum(len(answer.event.stdout) for answer in stub.RunCodeStream(request)),
            )


def report(figures: Figures) -> None:
    """Prints every figure, and the expectations as ratios."""
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"grpcio {grpc.__version__}\n"
    )
    print(f"{'':28}{'p50 ms':>10}{'p99 ms':>10}{'n':>7}")
    for name, times in figures.times.items():
        p50, p99 = figures.p50(name) * 1e3, figures.p99(name) * 1e3
        print(f"{name:28}{p50:10.3f}{p99:10.3f}{len(times):7}")
    empty, fork = figures.p50("empty unary call"), figures.p50("bare fork")
    stream = figures.p50("128 MiB, empty stream")
    print()
    for what, value, limit in (
        ("RunCode('1+1') / empty call", figures.p50("RunCode('1+1')") / empty, 2.5),
        ("create from the pool / empty call", figures.p50("create from the pool") / empty, 3.0),
        ("create past the pool / bare fork", figures.p50("create past the pool") / fork, 3.0),
        ("delete, ms", figures.p50("delete, all gone") * 1e3, 6.0),
        ("first byte, ms", figures.p50("first byte of a stream") * 1e3, 2.0),
        ("empty stream's rate / stdout's", figures.p50("128 MiB of stdout") / stream, 3.0),
    ):
        print(f"{what:36}{value:8.2f}  at most {limit:g}: {'met' if value <= limit else 'MISSED'}")


def main() -> None:
    """Measures everything and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    parser.add_argument("--json", type=Path, help="write all times, in seconds, to this file")
    arguments = parser.parse_args()
    rounds = 100 if arguments.quick else 1000
    figures = Figures()
    with helper("floor_server.py") as floor_process, local_server() as target:
        assert floor_process.stdout is not None
        with grpc.insecure_channel(floor_process.stdout.readline().strip()) as floor:
            measure_calls(figures, target, floor.unary_unary(f"/{SERVICE}/Empty"), rounds)
            measure_throughput(figures, target, floor)
    with local_server("--pool-size", "0") as target:
        measure_forks(figures, target, rounds)
    report(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures.times))


if __name__ == "__main__":
    main()

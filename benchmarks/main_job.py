"""Measures the main job, one client and one context, beside its floors: each next to its own, in turns.

The machine may be busy with other things: what counts are the ratios to the floors, which had the same
noise. A figure that misses what is expected of it is told, and is no failure of the benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
from figures import Expectation, Figures, as_json, machine, print_table
from measurements import (
    Floor,
    measure_creates,
    measure_forks,
    measure_prints,
    measure_runs,
    measure_streams,
    measure_throughput,
)
from processes import end_in_order, helper, read_line, server

from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

EXPECTATIONS = (
    Expectation("RunCode('1+1')", 2.5, "empty call"),
    Expectation("create from the pool", 3.0, "empty call (beside creates)"),
    Expectation("create past the pool", 3.0, "bare fork"),
    Expectation("delete, everything gone", 6.0),
    Expectation("first byte of a streamed run", 2.0),
    Expectation("100,000 prints", 1000.0),
    Expectation("100,000 prints", 3.0, "100,000 prints into a pipe"),
    Expectation("{mib} MiB of stdout", 3.0, "{mib} MiB of empty stream"),
)


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    runs: int
    streams: int
    creates: int
    forks: int
    prints: int
    throughputs: int
    mib: int


FULL = Sizes(runs=3000, streams=600, creates=300, forks=200, prints=9, throughputs=9, mib=256)
QUICK = Sizes(runs=500, streams=150, creates=60, forks=40, prints=3, throughputs=3, mib=128)


def measure(sizes: Sizes) -> Figures:
    """Starts everything, measures everything, and ends everything."""
    figures = Figures()
    with contextlib.ExitStack() as stack:
        # All processes before the first channel, whose threads should not be forked.
        floor_process = stack.enter_context(helper("floor_server.py"))
        forker = stack.enter_context(helper("fork_floor.py"))
        printer = stack.enter_context(helper("print_floor.py"))
        pooled = stack.enter_context(server())
        poolless = stack.enter_context(server("--pool-size", "0"))
        floor_target = read_line(floor_process)
        read_line(printer)
        if missing := json.loads(read_line(forker))["missing"]:
            print(f"note: not installed, so not loaded: {', '.join(missing)}", file=sys.stderr)

        floor = Floor(stack.enter_context(grpc.insecure_channel(floor_target)))
        stub = CodeContextServiceStub(stack.enter_context(grpc.insecure_channel(pooled)))
        bare = CodeContextServiceStub(stack.enter_context(grpc.insecure_channel(poolless)))
        measure_runs(figures, floor, pooled, sizes.runs)
        measure_streams(figures, floor, stub, sizes.streams)
        measure_creates(figures, floor, stub, sizes.creates)
        measure_forks(figures, forker, bare, sizes.forks)
        measure_prints(figures, printer, stub, sizes.prints)
        measure_throughput(figures, floor, stub, sizes.throughputs, sizes.mib)
    return figures


def main() -> int:
    """Measures everything and prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="measure less, in about 20 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    about = machine()
    end_in_order()
    try:
        figures = measure(sizes)
    except KeyboardInterrupt:
        print("interrupted; everything is stopped", file=sys.stderr)
        return 130
    expectations = tuple(
        Expectation(each.name.format(mib=sizes.mib), each.at_most, each.floor.format(mib=sizes.mib))
        for each in EXPECTATIONS
    )
    print_table(figures, expectations, about, sizes.mib)
    if arguments.json:
        arguments.json.write_text(
            json.dumps(as_json(figures, expectations, about), indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measures everything beside its floors, and writes down what it has found.

The machine may be busy with other things: what counts are the ratios to the floors, which had the same
noise. A figure that misses what is expected of it is told, and is no failure of the benchmark.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import measures
import pictures
import pyperf
import report
from effort import Effort
from figures import Expectation, Figure, suite_of
from processes import end_in_order

RESULTS = Path(__file__).parent / "results"
QUICK = 0.15


def run_alone(name: str, effort: Effort) -> list[Figure]:
    """Runs a module in a process of its own: its servers and threads are no other's."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=end_in_order) as executor:
        return executor.submit(measures.run, name, effort).result()


def main() -> int:
    """Measures, prints, writes and compares; the status tells whether everything could be measured."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="measure less, in about two minutes")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=", ".join(measures.names()))
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=RESULTS)
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an earlier latest.json")
    arguments = parser.parse_args()
    names = arguments.only or measures.names()
    if unknown := sorted(set(names) - set(measures.names())):
        parser.error(
            f"no such module: {', '.join(unknown)}; there are {', '.join(measures.names())}"
        )
    earlier = pyperf.BenchmarkSuite.load(str(arguments.compare)) if arguments.compare else None

    about = report.machine()
    effort = Effort(QUICK if arguments.quick else 1.0)
    figures: list[Figure] = []
    expectations: list[Expectation] = []
    failed = []
    for name in names:
        began = time.monotonic()
        try:
            figures += run_alone(name, effort)
        except KeyboardInterrupt:
            print("interrupted; everything is stopped", file=sys.stderr)
            return 130
        except Exception as error:
            failed.append(name)
            print(f"{name} could not be measured: {error!r}", file=sys.stderr)
        expectations += measures.expectations(name)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)

    if not figures:
        return 1
    suite = suite_of(figures, about)
    arguments.out.mkdir(parents=True, exist_ok=True)
    latest = arguments.out / "latest.json"
    suite.dump(str(latest), replace=True)
    report.print_all(suite, expectations, about)
    if earlier is not None:
        report.print_comparison(suite, earlier)
    drawn = pictures.draw_all(suite, arguments.out)
    print(f"\nwritten: {', '.join(str(path) for path in (latest, *drawn))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

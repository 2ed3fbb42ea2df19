"""Times, what is expected of them, and the table that tells both."""

from __future__ import annotations

import contextlib
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from os import cpu_count, getloadavg, sched_getaffinity
from typing import Any


class Figures:
    """Times by name, in seconds."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Times what is done within it."""
        times = self.times.setdefault(name, [])
        began = time.perf_counter()
        yield
        times.append(time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        """Takes a time."""
        self.times.setdefault(name, []).append(seconds)

    def p50(self, name: str) -> float:
        """Returns the median."""
        return statistics.median(self.times[name])

    def p99(self, name: str) -> float:
        """Returns the 99th percentile; of few times, the longest."""
        times = sorted(self.times[name])
        return times[min(len(times) - 1, round(len(times) * 0.99))]


@dataclass(frozen=True)
class Expectation:
    """What a figure may be at most."""

    name: str
    at_most: float
    floor: str = ""
    """What it is divided by; empty: it is a time in milliseconds."""

    def value(self, figures: Figures) -> float:
        """Returns what was measured, in the unit of `at_most`."""
        p50 = figures.p50(self.name)
        return p50 / figures.p50(self.floor) if self.floor else p50 * 1e3


def machine() -> dict[str, Any]:
    """Describes what the figures were measured with."""
    packages = ("grpcio", "protobuf", "uvloop", "ipython", "numpy", "pandas", "matplotlib")
    return {
        "cores": cpu_count(),
        "usable_cores": len(sched_getaffinity(0)),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "load_before": getloadavg()[0],
    }


def print_table(
    figures: Figures, expectations: tuple[Expectation, ...], about: dict[str, Any], mib: float
) -> None:
    """Prints every figure and every expectation.

    Args:
        figures: What was measured.
        expectations: What was expected.
        about: What `machine` said.
        mib: The size of a throughput's stream, in MiB.
    """
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    print(f"{about['cores']} cores ({about['usable_cores']} usable), {about['machine']}, ", end="")
    print(f"Linux {about['kernel']}, load {about['load_before']:.2f} at the start")
    print(f"Python {about['python']}, {versions}\n")

    print(f"{'':34}{'p50 ms':>10}{'p99 ms':>10}{'n':>7}{'p50 MiB/s':>11}")
    for name, times in figures.times.items():
        p50, p99 = figures.p50(name), figures.p99(name)
        rate = f"{mib / p50:11.0f}" if "MiB" in name else ""
        print(f"{name:34}{p50 * 1e3:10.3f}{p99 * 1e3:10.3f}{len(times):7}{rate}")

    print(f"\n{'ratio of the p50s, or p50':56}{'is':>7}{'at most':>9}")
    for each in expectations:
        value = each.value(figures)
        what = f"{each.name} / {each.floor}" if each.floor else f"{each.name}, ms"
        verdict = "met" if value <= each.at_most else "missed"
        print(f"{what:56}{value:7.2f}{each.at_most:9.1f}  {verdict}")


def as_json(
    figures: Figures, expectations: tuple[Expectation, ...], about: dict[str, Any]
) -> dict[str, Any]:
    """Returns all of it; times are in seconds."""
    return {
        "machine": about,
        "figures": {
            name: {"p50": figures.p50(name), "p99": figures.p99(name), "times": times}
            for name, times in figures.times.items()
        },
        "expectations": [
            {
                "figure": each.name,
                "floor": each.floor or None,
                "unit": "ratio" if each.floor else "ms",
                "value": each.value(figures),
                "at_most": each.at_most,
                "met": each.value(figures) <= each.at_most,
            }
            for each in expectations
        ],
    }

"""Times and sizes by name: pyperf keeps them and does the statistics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyperf

Statistics = pyperf.Benchmark


@dataclass(frozen=True)
class Expectation:
    """What a figure may be at most."""

    name: str
    at_most: float
    floor: str = ""
    """What it is divided by; empty: it is a time in milliseconds, or a size in MiB."""
    percentile: int = 50
    """Of the figure, and of its floor."""
    beyond_ms: float = 0.0
    """What it may take beyond that, in milliseconds."""

    def __str__(self) -> str:
        which = "" if self.percentile == 50 else f" (p{self.percentile})"
        beyond = f" less {self.beyond_ms:g} ms" if self.beyond_ms else ""
        return f"{self.name}{which}{beyond}" + (f" / {self.floor}" if self.floor else "")


@dataclass
class Figure:
    """What was measured under one name."""

    name: str
    values: list[float] = field(default_factory=list)
    floor: str = ""
    """The name of what it is compared to."""
    unit: str = "second"
    """`second` or `byte`."""
    rate: str = ""
    """Where a value is the time that one of many takes: what they are, to be told by the second."""

    @property
    def statistics(self) -> Statistics:
        """Its distribution."""
        metadata = {"name": self.name, "unit": self.unit}
        if self.floor:
            metadata["floor"] = self.floor
        if self.rate:
            metadata["rate"] = self.rate
        # pyperf wants values above 0; a tenth of a microsecond is finer than anything here.
        values = [max(round(value, 7), 1e-7) for value in self.values]
        return pyperf.Benchmark([pyperf.Run(values, metadata=metadata, collect_metadata=False)])


class Figures:
    """All that a module measures."""

    def __init__(self) -> None:
        """Starts empty."""
        self.all: dict[str, Figure] = {}

    @contextlib.contextmanager
    def timed(self, name: str, *, floor: str = "", share: int = 1) -> Iterator[None]:
        """Times what is done within it.

        Args:
            name: What it is.
            floor: What it is compared to.
            share: Of how many equal parts one counts.
        """
        began = time.perf_counter()
        yield
        self.add(name, (time.perf_counter() - began) / share, floor=floor)

    def add(
        self, name: str, value: float, *, floor: str = "", unit: str = "second", rate: str = ""
    ) -> None:
        """Takes a time in seconds, or a size in bytes."""
        figure = self.all.setdefault(name, Figure(name, [], floor, unit, rate))
        figure.values.append(value)


def suite_of(figures: list[Figure], metadata: dict[str, str]) -> pyperf.BenchmarkSuite:
    """Makes what is written to a file, and read by pyperf's own commands too."""
    benchmarks = [figure.statistics for figure in figures if figure.values]
    for each in benchmarks:
        each.update_metadata(metadata)
    return pyperf.BenchmarkSuite(benchmarks)


def value_of(expectation: Expectation, suite: pyperf.BenchmarkSuite) -> float | None:
    """Returns what was measured, in the unit of `at_most`; None if it was not measured."""
    named = {each.get_name(): each for each in suite}
    if expectation.name not in named or (expectation.floor and expectation.floor not in named):
        return None
    figure = named[expectation.name]
    value = figure.percentile(expectation.percentile)
    if figure.get_unit() == "byte":
        return float(value / (1 << 20))
    value -= expectation.beyond_ms / 1e3
    if expectation.floor:
        return float(value / named[expectation.floor].percentile(expectation.percentile))
    return float(value * 1e3)

"""What was measured, in words: tables of figures, of what was expected, and of ratios to an earlier result."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import version
from os import cpu_count, getloadavg, sched_getaffinity

import pyperf
from figures import Expectation, Statistics, value_of

_PACKAGES = ("grpcio", "protobuf", "uvloop", "ipython", "numpy", "pandas", "matplotlib")
_NOISE = 1.15
"""A ratio that is nearer to 1 than this says nothing on a machine that does other things too."""


def machine() -> dict[str, str]:
    """Describes what the figures are measured with."""
    return {
        "cores": f"{cpu_count()} ({len(sched_getaffinity(0))} usable)",
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "load_before": f"{getloadavg()[0]:.2f}",
    }


def print_all(
    suite: pyperf.BenchmarkSuite, expectations: Iterable[Expectation], about: dict[str, str]
) -> None:
    """Prints every figure, and what was expected of them."""
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    named = {each.get_name(): each for each in suite}
    print(f"\n{'':58}{'p50':>12}{'p99':>12}{'n':>6}{'p50 / floor':>13}")
    module = ""
    for name, each in named.items():
        before, (module, own_name) = module, name.split(": ", 1)
        if module != before:
            print(f"{module}:")
        p50, p99 = each.percentile(50), each.percentile(99)
        floor = named.get(each.get_metadata().get("floor", ""))
        ratio = f"{p50 / floor.percentile(50):12.2f}x" if floor is not None else ""
        rate = each.get_metadata().get("rate", "")
        a_second = f"  {1 / p50:,.0f} {rate} a second" if rate else ""
        line = f"  {own_name:56}{shown(p50, each)}{shown(p99, each)}{each.get_nvalue():6}"
        print(f"{line}{ratio:13}{a_second}".rstrip())

    print(f"\n{'ratio, ms or MiB':104}{'is':>8}{'at most':>9}")
    for expectation in expectations:
        value = value_of(expectation, suite)
        if value is None:
            print(f"{expectation!s:104}{'-':>8}{expectation.at_most:9.2f}  not measured")
            continue
        verdict = "met" if value <= expectation.at_most else "missed"
        print(f"{expectation!s:104}{value:8.2f}{expectation.at_most:9.2f}  {verdict}")


def shown(value: float, figure: Statistics) -> str:
    """Formats a value in its unit."""
    if figure.get_unit() == "byte":
        return f"{value / (1 << 20):8.1f} MiB"
    return f"{value * 1e3:9.3f} ms"


def print_comparison(suite: pyperf.BenchmarkSuite, earlier: pyperf.BenchmarkSuite) -> None:
    """Prints how figures relate to earlier ones: what has a floor by its ratio to that, on both sides."""
    now, before = ({each.get_name(): each for each in some} for some in (suite, earlier))
    print(f"\n{'now / before (of ratios to floors, where there are)':72}{'p50':>8}{'p99':>8}")
    for name in now:
        if name not in before:
            continue
        floor = now[name].get_metadata().get("floor", "")
        if floor not in now or floor not in before:
            floor = ""
        ratios = []
        for percentile in (50, 99):
            value = now[name].percentile(percentile) / before[name].percentile(percentile)
            if floor:
                value *= before[floor].percentile(50) / now[floor].percentile(50)
            ratios.append(value)
        verdict = "slower" if ratios[0] > _NOISE else "faster" if ratios[0] * _NOISE < 1 else ""
        print(f"  {name:70}{ratios[0]:8.2f}{ratios[1]:8.2f}  {verdict}")

"""What was measured, in pictures: a distribution for each figure, and curves over what was varied."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import pyperf
from figures import Statistics
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

mpl.use("agg")

_VARIED = re.compile(r"^((?P<group>[a-z]+): )?(?P<what>.*), (?P<name>[a-z_ ]+)=(?P<number>\d+)$")
_FEW = 5
"""So few values have no distribution to show."""


class _Curves(NamedTuple):
    """Which figures are drawn together."""

    title: str
    varied: str
    unit: str
    """That of pyperf; or what is counted by the second."""

    def scaled(self, value: float) -> float:
        """Returns a value in the unit of the picture."""
        if self.unit == "second":
            return value * 1e3
        return value / (1 << 20) if self.unit == "byte" else 1 / value


def draw_all(suite: pyperf.BenchmarkSuite, folder: Path) -> list[Path]:
    """Draws the pictures of a result.

    Args:
        suite: The result.
        folder: Where the pictures go.

    Returns:
        The files that were written.
    """
    by_module: dict[str, list[Statistics]] = defaultdict(list)
    curves: dict[_Curves, dict[str, list[tuple[int, Statistics]]]] = defaultdict(dict)
    for each in suite:
        module, name = each.get_name().split(": ", 1)
        if varied := _VARIED.match(name):
            titles = filter(None, (module, varied["group"]))
            rate = each.get_metadata().get("rate", "")
            key = _Curves(": ".join(titles), varied["name"], rate or each.get_unit())
            curves[key].setdefault(varied["what"], []).append((int(varied["number"]), each))
        elif each.get_nvalue() >= _FEW and each.get_unit() == "second":
            by_module[module].append(each)
    return [
        *(_draw_distributions(module, some, folder) for module, some in by_module.items()),
        *(_draw_curves(key, lines, folder) for key, lines in curves.items()),
    ]


def _draw_distributions(module: str, figures: list[Statistics], folder: Path) -> Path:
    """Draws for each figure how many of its values are at most so large."""
    figure, axes = plt.subplots(figsize=(12, 5), layout="constrained")
    axes.set_prop_cycle(color=mpl.colormaps["tab20"].colors)
    for each in figures:
        values = sorted(value * 1e3 for value in each.get_values())
        shares = [(number + 1) / len(values) for number in range(len(values))]
        axes.step(values, shares, where="post", label=each.get_name().removeprefix(f"{module}: "))
    axes.set(xscale="log", xlabel="milliseconds", ylabel="share of all", title=module)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(visible=True, which="both", alpha=0.2)
    figure.legend(fontsize="small", loc="outside right upper")
    return _save(figure, folder / f"{module}.png")


def _draw_curves(
    key: _Curves, lines: dict[str, list[tuple[int, Statistics]]], folder: Path
) -> Path:
    """Draws the medians of figures over what was varied; a band reaches from p5 to p95."""
    label = {"second": "milliseconds", "byte": "MiB"}.get(key.unit, f"{key.unit} a second")
    figure, axes = plt.subplots(figsize=(12, 5), layout="constrained")
    axes.set_prop_cycle(color=mpl.colormaps["tab20"].colors)
    for name, points in lines.items():
        at = [number for number, _ in points]
        low, middle, high = (
            [key.scaled(each.percentile(percent)) for _, each in points] for percent in (5, 50, 95)
        )
        (line,) = axes.plot(at, middle, marker="o", label=name)
        axes.fill_between(at, low, high, alpha=0.15, color=line.get_color())
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=key.varied,
        ylabel=label,
        title=f"{key.title}: {label} over {key.varied}",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(visible=True, which="both", alpha=0.2)
    figure.legend(fontsize="small", loc="outside right upper")
    name = re.sub(r"[^A-Za-z]+", "-", f"{key.title} {key.varied} {key.unit}")
    return _save(figure, folder / f"{name}.png")


def _save(figure: plt.Figure, path: Path) -> Path:
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path

"""Values of a description: bounded, and such that JSON can have them."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from codecontext_service.workers.python.streams import clean

MAX_SERIES_POINTS = 1_000
"""The most points, bars, bins, slices, boxes, outliers of a box, or cells that a series has."""

MAX_POINTS = 10_000
"""The most of them that a description has."""

MAX_SERIES, MAX_CHARTS, MAX_OTHERS = 200, 100, 20
"""The most series that a description has, charts of a figure, and other things that a chart names."""

MAX_TEXT = 300
"""The most characters of a title, a label, or a name."""

_UNIT = re.compile(r"[(\[]([^()\[\]]+)[)\]]\s*$")


class Budget:
    """How much more a description may have."""

    def __init__(self) -> None:
        """Starts with all of it."""
        self.points = MAX_POINTS
        self.series = MAX_SERIES
        self.truncated = False
        """Whether anything was left out."""

    def take(self, count: int) -> int:
        """Takes room for points, and returns for how many there was any."""
        taken = min(count, MAX_SERIES_POINTS, self.points)
        self.points -= taken
        self.truncated |= taken < count
        return taken

    def take_series(self, count: int = 1) -> bool:
        """Takes room for series, and returns whether there was any."""
        if count > self.series:
            self.truncated = True
            return False
        self.series -= count
        return True

    def sample(self, count: int) -> list[int]:
        """Takes room for points, and returns which ones to have: all, or evenly spread ones."""
        return spread(count, self.take(count))


def spread(count: int, chosen: int) -> list[int]:
    """Returns as many indices as are to be chosen, evenly spread, the first and the last among them."""
    if chosen >= count:
        return list(range(count))
    if chosen <= 1:
        return [0] * chosen
    return [round(at * (count - 1) / (chosen - 1)) for at in range(chosen)]


def series(
    kind: str, name: str | None, count: int, key: str, items: Sequence[Any]
) -> dict[str, Any]:
    """Returns a series.

    Args:
        kind: Its type.
        name: Its name.
        count: How many items it has in the figure.
        key: What its items are called.
        items: Those that are described.
    """
    return {
        "type": kind,
        "name": name,
        "count": count,
        "truncated": len(items) < count,
        key: items,
    }


def text(value: object) -> str | None:
    """Returns a text that can be sent; None for an empty one."""
    return clean(str(value), MAX_TEXT).strip() or None if value is not None else None


def number(value: Any) -> float | None:
    """Returns a number, or None for what is none and for what JSON does not have."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def unit(label: str | None) -> str | None:
    """Returns the unit in a label: what stands in brackets at its end."""
    found = _UNIT.search(label or "")
    return found.group(1).strip() or None if found else None


def overall_type(kinds: Sequence[str]) -> str:
    """Returns the type of a chart with series of some types."""
    different = set(kinds)
    if len(different) > 1:
        return "mixed"
    return different.pop() if different else "unknown"


def described(others: Counter[tuple[str, str | None]]) -> list[dict[str, Any]]:
    """Returns what a chart has beside its series: of each class and name, how many there are."""
    several = itertools.islice(others.items(), MAX_OTHERS)
    return [{"artist": kind, "name": name, "count": count} for (kind, name), count in several]


def layout_of(bars: Sequence[tuple[Sequence[Any], Sequence[float | None]]]) -> str | None:
    """Tells how several series of bars stand to each other.

    Args:
        bars: The positions of each one's bars, and what they stand on.

    Returns:
        `stacked`, `grouped` or `overlaid`; None if there are less than two.
    """
    if len(bars) < 2:
        return None
    first = set(bars[0][0])
    if not any(first.intersection(positions) for positions, _ in bars[1:]):
        return "grouped"
    return "stacked" if any(base for _, bases in bars[1:] for base in bases) else "overlaid"


def figure(
    library: str, title: str | None, charts: list[dict[str, Any]], count: int, budget: Budget
) -> dict[str, Any]:
    """Returns the description of a figure from those of its charts.

    Args:
        library: What made it.
        title: The figure's own title.
        charts: Its charts, at least one.
        count: How many it has.
        budget: What was used for them.
    """
    head = {"version": 1, "library": library, "truncated": budget.truncated or len(charts) < count}
    if count == 1:
        (chart,) = charts
        return {**head, **chart, "title": chart["title"] or title}
    return {**head, "type": "subplots", "title": title, "chart_count": count, "charts": charts}

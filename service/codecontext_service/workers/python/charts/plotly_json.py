"""Figures of plotly, from the JSON that they are shown as: plotly need not be there."""

from __future__ import annotations

import base64
import re
from collections import Counter
from typing import Any

from .values import MAX_CHARTS, Budget, described, figure, number, overall_type, series, text, unit

_TYPED: dict[str, Any] = {
    "f8": "d",
    "f4": "f",
    "i1": "b",
    "u1": "B",
    "i2": "h",
    "u2": "H",
    "i4": "i",
    "u4": "I",
}
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?$")
_MARKS = re.compile(r"<[^<>]*>")


def describe(drawn: Any) -> dict[str, Any] | None:
    """Describes a figure.

    Args:
        drawn: The value of `application/vnd.plotly.v1+json`.

    Returns:
        Its description, see `docs/charts.md`; None if it has no traces.
    """
    layout = drawn.get("layout") or {}
    parts: dict[Any, list[dict[str, Any]]] = {}
    for at, trace in enumerate(drawn.get("data") or ()):
        parts.setdefault(_subplot(trace, at), []).append(trace)
    if not parts:
        return None
    budget = Budget()
    charts = [_chart(traces, layout, budget) for traces in list(parts.values())[:MAX_CHARTS]]
    return figure("plotly", _title(layout), charts, len(parts), budget)


def _subplot(trace: dict[str, Any], at: int) -> Any:
    """Returns what traces of the same chart have in common."""
    if trace.get("type") == "pie" or "domain" in trace:
        return at
    if "scene" in trace or "subplot" in trace or "geo" in trace:
        return trace.get("scene"), trace.get("subplot"), trace.get("geo")
    return trace.get("xaxis", "x"), trace.get("yaxis", "y")


def _title(part: dict[str, Any]) -> str | None:
    title = part.get("title")
    title = title.get("text") if isinstance(title, dict) else title
    return text(_MARKS.sub("", str(title))) if title is not None else None


def _chart(traces: list[dict[str, Any]], layout: dict[str, Any], budget: Budget) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    others: Counter[tuple[str, str | None]] = Counter()
    for trace in traces:
        one = None
        if budget.take_series():
            try:
                one = _series(trace, budget)
            except Exception:  # what is beside it may be understood
                one = None
        if one is not None:
            found.append(one)
        else:
            others[str(trace.get("type", "scatter")), text(trace.get("name"))] += 1
    kind = overall_type([each["type"] for each in found])
    result: dict[str, Any] = {"type": kind, "title": None}
    if kind not in ("pie", "unknown"):
        result["x"] = _axis(layout, traces[0].get("xaxis", "x"), found, 0)
        result["y"] = _axis(layout, traces[0].get("yaxis", "y"), found, 1)
    result |= {"series_count": len(found), "series": found}
    if kind == "bar" and len(found) > 1:
        modes = {"stack": "stacked", "relative": "stacked", "overlay": "overlaid"}
        result["layout"] = modes.get(layout.get("barmode", "group"), "grouped")
    if others:
        result["others"] = described(others)
    return result


def _axis(
    layout: dict[str, Any], name: str, found: list[dict[str, Any]], side: int
) -> dict[str, Any]:
    axis = layout.get(f"{name[0]}axis{name[1:]}") or {}
    label = _title(axis)
    kind = axis.get("type")
    if kind in (None, "-"):
        kind = _kind_of([value for each in found for value in _along(each, side)])
    scale = "category" if kind == "multicategory" else str(kind)
    result = {"label": label, "unit": unit(label), "scale": scale}
    if scale == "category":
        names = [value for each in found for value in _along(each, side) if value is not None]
        names = list(dict.fromkeys(map(str, names)))
        return {**result, "category_count": len(names), "categories": names}
    return result


def _along(one: dict[str, Any], side: int) -> list[Any]:
    """Returns what a series has along the x-axis (0) or the y-axis (1)."""
    if one["type"] == "bar":
        is_position = (one["orientation"] == "vertical") == (side == 0)
        return [bar["position" if is_position else "value"] for bar in one["bars"]]
    return [point[side] for point in one.get("points", ())]


def _kind_of(values: list[Any]) -> str:
    """Returns the scale that plotly takes for such values when it is not told."""
    texts = [value for value in values if isinstance(value, str)]
    if not texts:
        return "linear"
    return "date" if all(_DATE.match(value) for value in texts) else "category"


def _series(trace: dict[str, Any], budget: Budget) -> dict[str, Any] | None:
    """Describes a trace; None for a type that is none of ours, or whose numbers only the browser computes."""
    kind, name = trace.get("type", "scatter"), text(trace.get("name"))
    if kind in ("scatter", "scattergl"):
        xs, ys = _both(trace)
        chosen = budget.sample(min(len(xs), len(ys)))
        marks = "lines" not in str(trace.get("mode", "lines"))
        points = [[_value(xs[at]), _value(ys[at])] for at in chosen]
        count = min(len(xs), len(ys))
        return series("scatter" if marks else "line", name, count, "points", points)
    if kind == "bar":
        xs, ys = _both(trace)
        vertical = trace.get("orientation", "v") == "v"
        positions, values = (xs, ys) if vertical else (ys, xs)
        count = min(len(positions), len(values))
        chosen = budget.sample(count)
        bars = [{"position": _value(positions[at]), "value": number(values[at])} for at in chosen]
        if (base := trace.get("base")) is not None:
            bases = _values(base) if isinstance(base, list | dict) else [base] * count
            for bar, at in zip(bars, chosen, strict=True):
                bar["base"] = _value(bases[at])
        orientation = "vertical" if vertical else "horizontal"
        return {**series("bar", name, count, "bars", bars), "orientation": orientation}
    if kind == "pie":
        values, labels = _values(trace["values"]), _values(trace.get("labels", []))
        total = sum(filter(None, map(number, values)))
        slices = []
        for at in budget.sample(len(values)):
            value = number(values[at])
            fraction = value / total if value is not None and total else None
            label = text(labels[at]) if at < len(labels) else None
            slices.append({"name": label, "fraction": fraction, "value": value})
        return series("pie", name, len(values), "slices", slices)
    return None


def _both(trace: dict[str, Any]) -> tuple[Any, Any]:
    xs, ys = trace.get("x"), trace.get("y")
    found = [None if each is None else _values(each) for each in (xs, ys)]
    if found[0] is None and found[1] is not None:
        found[0] = range(len(found[1]))
    elif found[1] is None and found[0] is not None:
        found[1] = range(len(found[0]))
    return found[0] or [], found[1] or []


def _values(values: Any) -> Any:
    """Returns a list of values: plotly gives one, or the bytes of an array."""
    if isinstance(values, dict):
        return memoryview(base64.b64decode(values["bdata"])).cast(_TYPED[values["dtype"]])
    return values


def _value(value: Any) -> Any:
    return text(value) if isinstance(value, str) else number(value)

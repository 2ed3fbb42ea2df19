"""Series of matplotlib's charts, from what they are drawn with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .axis import Axis, numbers
from .boxes import Box
from .legend import Legend, own_name, rgb
from .values import Budget, number, series, spread, text


@dataclass
class Scene:
    """What the series of a chart have in common."""

    x: Axis
    y: Axis
    legend: Legend
    budget: Budget


def points_of_line(scene: Scene, line: Any) -> dict[str, Any]:
    """Describes a line, or the marks of one that is not drawn."""
    xs, ys = line.get_xdata(orig=False), line.get_ydata(orig=False)
    chosen = scene.budget.sample(len(xs))
    kind = "scatter" if line.get_linestyle() == "None" else "line"
    points = _points(scene, np.asarray(xs)[chosen], np.asarray(ys)[chosen])
    return series(kind, scene.legend.name_of(line), len(xs), "points", points)


def points_of_scatter(scene: Scene, collection: Any) -> list[dict[str, Any]]:
    """Describes points: as one series, or one for each colour that the legend names."""
    offsets = collection.get_offsets()
    count = len(offsets)
    chosen = scene.budget.sample(count)
    points = _points(scene, offsets[chosen, 0], offsets[chosen, 1])
    name = scene.legend.name_of(collection)
    colours = collection.get_facecolor()
    mapped = collection.get_array()
    if mapped is None and name is None and 1 < len(colours) == count == len(chosen):
        parts: dict[str | None, list[Any]] = {}
        for point, colour in zip(points, colours.tolist(), strict=True):
            parts.setdefault(scene.legend.name(rgb(colour)), []).append(point)
        if None not in parts and scene.budget.take_series(len(parts) - 1):
            return [series("scatter", each, len(of), "points", of) for each, of in parts.items()]
    result = series("scatter", name, count, "points", points)
    if mapped is not None and len(mapped) == count:
        result |= {"values": numbers(mapped[chosen]), "value_label": value_label(collection)}
    return [result]


def _points(scene: Scene, xs: Any, ys: Any) -> list[list[Any]]:
    pairs = zip(scene.x.values(xs), scene.y.values(ys), strict=True)
    return [[x, y] for x, y in pairs]


def value_label(mappable: Any) -> str | None:
    """Returns the label of a colour bar; None if there is none."""
    bar = getattr(mappable, "colorbar", None)
    return text(bar.ax.get_ylabel() or bar.ax.get_xlabel()) if bar is not None else None


def bars(scene: Scene, container: Any) -> dict[str, Any]:
    """Describes bars; those that touch each other on a scale of numbers are a histogram's."""
    vertical = getattr(container, "orientation", None) != "horizontal"
    patches = container.patches
    along = scene.x if vertical else scene.y
    is_histogram = _touch(along, patches[:100], vertical)
    chosen = [patches[at] for at in scene.budget.sample(len(patches))]
    sides = np.array([_sides(patch, vertical) for patch in chosen], dtype=float).reshape(-1, 4)
    starts, widths, bases, values = sides.T
    name = own_name(container) or (own_name(patches[0]) if patches else None)
    if name is None and patches:
        name = scene.legend.name_of(patches[0])
    across = scene.y if vertical else scene.x
    orientation = "vertical" if vertical else "horizontal"
    if is_histogram:
        edges = (along.values(_tidy(side, widths)) for side in (starts, starts + widths))
        items = [{"start": start, "end": end} for start, end in zip(*edges, strict=True)]
        result = series("histogram", name, len(patches), "bins", items)
    else:
        middles = along.values(_tidy(starts + widths / 2, widths), loosely=True)
        items = [{"position": position} for position in middles]
        result = series("bar", name, len(patches), "bars", items)
    for item, value in zip(items, numbers(values), strict=True):
        item["value"] = value
    _set_bases(items, across.values(bases))
    return {**result, "orientation": orientation}


def bar_places(container: Any) -> tuple[list[float], list[float]]:
    """Returns where bars are drawn and what they stand on, as far as tells how they are laid out."""
    vertical = getattr(container, "orientation", None) != "horizontal"
    sides = [_sides(patch, vertical) for patch in container.patches[:100]]
    return [round(start + width / 2, 6) for start, width, _, _ in sides], [s[2] for s in sides]


def _sides(patch: Any, vertical: bool) -> tuple[float, float, float, float]:
    """Returns a bar's start and width, base and value."""
    x, y, width, height = (
        patch.get_x(),
        patch.get_y(),
        patch.get_width(),
        patch.get_height(),
    )
    sides = (x, width, y, height) if vertical else (y, height, x, width)
    return tuple(math.nan if side is None else float(side) for side in sides)  # type: ignore[return-value]


def _touch(along: Axis, patches: Sequence[Any], vertical: bool) -> bool:
    """Returns whether each bar begins where the one before it ends, and none has a name of its own."""
    if len(patches) < 2:
        return False
    sides = [_sides(patch, vertical)[:2] for patch in patches]
    if along.names_all(np.array([start + width / 2 for start, width in sides])):
        return False
    return all(
        width > 0 and abs(start + width - following) <= width * 1e-6
        for (start, width), (following, _) in itertools.pairwise(sides)
    )


def _tidy(places: Any, widths: Any) -> Any:
    """Returns sums without what floating point adds to them: 0.1 + 0.2 is 0.3.

    Args:
        places: What was computed.
        widths: Of what is at the places: what is much smaller is no part of the result.
    """
    width = np.abs(widths).max() if len(widths) else 0
    if not np.isfinite(width) or not width:
        return places
    return np.round(places, max(0, 13 - math.ceil(math.log10(width))))


def stairs(scene: Scene, patch: Any) -> dict[str, Any]:
    """Describes a histogram that is drawn as one line, by `stairs()`."""
    values, edges, baseline = patch.get_data()
    bases = None if baseline is None else np.broadcast_to(baseline, len(values))
    vertical = patch.orientation == "vertical"
    return _outlined(scene, patch, np.asarray(edges), np.asarray(values), bases, vertical=vertical)


def polygon(scene: Scene, patch: Any) -> dict[str, Any] | None:
    """Describes a histogram that is drawn as one polygon, by `hist()`; None if it is anything else."""
    points = patch.get_xy()
    for vertical in (True, False):
        along, across = points.T if vertical else points.T[::-1]
        filled = len(points) % 2 == 1
        count = (len(points) + 3) // 4 if filled else len(points) // 2  # of edges
        edges, again = along[: 2 * count : 2], along[1 : 2 * count : 2]
        tops, tops_again = across[1 : 2 * count - 1 : 2], across[2 : 2 * count - 1 : 2]
        if count < 2 or not np.array_equal(edges, again) or not np.array_equal(tops, tops_again):
            continue
        if filled:
            bases = across[2 * count - 1 :: 2][: count - 1][::-1]
            return _outlined(scene, patch, edges, tops - bases, bases, vertical=vertical)
        if across[0] == across[-1] == 0:  # else it does not tell what it stands on
            return _outlined(scene, patch, edges, tops, None, vertical=vertical)
    return None


def _outlined(
    scene: Scene, patch: Any, edges: Any, values: Any, bases: Any, *, vertical: bool
) -> dict[str, Any]:
    chosen = scene.budget.sample(len(values))
    along, across = (scene.x, scene.y) if vertical else (scene.y, scene.x)
    starts, ends = (along.values(side[chosen]) for side in (edges[:-1], edges[1:]))
    items = [
        {"start": start, "end": end, "value": value}
        for start, end, value in zip(starts, ends, numbers(values[chosen]), strict=True)
    ]
    if bases is not None:
        _set_bases(items, across.values(bases[chosen]))
    orientation = "vertical" if vertical else "horizontal"
    name = scene.legend.name_of(patch)
    return {**series("histogram", name, len(values), "bins", items), "orientation": orientation}


def _set_bases(items: Sequence[dict[str, Any]], bases: Sequence[Any]) -> None:
    for item, base in zip(items, bases, strict=True):
        if base:
            item["base"] = base


def pie(scene: Scene, wedges: Sequence[Any]) -> dict[str, Any]:
    """Describes the slices of a pie, or of one ring."""
    slices = []
    for at in scene.budget.sample(len(wedges)):
        wedge = wedges[at]
        fraction = number((wedge.theta2 - wedge.theta1) / 360)
        slices.append(
            {
                "name": scene.legend.name_of(wedge),
                # matplotlib computes the angles in single precision
                "fraction": None if fraction is None else round(fraction, 6),
            }
        )
    return series("pie", None, len(wedges), "slices", slices)


def boxes(scene: Scene, found: Sequence[Box], name: str | None) -> dict[str, Any]:
    """Describes boxes of one series."""
    vertical = found[0].vertical
    chosen = [found[at] for at in scene.budget.sample(len(found))]
    along = scene.x if vertical else scene.y
    positions = along.values([box.position for box in chosen], loosely=True)
    items = []
    for box, position in zip(chosen, positions, strict=True):
        outliers = box.outliers[scene.budget.sample(len(box.outliers))]
        items.append(
            {
                "position": position,
                "low": number(box.low),
                "q1": number(box.q1),
                "median": number(box.median),
                "q3": number(box.q3),
                "high": number(box.high),
                "mean": number(box.mean),
                "outlier_count": len(box.outliers),
                "outliers": numbers(outliers),
            }
        )
    orientation = "vertical" if vertical else "horizontal"
    return {**series("box", name, len(found), "boxes", items), "orientation": orientation}


def image(scene: Scene, artist: Any) -> dict[str, Any] | None:
    """Describes an image of one value for each cell; None for a picture in colours."""
    values = artist.get_array()
    if values is None or values.ndim != 2:
        return None
    rows, columns = values.shape
    left, right, bottom, top = artist.get_extent()
    if artist.origin == "upper":
        bottom, top = top, bottom
    xs = left + (np.arange(columns) + 0.5) * (right - left) / max(1, columns)
    ys = bottom + (np.arange(rows) + 0.5) * (top - bottom) / max(1, rows)
    return _cells(scene, artist, values, xs, ys)


def mesh(scene: Scene, artist: Any) -> dict[str, Any] | None:
    """Describes a mesh of cells; None if its lines are not straight, or it has no values."""
    corners = artist.get_coordinates()
    values = artist.get_array()
    if values is None:
        return None
    xs, ys = corners[0, :, 0], corners[:, 0, 1]
    if not np.array_equal(xs, corners[-1, :, 0]) or not np.array_equal(ys, corners[:, -1, 1]):
        return None
    if values.size == (len(xs) - 1) * (len(ys) - 1):
        xs, ys = (xs[:-1] + xs[1:]) / 2, (ys[:-1] + ys[1:]) / 2
    elif values.size != len(xs) * len(ys):  # colours, not values
        return None
    return _cells(scene, artist, values.reshape(len(ys), len(xs)), xs, ys)


def _cells(scene: Scene, artist: Any, values: Any, xs: Any, ys: Any) -> dict[str, Any]:
    rows, columns = values.shape
    room = scene.budget.take(rows * columns)
    some_rows = min(rows, max(1, math.isqrt(room * rows // max(1, columns)))) if room else 0
    some_columns = min(columns, room // max(1, some_rows))
    some_rows = min(rows, room // max(1, some_columns))
    at_rows, at_columns = spread(rows, some_rows), spread(columns, some_columns)
    cells = values[np.ix_(at_rows, at_columns)]
    return {
        "type": "heatmap",
        "name": own_name(artist),
        "count": rows * columns,
        "truncated": len(at_rows) < rows or len(at_columns) < columns,
        "rows": rows,
        "columns": columns,
        "x": scene.x.values(_tidy(xs, xs[-1:] - xs[:1])[at_columns], loosely=True),
        "y": scene.y.values(_tidy(ys, ys[-1:] - ys[:1])[at_rows], loosely=True),
        "values": [numbers(row) for row in cells],
        "value_label": value_label(artist),
    }

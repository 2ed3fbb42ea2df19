"""Figures of matplotlib. This module and those that it uses are loaded only where matplotlib is."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from matplotlib import collections
from matplotlib.axes import Axes
from matplotlib.axis import Axis as DrawnAxis
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer, ErrorbarContainer, StemContainer
from matplotlib.image import AxesImage
from matplotlib.legend import Legend as DrawnLegend
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle, Shadow, StepPatch, Wedge
from matplotlib.spines import Spine
from matplotlib.text import Text

from . import series
from .axis import Axis
from .boxes import Box, box_at
from .legend import Legend, own_name
from .values import (
    MAX_CHARTS,
    Budget,
    described,
    figure,
    layout_of,
    overall_type,
    text,
)

_KNOWN_PROJECTIONS = ("rectilinear", "polar")
_MESHES = tuple(
    getattr(collections, name)
    for name in ("QuadMesh", "PolyQuadMesh")  # matplotlib 3.8 has the second
    if hasattr(collections, name)
)
_DECORATION = (Text, Spine, DrawnAxis, DrawnLegend, Axes)


def describe(drawn: Any) -> dict[str, Any] | None:
    """Describes a figure.

    Args:
        drawn: The figure. It is not changed.

    Returns:
        Its description, see `docs/charts.md`; None if it has no axes.
    """
    with np.errstate(all="ignore"):
        all_axes = [axes for axes in drawn.axes if axes.get_visible() and not _is_colour_bar(axes)]
        if not all_axes:
            return None
        budget = Budget()
        charts = [_safe_chart(axes, budget) for axes in all_axes[:MAX_CHARTS]]
        if len(all_axes) > 1:
            for axes, chart in zip(all_axes, charts, strict=False):
                chart.update(_place(axes))
        title = getattr(drawn, "_suptitle", None)
        title = text(title.get_text()) if title is not None else None
        return figure("matplotlib", title, charts, len(all_axes), budget)


def _is_colour_bar(axes: Any) -> bool:
    return axes.get_label() == "<colorbar>" or getattr(axes, "_colorbar", None) is not None


def _place(axes: Any) -> dict[str, int]:
    """Returns the row and column of a chart in its figure's grid; nothing where grids are in a grid."""
    spec = axes.get_subplotspec()
    if spec is None:
        return {}
    grid = spec.get_gridspec()
    outer = getattr(grid, "_subplot_spec", None)
    if outer is not None:  # a chart and its colour bar share the chart's place
        inside = [each for each in axes.figure.axes if _grid_of(each) is grid]
        if sum(not _is_colour_bar(each) for each in inside) > 1:
            return {}
        spec = outer
    return {"row": spec.rowspan.start, "column": spec.colspan.start}


def _grid_of(axes: Any) -> Any:
    spec = axes.get_subplotspec()
    return None if spec is None else spec.get_gridspec()


def _safe_chart(axes: Any, budget: Budget) -> dict[str, Any]:
    try:
        return _chart(axes, budget)
    except Exception:  # another chart of the figure may be understood
        return {"type": "unknown", "title": None, "series_count": 0, "series": []}


def _chart(axes: Any, budget: Budget) -> dict[str, Any]:
    titles = (text(axes.get_title(loc=side)) for side in ("center", "left", "right"))
    projection = str(axes.name)
    head = {"title": next(filter(None, titles), None), "projection": projection}
    if projection not in _KNOWN_PROJECTIONS:
        labels = {side: text(getattr(axes, f"get_{side}label", str)()) for side in "xyz"}
        named = {side: {"label": label} for side, label in labels.items() if label}
        return {"type": "unknown", **head, **named, "series_count": 0, "series": []}
    scene = series.Scene(Axis(axes.xaxis, axes), Axis(axes.yaxis, axes), Legend(axes), budget)
    reader = _Reader(scene)
    reader.read(axes)
    kind = overall_type([each["type"] for each in reader.found])
    result = {
        "type": kind,
        **head,
        **({} if kind == "pie" else {"x": scene.x.describe(), "y": scene.y.describe()}),
        "series_count": reader.count,
        "series": reader.found,
    }
    if kind in ("bar", "histogram") and (layout := layout_of(reader.bar_places)):
        result["layout"] = layout
    if reader.others:
        result["others"] = described(reader.others)
    return result


class _Reader:
    """Reads the series of one chart."""

    def __init__(self, scene: series.Scene) -> None:
        """Starts with none."""
        self._scene = scene
        self.found: list[dict[str, Any]] = []
        """The series: those of several artists each, then the others as they were drawn."""
        self.count = 0
        """How many there are, also of those that were left out."""
        self.others: Counter[tuple[str, str | None]] = Counter()
        """What is drawn beside them: class, name, and how often."""
        self.bar_places: list[tuple[list[float], list[float]]] = []
        """Of each series of bars, their positions and what they stand on."""

    def read(self, axes: Any) -> None:
        """Reads all of a chart."""
        taken = {id(axes.patch)}
        for container in axes.containers:
            with self._left_out_if_broken(container):
                taken |= self._take_container(container)
        artists = [
            each
            for each in axes.get_children()
            if id(each) not in taken and not isinstance(each, _DECORATION) and each.get_visible()
        ]
        guides = []
        for artist in self._take_boxes(self._take_pies(artists)):
            with self._left_out_if_broken(artist):
                if isinstance(artist, Line2D) and _is_guide(artist):
                    guides.append(artist)
                else:
                    self._take_artist(artist, axes)
        take = self._take_other if self.found else self._take_artist
        for guide in guides:  # beside series they explain them: error bars, limits
            with self._left_out_if_broken(guide):
                take(guide, axes)

    @contextlib.contextmanager
    def _left_out_if_broken(self, artist: Any) -> Iterator[None]:
        """Has an artist that can't be read be no more than mentioned: those beside it may be understood."""
        try:
            yield
        except Exception:
            self._take_other(artist)

    def _add(self, make: Callable[..., Any], *arguments: Any) -> None:
        """Adds the series that a function makes, if there is room and it makes any."""
        if not self._scene.budget.take_series():
            self.count += 1
            return
        made = make(self._scene, *arguments)
        if made is None:
            self._take_other(arguments[0])
            return
        several = made if isinstance(made, list) else [made]
        self.count += len(several)
        self.found += several

    def _take_other(self, artist: Any, axes: Any = None) -> None:
        name = None
        with contextlib.suppress(Exception):
            name = own_name(artist)
        self.others[type(artist).__name__, name] += 1

    def _take_container(self, container: Any) -> set[int]:
        """Takes bars; of error bars and stems what explains their points.

        Returns:
            The ids of what it took.
        """
        if isinstance(container, BarContainer):
            if any(patch.get_visible() for patch in container.patches):
                self._add(series.bars, container)
                self.bar_places.append(series.bar_places(container))
            return {id(patch) for patch in container.patches}
        if isinstance(container, ErrorbarContainer):
            points, caps, sticks = container.lines
            parts = [*caps, *sticks]
        elif isinstance(container, StemContainer):
            points = container.markerline
            parts = [container.stemlines, container.baseline]
        else:  # seaborn's own
            return set()
        self._scene.legend.given[id(points)] = own_name(container)
        self._take_other(container)
        return {id(part) for part in parts}

    def _take_pies(self, artists: list[Any]) -> list[Any]:
        """Takes what is a slice of a pie, ring by ring, and returns the rest."""
        rings: dict[tuple[float, float | None], list[Any]] = {}
        for artist in artists:
            if isinstance(artist, Wedge):
                rings.setdefault((artist.r, artist.width), []).append(artist)
        for wedges in rings.values():
            with self._left_out_if_broken(wedges[0]):
                self._add(series.pie, wedges)
        return (
            [each for each in artists if not isinstance(each, Wedge | Shadow)] if rings else artists
        )

    def _take_boxes(self, artists: list[Any]) -> list[Any]:
        """Takes what is part of a box plot, and returns the rest."""
        by_name: dict[tuple[str | None, bool], list[Box]] = {}
        rest = []
        at = 0
        while at < len(artists):
            box = None
            with contextlib.suppress(Exception):
                box = box_at(artists, at)
            if box is None:
                rest.append(artists[at])
                at += 1
            else:
                name = self._scene.legend.name_of(box.artist)
                by_name.setdefault((name, box.vertical), []).append(box)
                at += box.parts
        for (name, _), boxes in by_name.items():
            with self._left_out_if_broken(boxes[0].artist):
                self._add(series.boxes, boxes, name)
        return rest

    def _take_artist(self, artist: Any, axes: Any) -> None:
        if isinstance(artist, Line2D) and _is_in_data(artist, axes):
            if _has_points(artist):
                self._add(series.points_of_line, artist)
        elif isinstance(artist, PathCollection) and _is_in_data(artist, axes, offsets=True):
            self._add(series.points_of_scatter, artist)
        elif type(artist) is AxesImage:
            self._add(series.image, artist)
        elif isinstance(artist, _MESHES):
            self._add(series.mesh, artist)
        elif isinstance(artist, StepPatch):
            self._add(series.stairs, artist)
        elif isinstance(artist, Polygon):
            self._add(series.polygon, artist)
        elif not _is_key(artist):
            self._take_other(artist)


def _is_in_data(artist: Any, axes: Any, *, offsets: bool = False) -> bool:
    """Returns whether an artist's places are those of the axes, and not of the paper."""
    transform = artist.get_offset_transform() if offsets else artist.get_transform()
    return transform is axes.transData or bool(transform.contains_branch(axes.transData))


def _has_points(line: Any) -> bool:
    """Returns whether a line has any: an empty one is there for the legend, or of an empty box."""
    xs = line.get_xdata(orig=False)
    return len(xs) > 0 and (len(xs) > 10 or bool(np.isfinite(line.get_xydata()).all(axis=1).any()))


def _is_guide(line: Any) -> bool:
    """Returns whether a line is straight along an axis, and nobody gave it a name."""
    points = line.get_xydata()
    if len(points) != 2 or line.get_linestyle() == "None" or own_name(line) is not None:
        return False
    return bool((points[0] == points[1]).any())


def _is_key(artist: Any) -> bool:
    """Returns whether something without a size is there for the legend alone."""
    return isinstance(artist, Rectangle) and not artist.get_width() and not artist.get_height()

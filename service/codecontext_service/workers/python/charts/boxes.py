"""Box plots of matplotlib: found again in the lines that they are drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch

_UPPER_EDGE = {5: 2, 11: 5}
"""Where the upper quartile is in an outline, by its number of points: of a plain box, of one with notches."""

_HIDES_OUTLIERS = matplotlib.__version_info__ >= (3, 9)
"""Whether outliers are drawn with a label that keeps them out of the legend."""


@dataclass
class Box:
    """One box, in the units of the drawing."""

    artist: Any
    vertical: bool
    position: float
    q1: float
    median: float
    q3: float
    low: float
    high: float
    mean: float | None
    outliers: Any
    parts: int
    """How many artists it is drawn with."""


def box_at(artists: Sequence[Any], at: int) -> Box | None:
    """Returns the box that begins at a place in what is drawn, if one does.

    `Axes.bxp` draws, for each box: its outline, two whiskers, two caps if wanted, the median, the mean
    if wanted, and the outliers if wanted.

    Args:
        artists: What is drawn, in the order in which it was added.
        at: The place.
    """
    outline = _outline(artists[at])
    if outline is None or not all(isinstance(each, Line2D) for each in artists[at + 1 : at + 4]):
        return None
    lines: list[Any] = []
    for artist in artists[at + 1 : at + 8]:
        if not isinstance(artist, Line2D) or (lines[2:] and _outline(artist) is not None):
            break
        lines.append(artist)
    for vertical in (True, False):
        box = _read(artists[at], outline if vertical else outline[:, ::-1], lines, vertical)
        if box is not None:
            return box
    return None


def _outline(artist: Any) -> Any:
    """Returns the points of what may be a box, the last one being the first one again."""
    if isinstance(artist, PathPatch):
        vertices = np.asarray(artist.get_path().vertices)[:-1]
    elif isinstance(artist, Line2D) and artist.get_linestyle() != "None":
        vertices = artist.get_xydata()
    else:
        return None
    if len(vertices) not in _UPPER_EDGE or not np.array_equal(vertices[0], vertices[-1]):
        return None
    return vertices if np.ptp(vertices, axis=0).any() and np.isfinite(vertices).all() else None


def _read(artist: Any, outline: Any, lines: list[Any], vertical: bool) -> Box | None:
    points = [line.get_xydata() if vertical else line.get_xydata()[:, ::-1] for line in lines]
    if len(points) < 3 or any(len(each) != 2 for each in points[:3]):
        return None
    low, high = points[:2]
    q1, q3 = outline[0, 1], outline[_UPPER_EDGE[len(outline)], 1]
    left, right = outline[:, 0].min(), outline[:, 0].max()
    position = low[0, 0]
    if not (low[:, 0] == position).all() or not (high[:, 0] == position).all():
        return None
    if not left < position < right or low[0, 1] != q1 or high[0, 1] != q3:
        return None
    at = 2
    ends = (low[1, 1], high[1, 1])
    if len(points) > 4 and all(_is_level(points[2 + n], ends[n]) for n in (0, 1)):
        at = 4
    if not _is_level(points[at]):
        return None
    median = points[at][0, 1]
    mean, outliers, after = _rest(lines[at + 1 :], points[at + 1 :], (left, right), ends)
    return Box(artist, vertical, position, q1, median, q3, *ends, mean, outliers, 2 + at + after)


def _is_level(points: Any, value: float | None = None) -> bool:
    return (
        len(points) == 2
        and points[0, 1] == points[1, 1]
        and (value is None or points[0, 1] == value)
    )


def _rest(
    lines: list[Any], points: list[Any], sides: tuple[float, float], ends: tuple[float, float]
) -> tuple[float | None, Any, int]:
    """Returns the mean, the outliers, and with how many lines they are drawn."""
    mean = None
    for at, (line, each) in enumerate(zip(lines, points, strict=True)):
        is_mark = line.get_linestyle() == "None"
        inside = not len(each) or (sides[0] <= each[:, 0].min() and each[:, 0].max() <= sides[1])
        if not inside or at > 1:
            return mean, np.empty(0), at
        if at == 0 and (_is_mean(lines, each, ends) if is_mark else _is_level(each)):
            mean = float(each[0, 1])
        elif is_mark:
            return mean, each[:, 1], at + 1
        else:
            return mean, np.empty(0), at
    return mean, np.empty(0), len(lines)


def _is_mean(lines: list[Any], points: Any, ends: tuple[float, float]) -> bool:
    """Tells a mean from a single outlier."""
    if len(points) != 1:
        return False
    if len(lines) > 1 and lines[1].get_linestyle() == "None":  # the outliers follow
        return True
    if _HIDES_OUTLIERS:
        return str(lines[0].get_label()) != "_nolegend_"
    return bool(ends[0] <= points[0, 1] <= ends[1])

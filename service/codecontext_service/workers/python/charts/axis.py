"""Axes of matplotlib: labels, scales, and what the positions on them mean."""

from __future__ import annotations

import datetime
import functools
import sys
from collections.abc import Callable
from typing import Any

import matplotlib.dates
import numpy as np
from matplotlib.category import StrCategoryConverter
from matplotlib.ticker import FixedFormatter, FixedLocator

from .values import MAX_SERIES_POINTS, number, text, unit

_DATE_CONVERTERS = (
    matplotlib.dates.DateConverter,
    matplotlib.dates._SwitchableDateConverter,
)
_DATE_FORMATTERS = (
    matplotlib.dates.DateFormatter,
    matplotlib.dates.AutoDateFormatter,
    matplotlib.dates.ConciseDateFormatter,
)

_US_PER_DAY = 24 * 60 * 60 * 1_000_000
_TINY = 1e-6


def numbers(values: Any) -> list[Any]:
    """Returns numbers as a list, with None for what is masked, not a number, or infinite."""
    array = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)
    if np.isfinite(array).all():
        return array.tolist()  # type: ignore[no-any-return]
    return [number(value) for value in array.tolist()]


class Axis:
    """One axis of a chart."""

    def __init__(self, axis: Any, axes: Any) -> None:
        """Looks at an axis.

        Args:
            axis: The x-axis or y-axis.
            axes: The axes that it is of.
        """
        self._axis = axis
        self._dates: Callable[[Any], list[str | None]] | None = None
        self._is_own = self._is_category = False
        ticks: list[tuple[float, str]] = []
        get = getattr(axis, "get_converter", None)  # matplotlib 3.10
        converter = get() if get else axis.converter
        if isinstance(converter, StrCategoryConverter):
            self._is_own = self._is_category = True
            ticks = [(place, str(name)) for name, place in axis.get_units()._mapping.items()]
        elif type(converter).__name__ == "PeriodConverter":
            self._dates = _of_periods(axes.freq)
        elif isinstance(converter, _DATE_CONVERTERS) or isinstance(
            axis.get_major_formatter(), _DATE_FORMATTERS
        ):
            units = axis.get_units()
            self._dates = _of_days(units if isinstance(units, datetime.tzinfo) else None)
        else:
            ticks = _labelled_ticks(axis)
        self._all_named = all(name for _, name in ticks)
        named = sorted((place, name) for place, name in ticks if name)
        self._places = np.array([place for place, _ in named], dtype=float)
        self._names = [text(name) or "" for _, name in named]

    def names_all(self, places: Any) -> bool:
        """Returns whether each of some places has a name of its own."""
        return self._is_own or bool(len(self._names) and self._nearest(places, _TINY)[1].all())

    def values(self, positions: Any, *, loosely: bool = False) -> list[Any]:
        """Returns what positions mean: numbers, dates as ISO strings, or names of categories.

        Args:
            positions: In the units of the drawing.
            loosely: Whether what is near a labelled tick belongs to it, as the bars of a group do. What
                is near a category of matplotlib's own always belongs to it.
        """
        places = np.ma.filled(np.ma.asarray(positions, dtype=float), np.nan)
        if self._dates is not None:
            return self._dates(places)
        names = self._names_of(places, loosely) if self._names else None
        return numbers(places) if names is None else names

    def _names_of(self, places: Any, loosely: bool) -> list[Any] | None:
        """Returns the names of positions; None if ticks have labels, but not for these positions."""
        near = self._is_own or (loosely and self._all_named)
        nearest, found = self._nearest(places, 0.5 if near else _TINY)
        if not self._is_own:
            if not found.any() or not (found | ~np.isfinite(places)).all():
                return None
            if loosely and len(np.unique(nearest)) < len(nearest):
                return None
            if not loosely and (self._places % 1).any():
                return None  # such ticks are marks on a scale of numbers
            self._is_category = True
        return [
            self._names[at] if is_found else number(place)
            for at, is_found, place in zip(
                nearest.tolist(), found.tolist(), places.tolist(), strict=True
            )
        ]

    def _nearest(self, places: Any, reach: float) -> tuple[Any, Any]:
        """Returns the numbers of the nearest named places, and whether each is within reach of its own.

        Args:
            places: Where to look.
            reach: As a share of the least distance between two named places.
        """
        gaps = np.diff(self._places)
        after = np.clip(np.searchsorted(self._places, places), 0, len(self._places) - 1)
        before = np.maximum(after - 1, 0)
        is_before = places - self._places[before] < self._places[after] - places
        nearest = np.where(is_before, before, after)
        distance = np.abs(places - self._places[nearest])
        return nearest, distance <= reach * (gaps.min() if len(gaps) else 1)

    def describe(self) -> dict[str, Any]:
        """Returns its description; after those of what is on it."""
        label = text(self._axis.get_label_text())
        scale = str(self._axis.get_scale())
        if self._dates is not None:
            scale = "date"
        elif self._is_category:
            scale = "category"
        result = {"label": label, "unit": unit(label), "scale": scale}
        if self._is_category:
            return {
                **result,
                "category_count": len(self._names),
                "categories": self._names[:MAX_SERIES_POINTS],
            }
        return result


def _labelled_ticks(axis: Any) -> list[tuple[float, str]]:
    """Returns the ticks whose places and texts were given together."""
    locator, formatter = axis.get_major_locator(), axis.get_major_formatter()
    # `set_ticklabels()` makes a partial function of a table; any other one formats numbers.
    is_table = isinstance(getattr(formatter, "func", None), functools.partial)
    if not isinstance(locator, FixedLocator) or len(locator.locs) > MAX_SERIES_POINTS:
        return []
    if not isinstance(formatter, FixedFormatter) and not is_table:
        return []
    return [(float(place), str(formatter(place, at))) for at, place in enumerate(locator.locs)]


def _strings(stamps: Any) -> list[str | None]:
    """Returns instants (datetime64[us]) as ISO strings, as short as all of them allow."""
    missing = np.isnat(stamps)
    fractions = stamps[~missing].astype("int64")
    unit_ = "us" if (fractions % 1000).any() else "ms" if (fractions % 1_000_000).any() else "s"
    strings = np.datetime_as_string(stamps, unit=unit_).tolist()
    return [None if gone else each for gone, each in zip(missing.tolist(), strings, strict=True)]


def _of_days(zone: datetime.tzinfo | None) -> Callable[[Any], list[str | None]]:
    """Returns what turns matplotlib's days into dates, with the zone's offset where there is one."""

    def dates(days: Any) -> list[str | None]:
        epoch = np.datetime64(matplotlib.dates.get_epoch(), "us")
        finite = np.isfinite(days)
        micros = np.where(finite, days, 0) * _US_PER_DAY
        # A float has no exact microseconds: what is a hair off a millisecond is meant to be on it.
        whole = np.rint(micros / 1000) * 1000
        micros = np.where(np.abs(micros - whole) < 20, whole, micros)
        stamps = epoch + np.rint(micros).astype("timedelta64[us]")
        stamps[~finite] = np.datetime64("NaT")
        if zone is None:
            return _strings(stamps)
        return [
            None if each is None else each.replace(tzinfo=datetime.UTC).astimezone(zone).isoformat()
            for each in stamps.tolist()
        ]

    return dates


def _of_periods(freq: Any) -> Callable[[Any], list[str | None]]:
    """Returns what turns pandas' periods into the dates at which they begin."""

    def dates(ordinals: Any) -> list[str | None]:
        finite = np.isfinite(ordinals)
        index = sys.modules["pandas"].PeriodIndex
        whole = np.where(finite, ordinals, 0).astype("int64")
        stamps = index.from_ordinals(whole, freq=freq).to_timestamp().to_numpy()
        stamps = stamps.astype("datetime64[us]")
        stamps[~finite] = np.datetime64("NaT")
        return _strings(stamps)

    return dates

"""Names of series that only the legend gives, found by their colours."""

from __future__ import annotations

from typing import Any

from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from .values import text

Colour = tuple[float, float, float]


def own_name(artist: Any) -> str | None:
    """Returns the name that somebody gave to a part of a figure: those of matplotlib begin with `_`."""
    label = artist.get_label()
    return None if label is None or str(label).startswith("_") else text(label)


def rgb(colour: Any) -> Colour:
    """Returns a colour such that it can be compared, without its transparency."""
    red, green, blue = to_rgb(colour)
    return round(red, 4), round(green, 4), round(blue, 4)


def colour_of(artist: Any) -> Colour | None:
    """Returns the colour by which a person knows a series; None if it has several or none."""
    try:
        if isinstance(artist, Line2D):
            marks = artist.get_linestyle() == "None"
            return rgb(artist.get_markerfacecolor() if marks else artist.get_color())
        colours = artist.get_facecolor()
        if getattr(colours, "ndim", 1) == 2:
            return rgb(colours[0]) if len(colours) == 1 else None
        if not colours[3]:  # not filled
            colours = artist.get_edgecolor()
        return rgb(colours)
    except (AttributeError, IndexError, TypeError, ValueError):
        return None


class Legend:
    """What the legend of a chart says."""

    def __init__(self, axes: Any) -> None:
        """Reads the legend of some axes, or else of their figure."""
        self._names: dict[Colour, str | None] = {}
        self.given: dict[int, str | None] = {}
        """Names that parts have as parts of something else, by their ids."""
        legend = axes.get_legend() or next(iter(axes.figure.legends), None)
        if legend is None or not legend.get_visible():
            return
        handles = getattr(legend, "legend_handles", None)  # matplotlib 3.7
        if handles is None:
            handles = legend.legendHandles
        for handle, label in zip(handles, legend.get_texts(), strict=False):
            colour = colour_of(handle)
            if colour is not None:  # a colour of two names tells neither
                name = None if colour in self._names else text(label.get_text())
                self._names[colour] = name

    def name(self, colour: Colour | None) -> str | None:
        """Returns what it calls a colour; None if it does not tell."""
        return None if colour is None else self._names.get(colour)

    def name_of(self, artist: Any) -> str | None:
        """Returns the name of a series: its own, or else that of its colour."""
        name = own_name(artist) or self.given.get(id(artist))
        return name or (self.name(colour_of(artist)) if self._names else None)

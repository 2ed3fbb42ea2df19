"""Charts as data: what a figure shows, as a description that a program can read.

`docs/charts.md` has the format. The extractors are this project's own. The package that there is for it,
e2b-charts, needs pydantic beside matplotlib in the environment where the code runs, and knows lines,
points, simple bars, pies and boxes only; it has no bound on what it copies, and an error in it loses the
figure. Nothing here is loaded before the code has loaded matplotlib itself.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

CHART = "application/vnd.codecontext.chart+json"
"""The MIME type of a description."""

PLOTLY = "application/vnd.plotly.v1+json"
"""The MIME type of plotly's own figures."""


def describe_figure(thing: object) -> dict[str, Any] | None:
    """Describes a figure of matplotlib.

    Args:
        thing: Anything that is shown.

    Returns:
        Its description; None if it is no figure of matplotlib, shows nothing, or is not understood.
        The figure is as it was.
    """
    figures = sys.modules.get("matplotlib.figure")
    if figures is None or not isinstance(thing, getattr(figures, "Figure", ())):
        return None
    try:
        from .figures import describe

        return describe(thing)
    except Exception:  # not KeyboardInterrupt: the image is enough, and the run goes on
        return None


def describe_bundle(data: dict[str, Any]) -> dict[str, Any] | None:
    """Describes a figure of plotly.

    Args:
        data: The MIME bundle of what is shown.

    Returns:
        The description; None if there is no such figure in it, it has one already, or it is not understood.
    """
    if PLOTLY not in data or CHART in data:
        return None
    try:
        from .plotly_json import describe

        return describe(data[PLOTLY])
    except Exception:  # as above
        return None


def load() -> None:
    """Loads what the first figure would load, where matplotlib is there already."""
    if "matplotlib.figure" in sys.modules:
        with contextlib.suppress(Exception):  # a release that it can't work with: no charts then
            from . import figures  # noqa: F401

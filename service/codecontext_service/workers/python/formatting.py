"""How values are shown: IPython's formatters, with what a context adds to them."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from IPython.core.formatters import BaseFormatter, DisplayFormatter
from traitlets import Unicode

from . import charts

_PLAIN_TYPES = frozenset(
    (int, float, complex, bool, str, bytes, bytearray, list, tuple, dict, set, frozenset, range)
)
"""Types that have no representation of their own but text, unless one is registered."""

_SIMPLE_TYPES = (int, float, str)
"""Those that IPython shows by their `repr`, floats by a format that `%precision` may set."""

_TEXT = "text/plain"


class _ChartFormatter(BaseFormatter):  # type: ignore[misc]
    """Describes figures, wherever they are displayed."""

    format_type = Unicode(charts.CHART)

    def __call__(self, thing: object) -> dict[str, Any] | None:
        return charts.describe_figure(thing) if self.enabled else None


def _as_a_bundle(figure: object) -> None:
    """Has IPython show an object by its MIME bundle, although it would show itself."""
    raise NotImplementedError


class Formatter(DisplayFormatter):  # type: ignore[misc]
    """Knows when it is at work: an exception in a representation is no error of the run."""

    working = 0

    def __init__(self, **options: Any) -> None:
        """Makes the formatters."""
        super().__init__(**options)
        self.formatters[charts.CHART] = _ChartFormatter(parent=self)
        # Plotly's figures would show themselves, and refuse to where nbformat is missing.
        self.ipython_display_formatter.for_type_by_name(
            "plotly.basedatatypes", "BaseFigure", _as_a_bundle
        )

    def format(self, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the representations of an object, and their metadata."""
        self.working += 1
        try:
            if type(obj) in _PLAIN_TYPES and not (args or kwargs) and self._only_text(obj):
                text = self._text(obj)
                return ({} if text is None else {_TEXT: text}), {}
            return super().format(obj, *args, **kwargs)
        finally:
            self.working -= 1

    def _text(self, value: Any) -> str | None:
        """Returns the text of a plain value; IPython's printer is not asked where it would say the same."""
        formatter, kind = self.formatters[_TEXT], type(value)
        if (
            kind in _SIMPLE_TYPES
            and formatter.type_printers.get(kind) is self._simple_printers[kind]
            and id(value) not in formatter.singleton_printers
            and formatter.pprint
        ):
            with contextlib.suppress(Exception):  # the formatter tells why
                return formatter.float_format % value if kind is float else repr(value)
        text: str | None = formatter(value)
        return text

    @functools.cached_property
    def _simple_printers(self) -> dict[type, Any]:
        """IPython's own printers, known before the code of a run can set others."""
        printers = self.formatters[_TEXT].type_printers
        return {kind: printers.get(kind) for kind in _SIMPLE_TYPES}

    def _only_text(self, value: Any) -> bool:
        """Whether nobody has registered another representation of a plain value.

        To ask each formatter would take longer than most runs.
        """
        kind = type(value)
        for formatter in (self.ipython_display_formatter, self.mimebundle_formatter):
            if _has_printer(formatter, kind):
                return False
        for name, formatter in self.formatters.items():
            if name != _TEXT and _has_printer(formatter, kind):
                return False
        return True


def _has_printer(formatter: BaseFormatter, kind: type) -> bool:
    registered = formatter.type_printers
    if kind in registered or object in registered or formatter.singleton_printers:
        return True
    deferred = formatter.deferred_printers
    return bool(deferred) and any(module == "builtins" for module, _ in deferred)

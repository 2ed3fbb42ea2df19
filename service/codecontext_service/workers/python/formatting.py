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

_REGISTERS = ("type_printers", "singleton_printers", "deferred_printers")
"""The traits of a formatter in which representations are registered."""

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
        self._known_formatters: list[BaseFormatter] = []
        self._known_registers: list[tuple[Any, ...]] = []
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
        for by_type, by_value, by_name in self._registers():
            if kind in by_type or object in by_type or by_value:
                return False
            if by_name and any(module == "builtins" for module, _ in by_name):
                return False
        return True

    def _registers(self) -> list[tuple[Any, ...]]:
        """Returns where representations are registered, but texts: by type, by identity, and by name."""
        formatters = [
            self.ipython_display_formatter,
            self.mimebundle_formatter,
            *self.formatters.values(),
        ]
        if formatters != self._known_formatters:
            self._known_formatters = formatters
            self._known_registers = []
            for formatter in formatters:
                formatter.observe(self._on_replaced, list(_REGISTERS))
        if not self._known_registers:
            text = self.formatters[_TEXT]
            self._known_registers = [
                tuple(getattr(formatter, name) for name in _REGISTERS)
                for formatter in formatters
                if formatter is not text
            ]
        return self._known_registers

    def _on_replaced(self, change: object) -> None:
        self._known_registers = []

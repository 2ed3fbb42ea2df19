"""What is measured: each module here is run by itself, in a process of its own, in the order of names.

A module has `measure(figures, effort)`, which starts what it needs (see `processes`), measures each thing
in turns with its floor, and ends what it has started; and may have `EXPECTATIONS`. Nothing else has to be
told of it: the table, the pictures and the comparison find what it has measured. A figure that depends on
a number says so at the end of its name, as in `run, contexts=100`: such figures get a picture of their
own, and one for each group where names begin with that, as in `bash: run, clients=16`.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from dataclasses import replace
from typing import Protocol, cast

from effort import Effort
from figures import Expectation, Figure, Figures


class Measure(Protocol):
    """What a module has."""

    EXPECTATIONS: tuple[Expectation, ...]

    def measure(self, figures: Figures, effort: Effort) -> None:
        """Measures everything."""


def names() -> list[str]:
    """Returns the names of all modules."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Measure:
    """Imports a module."""
    return cast(Measure, importlib.import_module(f"{__name__}.{name}"))


def qualified(module: str, name: str) -> str:
    """Returns the name of a figure among those of all modules."""
    return f"{module}: {name}" if name else ""


def expectations(module: str) -> list[Expectation]:
    """Returns what is expected of a module's figures."""
    return [
        replace(each, name=qualified(module, each.name), floor=qualified(module, each.floor))
        for each in getattr(load(module), "EXPECTATIONS", ())
    ]


def run(module: str, effort: Effort) -> list[Figure]:
    """Runs a module, in the process that is there for it."""
    figures = Figures()
    try:
        load(module).measure(figures, effort)
    except KeyboardInterrupt:  # the executor would wait for more, from a benchmark that may be gone
        os._exit(130)
    return [
        replace(each, name=qualified(module, each.name), floor=qualified(module, each.floor))
        for each in figures.all.values()
    ]

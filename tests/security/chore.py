"""What a piece of ordinary work is, and how a function becomes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from .attempt import source_of


@dataclass(frozen=True)
class Chore:
    """One piece of ordinary work: code that raises, or fails an assertion, where it can't be done."""

    name: str
    says: str
    """What an ordinary user does, in one sentence."""

    code: str

    cells_only: str = ""
    """Why it can't be done where contexts are contained without cells."""


def chore(*, cells_only: str = "") -> Callable[[Callable[[], None]], Chore]:
    """Makes a chore of a function, whose docstring says what it is; it is sent into a context as its source.

    Args:
        cells_only: Why it can't be done where contexts are contained without cells; empty if it can.
    """

    def make(function: Callable[[], None]) -> Chore:
        source = source_of(function)
        says = " ".join((inspect.getdoc(function) or "").split())
        code = f"{source}\n\n{function.__name__}()\n"
        return Chore(function.__name__, says, code, cells_only)

    return make

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


def chore(function: Callable[[], None]) -> Chore:
    """Makes a chore of a function, whose docstring says what it is; it is sent into a context as its source."""
    source = source_of(function)
    says = " ".join((inspect.getdoc(function) or "").split())
    return Chore(function.__name__, says, f"{source}\n\n{function.__name__}()\n")

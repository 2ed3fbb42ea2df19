"""Calls that are made ready before a fork, so that a child has nothing left but to make them.

Python writes to whatever it uses, to the reference counts at least, and a page that a child writes to becomes
its own. A call that is ready uses a C function and its arguments, not the code that has made these.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Generic, ParamSpec

_P = ParamSpec("_P")

Call = Callable[[], object]
"""Does what was made ready, or raises why it can't."""


class Preparable(Generic[_P]):
    """A function that can be called at once, or made ready for that."""

    def __init__(self, ready: Callable[_P, Call]) -> None:
        """Wraps what makes a call ready.

        Args:
            ready: Takes the function's arguments.
        """
        self.ready = ready
        functools.update_wrapper(self, ready)

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Does it at once."""
        self.ready(*args, **kwargs)()


def in_turn(*calls: Call) -> Call:
    """Returns a call that makes several, until one fails."""
    return functools.partial(_make_all, calls)


def _make_all(calls: tuple[Call, ...]) -> None:
    for call in calls:
        call()

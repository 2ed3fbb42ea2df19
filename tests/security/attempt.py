"""What an attempt is, and how a function becomes one."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .stage import Stage

ALWAYS = "always"
"""No guarantee of a tier, but what holds without any isolation too: that the server lives on, for instance."""

_PRELUDE = (Path(__file__).parent / "attempts" / "inside.py").read_text()


@dataclass(frozen=True)
class Report:
    """What the code of an attempt says of itself."""

    escaped: bool
    detail: str


Judge = Callable[["Stage", Report], Report]
"""Looks from outside whether an attempt has succeeded."""


@dataclass(frozen=True)
class Attempt:
    """One attempt to get out of a context; `attempt` makes them of functions."""

    name: str
    tries: str
    """What it tries, in one sentence."""

    kind: str
    """The module that it is in."""

    source: str
    """The function's source."""

    needs: tuple[str, ...]
    """The facts that the function takes, by name: see `Stage.facts`."""

    guarantees: tuple[str, ...]
    """Any of these must stop it."""

    judge: Judge | None = None
    """Says from outside whether it has succeeded; None believes the code, which returns if it has."""

    then: Literal["judge", "delete", "kill"] = "judge"
    """What comes before the judge: nothing, the delete of the context, SIGKILL to the server."""

    live: bool = False
    """Whether its run goes on while it is judged."""

    limits: Mapping[str, int] = field(default_factory=dict)
    """The limits of its context, where the server promises to keep them."""

    root_only: str = ""
    """Why an ordinary user can't do it even where nothing contains the code."""

    unless: str = ""
    """Why some machines do not allow it to anybody."""

    proof: Callable[[Stage], None] | None = None
    """Does from outside what the judge must see; without it the code is run outside of any context."""

    def code(self, facts: Mapping[str, Any]) -> str:
        """Returns the Python code that makes the attempt and prints one line of JSON."""
        given = json.dumps({name: facts[name] for name in self.needs})
        return f"{_PRELUDE}\n\n{self.source}\n\ntell({self.name}, json.loads({given!r}))\n"


def source_of(function: Callable[..., object]) -> str:
    """Returns a function's source without its decorators."""
    text = inspect.getsource(function)
    (node,) = ast.parse(text).body
    return str(ast.get_source_segment(text, node))


def attempt(*guarantees: str, **options: Any) -> Callable[[Callable[..., object]], Attempt]:
    """Makes an attempt of a function, whose docstring says what it tries.

    The function is sent into a context as its source, with all that `attempts/inside.py` defines and
    imports; it takes facts by their names. It returns if it succeeds; `Stopped`, OSError and MemoryError
    mean that it was stopped.

    Args:
        *guarantees: Any of these must stop it.
        **options: The fields of `Attempt`.
    """

    def make(function: Callable[..., object]) -> Attempt:
        return Attempt(
            name=function.__name__,
            tries=" ".join((function.__doc__ or "").split()),
            kind=function.__module__.rpartition(".")[2],
            source=source_of(function),
            needs=tuple(inspect.signature(function).parameters),
            guarantees=guarantees,
            **options,
        )

    return make

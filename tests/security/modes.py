"""The ways of running a server that the attempts are made in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

ORDINARY_UID = 65_534
"""The user of a server that does not run as root, where the tests do."""


@dataclass(frozen=True)
class Mode:
    """How a server is run."""

    name: str
    flags: tuple[str, ...]
    """What `serve` is given."""

    root: bool
    """Whether it runs as root, or as an ordinary user."""

    weakest: bool = False
    """Whether nothing contains the code: here every attempt must succeed, or it could not tell."""


_EVERYBODY = ("root", "user")
_WAYS = (
    ("bare", ("--isolation", "none", "--no-pid-namespaces"), _EVERYBODY),
    ("default", (), _EVERYBODY),
    ("uid", ("--isolation", "uid"), ("root",)),
    ("landlock", ("--isolation", "landlock"), _EVERYBODY),
)
MODES = tuple(
    Mode(f"{name}-{user}", flags, root=user == "root", weakest=name == "bare")
    for name, flags, users in _WAYS
    for user in users
)


def mode_named(name: str) -> Mode:
    """Returns the mode of a name."""
    return next(mode for mode in MODES if mode.name == name)


def parameters(modes: Iterable[Mode]) -> list[Any]:
    """Makes parameters of modes: one process makes all tests of one, with one server."""
    return [
        pytest.param(mode, id=mode.name, marks=pytest.mark.xdist_group(f"arena-{mode.name}"))
        for mode in modes
    ]

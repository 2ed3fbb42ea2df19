"""Ordinary work, which must go on in every mode: what stops an attempt must not stop this."""

from __future__ import annotations

from security.chore import Chore

from . import computing, files, processes

CHORES = tuple(
    each
    for module in (processes, files, computing)
    for each in vars(module).values()
    if isinstance(each, Chore)
)
"""All of it."""

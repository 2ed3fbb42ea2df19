"""Ordinary work in each mode, beside the attempts: what contains those must leave this alone."""

from __future__ import annotations

import pytest

from security.arena import Arena
from security.chore import Chore
from security.chores import CHORES


@pytest.mark.parametrize("chore", [pytest.param(each, id=each.name) for each in CHORES])
def test_ordinary_work_goes_on(arena: Arena, chore: Chore) -> None:
    """What ordinary users do works in every mode."""
    answer = arena.order("chore", chore.name)
    if chore.cells_only and arena.tier in ("uid", "landlock"):
        assert answer["outcome"] == "RAISED", "it can be done here after all: say so"
        pytest.skip(chore.cells_only)
    assert answer["outcome"] == "SUCCEEDED", answer["detail"]


def test_there_is_enough_ordinary_work() -> None:
    """There are at least 25 chores, each with a name of its own and one sentence."""
    assert len({each.name for each in CHORES}) == len(CHORES) >= 25
    assert all(each.says.endswith(".") for each in CHORES)

"""Ordinary work in each mode, beside the attempts: what contains those must leave this alone."""

from __future__ import annotations

import pytest

from security.arena import Arena
from security.chore import Chore
from security.chores import CHORES
from security.modes import MODES, parameters

# Landlock alone keeps root from no work that it does not keep others from.
WORKING = parameters(mode for mode in MODES if mode.name != "landlock-root")


@pytest.mark.parametrize("chore", [pytest.param(each, id=each.name) for each in CHORES])
@pytest.mark.parametrize("arena", WORKING, indirect=True)
def test_ordinary_work_goes_on(arena: Arena, chore: Chore) -> None:
    """What ordinary users do works in every mode, but for what a tier says that it lacks."""
    answer = arena.order("chore", chore.name)
    if chore.cells_only and arena.tier in ("uid", "landlock"):
        assert answer["outcome"] == "RAISED", "it can be done here after all: say so"
        pytest.skip(chore.cells_only)
    assert answer["outcome"] == "SUCCEEDED", answer["detail"]


def test_there_is_enough_ordinary_work() -> None:
    """There are at least 25 chores, each with a name of its own and one sentence."""
    assert len({each.name for each in CHORES}) == len(CHORES) >= 25
    assert all(each.says.endswith(".") for each in CHORES)

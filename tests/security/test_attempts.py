"""The list of attempts to get out of a context, made in each mode."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest
from support.machine import skip, why_no_namespaces
from support.users import AS_NOBODY

from security.arena import Arena, Unable
from security.attempt import ALWAYS, Attempt
from security.attempts import ATTEMPTS
from security.escapes import KNOWN
from security.modes import MODES, parameters

HELD_BY_ALL = {ALWAYS, "descendants_die", "dies_with_server"}
"""What holds in every mode: the attempts on it succeed in none, so their detection is proved apart."""

WEAKEST = parameters(mode for mode in MODES if mode.weakest)
DEFAULT = parameters(mode for mode in MODES if not mode.flags)


def by_name(attempts: Iterable[Attempt]) -> list[Any]:
    """Makes parameters of attempts."""
    return [pytest.param(each, id=each.name) for each in attempts]


def is_held_by_all(attempt: Attempt) -> bool:
    """Whether something must stop an attempt in every mode."""
    return bool(HELD_BY_ALL.intersection(attempt.guarantees))


def _order(arena: Arena, verb: str, attempt: Attempt) -> tuple[bool, str, str]:
    try:
        answer = arena.order(verb, attempt.name)
    except Unable as reason:
        pytest.skip(str(reason))
    return answer["escaped"], answer["detail"], answer["damage"]


def _must_succeed(arena: Arena, attempt: Attempt, *, escaped: bool, detail: str) -> None:
    """Where nothing stops an attempt it succeeds, unless the machine does not allow it to anybody."""
    if not escaped and attempt.root_only and not arena.mode.root:
        pytest.skip(f"{attempt.root_only}: {detail}")
    if not escaped and attempt.unless:
        pytest.skip(f"{attempt.unless}: {detail}")
    assert escaped, f"nothing contains it here, and yet it failed: can it tell? {detail}"


@pytest.mark.parametrize("attempt", by_name(ATTEMPTS))
def test_an_attempt_is_stopped_where_a_guarantee_says_so(
    arena: Arena, attempt: Attempt, request: pytest.FixtureRequest
) -> None:
    """What the server promises to stop is stopped; where nothing contains the code, the attempt succeeds."""
    promised = arena.guarantees.intersection(attempt.guarantees)
    stopped = bool(promised) or ALWAYS in attempt.guarantees
    if stopped and arena.mode.weakest:
        assert is_held_by_all(attempt), "no mode shows that this attempt can tell"
    if stopped and (reason := KNOWN.get((attempt.name, arena.mode.name))):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    if not stopped and not arena.mode.weakest:
        pytest.skip("nothing promises to stop it here")
    escaped, detail, damage = _order(arena, "attempt", attempt)
    if stopped:
        assert not escaped, f"{', '.join(promised) or ALWAYS} does not hold: {detail}"
        assert attempt.then == "kill" or not damage, f"others were hurt: {damage}"
    else:
        _must_succeed(arena, attempt, escaped=escaped, detail=detail)


@pytest.mark.parametrize("attempt", by_name(filter(is_held_by_all, ATTEMPTS)))
@pytest.mark.parametrize("arena", WEAKEST, indirect=True)
def test_an_attempt_that_is_stopped_everywhere_can_tell(arena: Arena, attempt: Attempt) -> None:
    """Without any context around it, an attempt succeeds that is stopped even in the weakest mode."""
    escaped, detail, _ = _order(arena, "proof", attempt)
    _must_succeed(arena, attempt, escaped=escaped, detail=detail)


@pytest.mark.parametrize("arena", DEFAULT, indirect=True)
def test_the_attempts_are_made_on_cells(arena: Arena) -> None:
    """Where namespaces can be made, the server that attempts are made on by default has cells."""
    if arena.tier != "cell":
        proof = why_no_namespaces(() if arena.mode.root or os.getuid() else AS_NOBODY)
        assert proof, f"namespaces can be made here, and yet the tier is {arena.tier}"
        skip("there are no cells", proof)


def test_the_list_is_long_enough_and_each_attempt_says_what_it_is() -> None:
    """There are at least 65 attempts, each with a name of its own, one sentence, and what must stop it."""
    assert len(ATTEMPTS) >= 65
    assert len({each.name for each in ATTEMPTS}) == len(ATTEMPTS)
    for each in ATTEMPTS:
        assert each.tries.endswith("."), each.name
        assert each.guarantees, each.name
        assert set(each.guarantees) <= GUARANTEES, each.name


GUARANTEES = {
    ALWAYS,
    "no_network",
    "no_foreign_files",
    "no_foreign_processes",
    "no_foreign_signals",
    "process_limit",
    "memory_limit_hard",
    "memory_limit_soft",
    "disk_limit",
    "dies_with_server",
    "descendants_die",
}

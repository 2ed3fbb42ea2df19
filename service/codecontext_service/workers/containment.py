"""By what an interpreter and its keeper are confined in each tier, see `tiers`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .confinement import Confinement, User
from .filters import Policy, policy_for
from .jail import DEVICES, PRIVATE
from .landlock import Access, PathRule, Ruleset, abi


@dataclass(frozen=True)
class Tier:
    """What the process that forks interpreters must know of how they are contained."""

    name: str
    """`cell` or `none`."""

    memory_group: bool
    """Whether a control group limits their memory."""


def of_interpreter(tier: Tier, uid: int) -> Confinement:
    """Returns what confines an interpreter, and all that it starts.

    Args:
        tier: How it is contained.
        uid: The user and group that it gets; -1 leaves them as they are.
    """
    if tier.name == "none":
        return Confinement()
    return Confinement(
        user=_user(uid),
        landlock=_files() if abi() else None,
        filter=_policy(tier.name, memory_group=tier.memory_group),
    )


def of_copy() -> Ruleset:
    """Returns what keeps a forked context from its parent's processes and from other copies.

    It forbids nothing else: Landlock lets no process signal, trace or look into those outside of its own
    domain, to which only what it starts belongs.
    """
    everything = Access.READ_WRITE | Access.DEVICE | Access.MAKE_CHAR | Access.MAKE_BLOCK
    return Ruleset(paths=(PathRule("/", everything),), tcp=True)


def of_keeper(tier: str, uid: int) -> Confinement:
    """Returns what confines the pid 1 of a cell: code in the cell may try to take it over.

    Args:
        tier: `cell` or `none`.
        uid: The user and group that it gets; -1 leaves them as they are.
    """
    if tier == "none":
        return Confinement()
    return Confinement(user=_user(uid), filter=replace(_policy(tier), marks=True))


def _user(uid: int) -> User | None:
    return User(uid, uid) if uid >= 0 else None


def _policy(tier: str, *, memory_group: bool = False) -> Policy:
    return policy_for(tier, landlock_abi=abi(), memory_group=memory_group)


def _files() -> Ruleset:
    return Ruleset(
        paths=(
            PathRule("/", Access.READ),
            PathRule("/proc", Access.READ | Access.WRITE_FILE),
            *(PathRule(path, Access.READ_WRITE) for path in PRIVATE),
            *(PathRule(path, Access.DEVICE) for path in DEVICES),
        ),
        tcp=True,  # the network namespace decides what there is to reach
    )

"""By what an interpreter and its keeper are confined in each tier, see `tiers`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .confinement import Confinement, User
from .filters import Policy, Sockets, policy_for
from .jail import DEVICES, PRIVATE, SYSTEM
from .landlock import Access, PathRule, Ruleset, abi


@dataclass(frozen=True)
class Tier:
    """What the process that forks interpreters must know of how they are contained."""

    name: str
    """`cell`, `uid`, `landlock` or `none`."""

    memory_group: bool
    """Whether a control group limits their memory."""

    shown: tuple[str, ...] = ()
    """Without a jail: what they may read of the machine beside the system's own."""


@dataclass(frozen=True)
class Place:
    """Where the files of a sandbox without cells are, and what its processes may."""

    folder: str
    """Its folder, which has a workspace and a folder for temporary files in it."""

    uid: int = -1
    """The user and group of its processes; -1 leaves them as they are."""

    host_network: bool = False
    """Whether they have the network of the machine."""

    @property
    def workspace(self) -> str:
        """The workspace."""
        return f"{self.folder}/workspace"

    @property
    def temporary(self) -> str:
        """The folder for temporary files."""
        return f"{self.folder}/tmp"  # noqa: S108  # a folder of its own


def of_interpreter(tier: Tier) -> Confinement:
    """Returns what confines an interpreter in a cell, but for its user, and all that it starts.

    Args:
        tier: How it is contained.
    """
    if tier.name == "none":
        return Confinement()
    return Confinement(
        landlock=_files() if abi() else None,
        filter=_policy(tier.name, memory_group=tier.memory_group),
    )


def of_placed_interpreter(tier: Tier, place: Place) -> Confinement:
    """Returns what confines an interpreter without a cell, and all that it starts.

    Args:
        tier: How it is contained: `uid` or `landlock`.
        place: Where its sandbox's files are.
    """
    policy = _policy(tier.name, memory_group=tier.memory_group)
    if place.host_network:
        policy = replace(policy, sockets=Sockets.HOST)
    return Confinement(
        user=user(place.uid),
        landlock=Ruleset(
            paths=(
                *(PathRule(each, Access.READ, missing_ok=True) for each in SYSTEM),
                *(PathRule(each, Access.READ) for each in tier.shown),
                # All of it: a rule for the own entry would not hold for what the process starts.
                PathRule("/proc", Access.READ),
                *(PathRule(each, Access.READ_WRITE) for each in (place.workspace, place.temporary)),
                *(PathRule(path, Access.DEVICE) for path in DEVICES),
            ),
            tcp=place.host_network,
        ),
        filter=policy,
    )


def of_copy() -> Ruleset:
    """Returns what keeps a forked context from its parent's processes and from other copies.

    It forbids nothing else: Landlock lets no process signal, trace or look into those outside of its own
    domain, to which only what it starts belongs.
    """
    everything = Access.READ_WRITE | Access.DEVICE | Access.MAKE_CHAR | Access.MAKE_BLOCK
    return Ruleset(paths=(PathRule("/", everything),), tcp=True)


def of_keeper(tier: str) -> Confinement:
    """Returns what confines the pid 1 of a cell, but for its user: code in the cell may try to take it over.

    Args:
        tier: `cell` or `none`.
    """
    if tier == "none":
        return Confinement()
    return Confinement(filter=replace(_policy(tier), marks=True))


def user(uid: int) -> User | None:
    """Returns the user and group that a process gets; -1 leaves them as they are."""
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

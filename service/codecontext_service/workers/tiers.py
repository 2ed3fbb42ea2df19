"""Isolation tiers: what this machine can give, and which guarantees hold in each.

What `assess` returns is data, without a decision: the server takes the strongest tier or the one that
it is told to, and refuses to start without what is required of it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from .probes import Layer, probe_layers

NO_NETWORK = "no_network"
NO_FOREIGN_FILES = "no_foreign_files"
NO_FOREIGN_PROCESSES = "no_foreign_processes"
NO_FOREIGN_SIGNALS = "no_foreign_signals"
PROCESS_LIMIT = "process_limit"
MEMORY_LIMIT_HARD = "memory_limit_hard"
MEMORY_LIMIT_SOFT = "memory_limit_soft"
DISK_LIMIT = "disk_limit"
DIES_WITH_SERVER = "dies_with_server"
DESCENDANTS_DIE = "descendants_die"

GUARANTEES = (
    NO_NETWORK,
    NO_FOREIGN_FILES,
    NO_FOREIGN_PROCESSES,
    NO_FOREIGN_SIGNALS,
    PROCESS_LIMIT,
    MEMORY_LIMIT_HARD,
    MEMORY_LIMIT_SOFT,
    DISK_LIMIT,
    DIES_WITH_SERVER,
    DESCENDANTS_DIE,
)
"""All there are, by the names that the API uses."""

_KEPT_WITHOUT_LAYERS = frozenset({DIES_WITH_SERVER, DESCENDANTS_DIE})
"""Keepers hold a context's processes together, and end with the server, on any machine."""

_KEPT_BY_ANY_TIER = _KEPT_WITHOUT_LAYERS | {
    NO_NETWORK,
    NO_FOREIGN_FILES,
    NO_FOREIGN_SIGNALS,
    MEMORY_LIMIT_SOFT,
}
"""Without pid namespaces code sees that other processes are there, and their commands; not into them."""

_CELL_AS_ROOT = (
    "seccomp",
    "mounts",
    "own_proc",
    "namespaces",
    "network",
    "own_uid",
    "own_uid_joined",
)
_CELL_BY_USER_NAMESPACE = (
    "seccomp",
    "user_namespace",
    "user_namespace_mounts",
    "user_namespace_own_proc",
    "user_namespace_namespaces",
    "user_namespace_network",
)
_UID = ("seccomp", "landlock", "own_uid", "own_uid_folder")
_LANDLOCK = ("seccomp", "landlock")


@dataclass(frozen=True)
class Tier:
    """One tier on this machine."""

    name: str
    """`cell`, `uid`, `landlock` or `none`."""
    available: bool
    obstacles: tuple[str, ...]
    """Why it is not available, one for each layer that fails: its name, a colon, the reason."""
    guarantees: tuple[str, ...]
    """What holds in it; empty if it is not available."""
    missing: tuple[str, ...]
    """What does not hold in it."""


@dataclass(frozen=True)
class Assessment:
    """What this machine can give. It consists of plain data: see `as_dict`."""

    tiers: tuple[Tier, ...]
    """All four, the strongest first; `none` is always available, and never to be chosen unasked."""
    user_namespace: bool
    """Whether cells are made in a user namespace, since they can't be made as root."""
    landlock_abi: int
    """0: Landlock doesn't work."""
    landlock_signals: bool
    """Whether Landlock keeps signals apart; else the filter of `landlock` denies them by pid."""
    strict_obstacles: tuple[str, ...]
    """What `strict` needs and is not there; empty: it can be had."""
    layers: tuple[Layer, ...]
    """What it follows from."""

    def tier(self, name: str) -> Tier:
        """Returns a tier.

        Raises:
            KeyError: There is no such tier.
        """
        for each in self.tiers:
            if each.name == name:
                return each
        raise KeyError(name)

    @property
    def strongest(self) -> Tier:
        """The first tier that is available."""
        return next(each for each in self.tiers if each.available)

    def as_dict(self) -> dict[str, object]:
        """Returns all of it as what JSON knows."""
        return dataclasses.asdict(self)


def assess(layers: Iterable[Layer], no_memory_group: str) -> Assessment:
    """Says what follows from what the probes found.

    Args:
        layers: What `probe_layers` returned.
        no_memory_group: Why no control group limits memory; empty if they do. Only the server can tell: it
            may have to leave its own group first.
    """
    groups = Layer("memory_control_group", works=not no_memory_group, reason=no_memory_group)
    found = {each.name: each for each in (*layers, groups)}
    as_root = not _obstacles(found, _CELL_AS_ROOT)
    by_user_namespace = not as_root and not _obstacles(found, _CELL_BY_USER_NAMESPACE)
    # As root, a failure of the direct way says more; else that of the user namespace.
    direct = found["own_uid"].works
    cell = _CELL_AS_ROOT if direct and not by_user_namespace else _CELL_BY_USER_NAMESPACE
    # Processes are limited by user, never by control group.
    uncounted = () if as_root else _obstacles(found, ("user_namespace_process_limit",))
    tiers = (
        _tier(
            "cell",
            _obstacles(found, cell),
            _KEPT_BY_ANY_TIER
            | {DISK_LIMIT, NO_FOREIGN_PROCESSES}
            | (frozenset() if uncounted else {PROCESS_LIMIT})
            | ({MEMORY_LIMIT_HARD} if groups.works else frozenset()),
        ),
        _tier("uid", _obstacles(found, _UID), _KEPT_BY_ANY_TIER | {PROCESS_LIMIT}),
        _tier("landlock", _obstacles(found, _LANDLOCK), _KEPT_BY_ANY_TIER),
        _tier("none", (), _KEPT_WITHOUT_LAYERS),
    )
    strict = _obstacles(found, ("landlock", "landlock_signals", groups.name))
    return Assessment(
        tiers=tiers,
        user_namespace=by_user_namespace,
        landlock_abi=found["landlock"].version,
        landlock_signals=found["landlock_signals"].works,
        strict_obstacles=tuple(dict.fromkeys((*tiers[0].obstacles, *uncounted, *strict))),
        layers=tuple(found.values()),
    )


def _obstacles(found: dict[str, Layer], needed: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}: {found[name].reason}" for name in needed if not found[name].works)


def _tier(name: str, obstacles: tuple[str, ...], kept: frozenset[str]) -> Tier:
    holds = frozenset() if obstacles else kept
    return Tier(
        name=name,
        available=not obstacles,
        obstacles=obstacles,
        guarantees=tuple(each for each in GUARANTEES if each in holds),
        missing=tuple(each for each in GUARANTEES if each not in holds),
    )


def main() -> None:
    """Prints what this machine can give, as JSON: for a process that may not fork by itself.

    Its options, as JSON, are the arguments of `assess` beside the layers.
    """
    print(json.dumps(assess(probe_layers(), **json.loads(sys.argv[1])).as_dict()))

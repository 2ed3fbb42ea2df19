"""How contexts are contained on this machine: decided once, when the server starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Containment:
    """A tier, and what the processes below the server must know of it."""

    tier: str
    """`cell` or `none`."""

    cells: str
    """`full`; `bare`: a pid namespace each, where the machine allows one; or empty: keepers alone."""

    own_uids: bool = False
    """Whether each sandbox has a user of its own; else a user namespace."""

    shown: tuple[str, ...] = ()
    """What the jail shows beside the system's own."""

    guarantees: tuple[str, ...] = ()
    """What holds, by the names of the API."""

    missing: tuple[str, ...] = ()
    """What does not hold."""

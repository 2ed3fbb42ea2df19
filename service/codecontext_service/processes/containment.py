"""How contexts are contained on this machine: decided once, when the server starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Containment:
    """A tier, and what the processes below the server must know of it."""

    tier: str
    """`cell` or `none`."""

    cells: str
    """`full`; `bare`: a pid namespace each, where the machine allows one; or empty: keepers alone."""

    memory_group: bool = False
    """Whether each cell has a control group that limits its memory."""

    cpu_group: bool = False
    """Whether each cell has one that limits its share of processors."""

    own_uids: bool = False
    """Whether each sandbox has a user of its own; else a user namespace."""

    shown: tuple[str, ...] = ()
    """What the jail shows beside the system's own."""

    guarantees: tuple[str, ...] = ()
    """What holds, by the names of the API."""

    missing: tuple[str, ...] = ()
    """What does not hold."""

    @property
    def of_interpreters(self) -> dict[str, Any]:
        """What those who fork interpreters must know, see `workers.containment.Tier`."""
        return {"name": self.tier, "memory_group": self.memory_group}

    @property
    def unkept_limits(self) -> tuple[str, ...]:
        """The limits, by their names in `Limits`, that can't be kept."""
        files = ("processes", "workspace_bytes", "workspace_inodes")
        return (() if self.cells == "full" else files) + (() if self.cpu_group else ("cpus",))

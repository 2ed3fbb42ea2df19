"""How contexts are contained on this machine: decided once, when the server starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Containment:
    """A tier, and what the processes below the server must know of it."""

    tier: str
    """`cell`, `uid`, `landlock` or `none`."""

    cells: str
    """`full`; `bare`: a pid namespace each, where the machine allows one; or empty: keepers alone."""

    memory_group: bool = False
    """Whether each cell has a control group that limits its memory."""

    cpu_group: bool = False
    """Whether each cell has one that limits its share of processors."""

    own_uids: bool = False
    """Whether each sandbox has a user of its own; else its cells have a user namespace, if there are any."""

    shown: tuple[str, ...] = ()
    """What interpreters may read of the machine beside the system's own."""

    guarantees: tuple[str, ...] = ()
    """What holds, by the names of the API."""

    missing: tuple[str, ...] = ()
    """What does not hold."""

    @property
    def of_interpreters(self) -> dict[str, Any]:
        """What those who fork interpreters must know, see `workers.containment.Tier`."""
        shown = () if self.cells == "full" else self.shown  # a jail shows nothing else
        return {"name": self.tier, "memory_group": self.memory_group, "shown": shown}

    @property
    def by_folder(self) -> bool:
        """Whether an interpreter is confined to the folder of its sandbox, which must be there before it."""
        return self.tier in ("uid", "landlock")

    @property
    def unkept_limits(self) -> tuple[str, ...]:
        """The limits, by their names in `Limits`, that can't be kept."""
        files = () if self.cells == "full" else ("workspace_bytes", "workspace_inodes")
        processes = () if self.cells == "full" or self.own_uids else ("processes",)
        return processes + files + (() if self.cpu_group else ("cpus",))

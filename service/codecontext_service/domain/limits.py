"""What a context may use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

MIN_CPUS = 0.01
"""The least share of processors that the kernel grants."""

MIN_OPEN_FILES = 32
"""With fewer open files an interpreter can't even load a module."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a context, or its sandbox, may use; 0 means that nothing limits it."""

    memory_bytes: int = 0
    """Memory of all its processes together. Past it they are ended, and the run with them."""

    cpu_time_s: float = 0.0
    """CPU time of all its processes together, in all its life. Past it they are ended."""

    cpus: float = 0.0
    """Share of processors of all its processes together: 1.0 is one whole."""

    open_files: int = 0
    """Open files of each process."""

    file_size_bytes: int = 0
    """The largest file that a process may write."""

    processes: int = 0
    """Processes and threads of the sandbox."""

    workspace_bytes: int = 0
    """What the sandbox's workspace may hold."""

    workspace_inodes: int = 0
    """Files and directories that the sandbox's workspace may hold."""

    def of_sandbox(self) -> Limits:
        """Returns those of these limits that a sandbox has as a whole, and not each of its contexts."""
        return Limits(**{name: getattr(self, name) for name in SHARED})

    def without(self, names: Iterable[str]) -> Limits:
        """Returns these limits without some of them."""
        return replace(self, **dict.fromkeys(names, 0))

    def over(self, defaults: Limits) -> Limits:
        """Returns these limits, with others for those that are 0."""
        chosen = {name: value or getattr(defaults, name) for name, value in vars(self).items()}
        return Limits(**chosen)


NO_LIMITS = Limits()

SHARED = ("processes", "workspace_bytes", "workspace_inodes")
"""The limits that a sandbox has as a whole."""

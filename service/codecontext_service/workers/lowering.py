"""Lowers limits of other processes."""

from __future__ import annotations

import os
import resource


def lower_limit(pid: int, kind: int, value: int) -> None:
    """Lowers a limit of a process for good.

    Root that has no CAP_SYS_RESOURCE, as in a container, may do that to its own user's processes alone: so it
    takes the other one's user for the moment.

    Args:
        pid: The process.
        kind: The limit, by its number.
        value: What it is to be, soft and hard.

    Raises:
        OSError: The process has ended, or the kernel refused.
    """
    try:
        resource.prlimit(pid, kind, (value, value))
    except PermissionError:
        owner = os.stat(f"/proc/{pid}")
        if os.geteuid() or not owner.st_uid:
            raise
        # The effective user stays: it alone decides on what this process may do.
        os.setresgid(owner.st_gid, -1, -1)
        os.setresuid(owner.st_uid, -1, -1)
        try:
            resource.prlimit(pid, kind, (value, value))
        finally:
            os.setresuid(0, -1, -1)
            os.setresgid(0, -1, -1)

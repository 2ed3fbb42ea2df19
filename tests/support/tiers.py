"""Servers of each isolation tier."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .machine import skip, why_no_landlock
from .servers import ServerProcess
from .users import uncovered

_REFUSED = "this machine does not allow the tier"


@contextmanager
def server_of(tier: str, folder: Path, *flags: str) -> Iterator[ServerProcess]:
    """A server whose contexts are contained in a tier without cells; skips where there is none.

    Args:
        tier: `uid` or `landlock`.
        folder: An empty folder that every user can get at.
        *flags: More flags for it.
    """
    if tier == "uid" and os.geteuid() != 0:
        skip("users are root's to give", proof="this is not root")
    prefix = uncovered(folder / "interpreter") if tier == "uid" else []
    flags = ("--isolation", tier, *flags)
    try:
        server = ServerProcess(folder / "state", *flags, prefix=prefix)
    except RuntimeError as error:
        if _REFUSED not in str(error):
            raise
        skip(f"the tier {tier} can't be had: {error}", proof=why_no_landlock())
    with server:
        yield server

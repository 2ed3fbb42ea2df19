"""The directory that holds what a server needs on disk while it lives."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path

from codecontext_service.processes.locks import locked

logger = logging.getLogger(__name__)

_PREFIX = "host-"
_LOCK = "lock"


class StateDirectory:
    """A fresh directory of this server, below one that servers share; both are its owner's alone.

    A server that was killed leaves its directory behind, and the next one to start removes it: whoever
    lives holds a lock in its own.
    """

    def __init__(self, parent: str) -> None:
        """Makes the directory.

        Args:
            parent: Below which directory; empty for one in the system's temporary directory.

        Raises:
            OSError: It can't be made, or the parent belongs to somebody else.
        """
        base = Path(parent or f"{tempfile.gettempdir()}/codecontext-{os.getuid()}")
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if base.stat().st_uid != os.getuid():
            raise PermissionError(f"{base} belongs to another user; give another state_dir")
        # One server at a time, or one would take the other's directory, not locked yet, for a dead one's.
        with locked(base):
            self._remove_stale(base)
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            self._lock = (self.path / _LOCK).open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def let_through(self) -> None:
        """Lets other users through, to folders below it whose names they know.

        Raises:
            OSError: The kernel refused, or they can't get as far as to it.
        """
        for folder in (self.path.parent, self.path):
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o011)
        for folder in self.path.resolve().parents:
            if not folder.stat().st_mode & stat.S_IXOTH:
                raise PermissionError(
                    f"users of sandboxes can't get through {folder}: give another state_dir"
                )

    def _remove_stale(self, base: Path) -> None:
        for folder in base.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError), (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
                logger.info("removed what a dead server has left", extra={"folder": folder.name})

    def remove(self) -> None:
        """Removes the directory."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()

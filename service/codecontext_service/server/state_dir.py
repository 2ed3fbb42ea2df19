"""The directory that holds what a server needs on disk while it lives."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from codecontext_service.processes.locks import lock

logger = logging.getLogger(__name__)

_PREFIX = "host-"
_LOCK = "lock"

_REMOVAL_WAIT_S = 1.0
"""How long a server that ends waits for others that start, in seconds."""


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
        self._base_stays = bool(parent)
        base = Path(parent or f"{tempfile.gettempdir()}/codecontext-{os.getuid()}")
        # One server at a time, or one would take the other's directory, not locked yet, for a dead one's.
        with _made_and_locked(base):
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
        """Removes the directory, and the one above it too if nobody has asked for that or is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()
        if not self._base_stays:
            _remove_empty(self.path.parent)


@contextlib.contextmanager
def _made_and_locked(base: Path) -> Iterator[None]:
    """Makes a directory if it is not there, and locks it."""
    while True:
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = lock(base)
        except FileNotFoundError:
            continue  # a server that ends has removed it in between
        except FileExistsError:
            if _is_no_directory(base):
                raise
            continue
        try:
            if _is_still(base, fd):
                if os.fstat(fd).st_uid != os.getuid():
                    raise PermissionError(f"{base} belongs to another user; give another state_dir")
                yield
                return
        finally:
            os.close(fd)


def _remove_empty(base: Path) -> None:
    """Removes a directory if nobody is in it, or about to be."""
    with contextlib.suppress(OSError):
        fd = lock(base, _REMOVAL_WAIT_S)
        try:
            if _is_still(base, fd):
                base.rmdir()
        finally:
            os.close(fd)


def _is_still(base: Path, fd: int) -> bool:
    """Whether what was locked is what is there: another one may have been made since it was opened."""
    try:
        return os.path.samestat(base.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _is_no_directory(base: Path) -> bool:
    """Whether there is something else of that name."""
    try:
        return not stat.S_ISDIR(base.stat().st_mode)
    except FileNotFoundError:
        return base.is_symlink()  # one that leads nowhere

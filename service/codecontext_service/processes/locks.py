"""Locks on directories: who holds one lives, and so does nobody's heir take what is not a dead one's."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks a directory itself, so that no file for it is left there.

    Raises:
        OSError: It can't be opened.
    """
    fd = lock(folder)
    try:
        yield
    finally:
        os.close(fd)


def lock(folder: Path, *, wait: bool = True) -> int:
    """Locks a directory until the descriptor that this returns is closed, if only by the process's end.

    Args:
        folder: Which.
        wait: Whether to wait for whoever holds the lock.

    Raises:
        BlockingIOError: Without `wait`: somebody holds it.
        OSError: It can't be opened.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        os.close(fd)
        raise
    return fd

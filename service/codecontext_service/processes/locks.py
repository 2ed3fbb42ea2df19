"""Locks on directories: whoever holds one lives, so that what is left of the dead can be told."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_RETRY_S = 0.005


@contextlib.contextmanager
def locked(folder: Path, wait_s: float | None = None) -> Iterator[None]:
    """Locks a directory itself, so that no file for it is left there; see `lock`.

    Raises:
        BlockingIOError: Somebody has held it all that time.
        OSError: It can't be opened.
    """
    fd = lock(folder, wait_s)
    try:
        yield
    finally:
        os.close(fd)


def lock(folder: Path, wait_s: float | None = None) -> int:
    """Locks a directory until the descriptor that this returns is closed, if only by the process's end.

    Args:
        folder: Which.
        wait_s: How long to wait for whoever holds the lock, in seconds; None for ever.

    Raises:
        BlockingIOError: Somebody has held it all that time.
        OSError: It can't be opened.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if wait_s is None:
            fcntl.flock(fd, fcntl.LOCK_EX)
        else:
            _lock_within(fd, wait_s)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock_within(fd: int, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_S)

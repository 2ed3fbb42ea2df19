"""Servers that an ordinary user runs, whoever runs the tests."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65_534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
"""What has root's command run by an ordinary user."""

UNCOVER = """
set -e
mount --bind "$1" "$3"
mount -t tmpfs -o mode=755 tmpfs "$2"
mkdir -p "$1"
mount --move "$3" "$1"
shift 3
exec "$@"
"""
"""Shows one folder to everyone, below another that is root's alone: `prefix blocked free command…`."""


@contextmanager
def home_of_nobody() -> Iterator[Path]:
    """A directory that belongs to an ordinary user, whoever runs the tests."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def open_folder() -> Iterator[Path]:
    """An empty directory that every user can get at."""
    with tempfile.TemporaryDirectory(prefix="codecontext-test-") as folder:
        path = Path(folder)
        path.chmod(0o777)
        yield path


def uncovered(free: Path) -> list[str]:
    """What has a command run where every user can get at this interpreter, which may be root's alone.

    Args:
        free: A name below a folder that every user can get at, and which may be this function's to take.
    """
    interpreter = Path(sys.base_prefix).resolve()
    blocked = [each for each in interpreter.parents if not each.stat().st_mode & 0o001]
    if not blocked:
        return []
    free.mkdir()
    mounts = ["unshare", "--mount", "--propagation", "private", "sh", "-c", UNCOVER, "sh"]
    return [*mounts, str(interpreter), str(blocked[-1]), str(free)]


def as_nobody(free: Path) -> list[str]:
    """What has a command run by an ordinary user, who may lack the way to root's interpreter."""
    if os.geteuid() != 0:
        return []
    return [*uncovered(free), *AS_NOBODY]

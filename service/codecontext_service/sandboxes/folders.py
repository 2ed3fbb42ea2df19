"""Folders of sandboxes whose cells have no files of their own: how they are removed."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path


async def remove_folder(folder: Path) -> None:
    """Removes a sandbox's folder, whatever its permissions were made to be.

    Raises:
        OSError: It can't be removed.
    """
    if not _remove_empty(folder):
        await asyncio.to_thread(_remove, folder)


def _remove_empty(folder: Path) -> bool:
    """Removes a sandbox's folder if nothing was ever written, which a thread would only slow down."""
    try:
        (folder / "workspace").rmdir()
        folder.rmdir()
    except OSError:
        return False
    return True


def _remove(folder: Path) -> None:
    """Removes a folder, whatever its permissions were made to be."""
    shutil.rmtree(folder, onerror=lambda function, path, error: _insist(folder, path))


def _insist(folder: Path, path: str) -> None:
    parent = Path(path).parent
    if folder in parent.parents or parent == folder:
        parent.chmod(0o700)
    target = Path(path)
    if target.is_dir() and not target.is_symlink():
        target.chmod(0o700)
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)

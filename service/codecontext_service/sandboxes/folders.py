"""Folders of sandboxes whose cells have no files of their own: how they are made and removed."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from codecontext_service.workers.containment import Place

_TRAVERSABLE, _PRIVATE = 0o711, 0o700


def make_folder(place: Place) -> None:
    """Makes a sandbox's folder, and what is in it its user's.

    Raises:
        OSError: It can't be made.
    """
    Path(place.folder).mkdir(mode=_PRIVATE)
    if place.uid >= 0:
        Path(place.folder).chmod(_TRAVERSABLE)
    for each in (place.workspace, place.temporary):
        Path(each).mkdir(mode=_PRIVATE)
        if place.uid >= 0:
            os.chown(each, place.uid, place.uid)


async def remove_folder(place: Place) -> None:
    """Removes a sandbox's folder, whatever its permissions were made to be.

    Raises:
        OSError: It can't be removed.
    """
    if not _remove_empty(place):
        await asyncio.to_thread(_remove, Path(place.folder))


def _remove_empty(place: Place) -> bool:
    """Removes a sandbox's folder if nothing was ever written, which a thread would only slow down."""
    try:
        for each in (place.workspace, place.temporary, place.folder):
            Path(each).rmdir()
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

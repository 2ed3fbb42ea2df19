"""Directories page by page, in the order of the names."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator

from .names import MAX_PATH_BYTES
from .workspace import FileInfo, Workspace


def list_page(
    workspace: Workspace, path: list[bytes], *, recursive: bool, after: list[bytes], limit: int
) -> tuple[list[FileInfo], list[bytes] | None]:
    """Returns a page of what is in a directory.

    Each page looks anew: what comes and goes meanwhile may be listed or not, what stays is listed once.

    Args:
        workspace: Where.
        path: The directory.
        recursive: Whether all below is listed, each directory before what is in it.
        after: The path, from the directory on, of the last file of the page before; empty for the first.
        limit: How many at most.

    Returns:
        The files, and the path of the last one if there are more.

    Raises:
        FileNotFound: There is no such directory.
        FileWrongKind: It is no directory.
    """
    with workspace.failures(path):
        found = _below(workspace, path, after) if recursive else _in(workspace, path, [], after)
        page = list(itertools.islice(found, limit + 1))
    files = [info for _, info in page[:limit]]
    return files, page[limit - 1][0] if len(page) > limit else None


def _in(
    workspace: Workspace, path: list[bytes], inner: list[bytes], after: list[bytes]
) -> Iterator[tuple[list[bytes], FileInfo]]:
    """Yields what is in a directory; `inner` is its path from the one that is listed."""
    with workspace.directory([*path, *inner]) as directory:
        for name in sorted(map(os.fsencode, os.listdir(directory))):
            if [*inner, name] > after:
                with contextlib.suppress(FileNotFoundError):  # it has gone
                    yield (
                        [*inner, name],
                        workspace.stat_in(directory, [*path, *inner, name]),
                    )


def _below(
    workspace: Workspace, path: list[bytes], after: list[bytes]
) -> Iterator[tuple[list[bytes], FileInfo]]:
    """Yields all below a directory. No link is followed, and no descriptor held but one."""
    waiting = [list(_names(workspace, path, [], after))]
    while waiting:
        if not waiting[-1]:
            waiting.pop()
            continue
        inner = waiting[-1].pop()
        with contextlib.suppress(
            OSError
        ):  # it has gone, or is closed to us, or too deep to be named
            with workspace.directory([*path, *inner[:-1]]) as parent:
                info = workspace.stat_in(parent, [*path, *inner])
            if inner > after:
                yield inner, info
            if info.kind == "directory" and len(b"/".join([*path, *inner])) < MAX_PATH_BYTES:
                waiting.append(list(_names(workspace, path, inner, after)))


def _names(
    workspace: Workspace, path: list[bytes], inner: list[bytes], after: list[bytes]
) -> Iterator[list[bytes]]:
    """Yields the paths in a directory that may lead to something after a path, the last one first."""
    with workspace.directory([*path, *inner]) as directory:
        for name in sorted(map(os.fsencode, os.listdir(directory)), reverse=True):
            below = [*inner, name]
            if below > after or below == after[: len(below)]:
                yield below

"""What the kernel refuses, as what the caller is told."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from codecontext_service.domain.errors import (
    FieldViolation,
    FileExists,
    FileNotFound,
    FileWrongKind,
    InvalidArgument,
    PermissionDenied,
    QuotaExceeded,
    ServiceError,
)
from codecontext_service.workers.file_names import show

from .names import MAX_PATH_BYTES

KINDS = {
    stat.S_IFREG: "regular",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
}
"""Kinds of files by their bits in a mode; all others are `other`."""


def kind_of(mode: int) -> str:
    """Returns the kind of a file by its mode."""
    return KINDS.get(stat.S_IFMT(mode), "other")


def wrong_kind(path: str, kind: str, message: str) -> FileWrongKind:
    """Returns the error for a file that the call can't be used on.

    Args:
        path: Its path, as shown.
        kind: What it is.
        message: What the call wants.
    """
    return FileWrongKind(f"{path[:200]}: {message}", path=path[:200], kind=kind)


def _full(root: int, subject: str) -> QuotaExceeded:
    found = os.fstatvfs(root)
    inodes = found.f_files > 0 and found.f_ffree == 0
    quota, limit, what = (
        ("workspace_inodes", found.f_files, "files")
        if inodes
        else ("workspace_bytes", found.f_blocks * found.f_frsize, "bytes")
    )
    return QuotaExceeded(
        f"the workspace is full: it holds {limit} {what}; delete something",
        quota=quota,
        limit=limit,
        subject=subject,
    )


def translate(error: OSError, path: str, root: int, subject: str) -> ServiceError | None:
    """Returns what an error of the kernel means for the caller; None if it is a bug.

    Args:
        error: What the kernel said.
        path: The path that the call named, as shown.
        root: A descriptor of the workspace.
        subject: The id of its sandbox.
    """
    match error.errno:
        case errno.ENOENT | errno.ESTALE:
            return FileNotFound(f"there is no {path[:200]!r} in the workspace", path=path[:200])
        case errno.EEXIST:
            return FileExists(f"{path[:200]!r} is there already", path=path[:200])
        case errno.ENOTDIR:
            return wrong_kind(path, "other", "a part of the path is no directory")
        case errno.EISDIR:
            return wrong_kind(path, "directory", "is a directory")
        case errno.ENOTEMPTY:
            return wrong_kind(path, "directory", "is a directory that is not empty")
        case errno.EXDEV | errno.ELOOP:
            return wrong_kind(path, "symlink", "a link leads out of the workspace, or nowhere")
        case errno.ENAMETOOLONG:
            text = f"leads to a path of more than {MAX_PATH_BYTES} bytes"
            return InvalidArgument(FieldViolation("path", text))
        case errno.EACCES | errno.EPERM:
            return PermissionDenied(
                f"{path[:200]!r} can't be reached: the code has taken its permissions away",
                path=path[:200],
            )
        case errno.ENOSPC | errno.EDQUOT:
            return _full(root, subject)
    return None


@contextlib.contextmanager
def translated(path: list[bytes], root: int, subject: str) -> Iterator[None]:
    """Turns what the kernel refuses into errors of the service, see `translate`.

    Raises:
        ServiceError: It refused.
    """
    try:
        yield
    except OSError as error:
        meant = translate(error, show(b"/".join(path)), root, subject)
        if meant is None:
            raise
        raise meant from error

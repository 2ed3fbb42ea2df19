"""Opening files below a directory, whatever the code inside does to links and names meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Iterator

from codecontext_service.workers import syscalls

_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_MAX_PASSES = 100_000
"""How often a directory is looked through again until it is empty."""
_ATTEMPTS = 100
"""How often a path is looked up again because something in it was renamed meanwhile."""
_RENAME_NOREPLACE = 1


class _OpenHow(ctypes.Structure):
    """`struct open_how` of openat2(2)."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_beneath(root: int, names: list[bytes], flags: int) -> int:
    """Opens a file by a path that can't lead out of a directory.

    Links in the path are followed as long as they stay inside.

    Args:
        root: A descriptor of the directory.
        names: The path.
        flags: Those of open(2).

    Returns:
        A descriptor, which is the caller's to close.

    Raises:
        OSError: EXDEV if a link leads out, or what else the kernel says.
    """
    path = ctypes.create_string_buffer(b"/".join(names) or b".")
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    for attempt in range(_ATTEMPTS):
        with contextlib.suppress(BlockingIOError, InterruptedError):
            return syscalls.system_call(
                "openat2", root, ctypes.byref(path), ctypes.byref(how), ctypes.sizeof(how)
            )
        if attempt:
            os.sched_yield()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def rename(
    source: int, source_name: bytes, target: int, target_name: bytes, *, replace: bool
) -> None:
    """Renames a file from one directory to another: renameat2(2).

    Args:
        source: A descriptor of the directory that it is in.
        source_name: Its name there.
        target: A descriptor of the directory that it goes to.
        target_name: Its name there.
        replace: Whether a file of that name is replaced.

    Raises:
        OSError: EEXIST if there is one and it is not, or what else the kernel says.
    """
    syscalls.system_call(
        "renameat2",
        source,
        ctypes.byref(ctypes.create_string_buffer(source_name)),
        target,
        ctypes.byref(ctypes.create_string_buffer(target_name)),
        0 if replace else _RENAME_NOREPLACE,
    )


def remove_tree(parent: int, name: bytes) -> None:
    """Removes a directory with all that is in it, however deep.

    What lies deeper is first moved up, so that a few descriptors are enough for any depth.

    Args:
        parent: A descriptor of the directory that it is in.
        name: Its name.

    Raises:
        OSError: It can't be removed; ENOTEMPTY if the code puts things into it all the time.
    """
    with _directory(parent, name) as top:
        for _ in range(_MAX_PASSES):
            if not (entries := os.listdir(top)):
                break
            for entry in map(os.fsencode, entries):
                with contextlib.suppress(FileNotFoundError):
                    _remove_entry(top, entry)
    os.rmdir(name, dir_fd=parent)


@contextlib.contextmanager
def _directory(parent: int, name: bytes) -> Iterator[int]:
    """Opens a directory, in which anything may then be removed."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    place = os.open(name, os.O_PATH | flags, dir_fd=parent)
    try:
        itself = f"/proc/self/fd/{place}"
        if os.fstat(place).st_mode & 0o700 != 0o700:  # the code has taken its own rights away
            os.chmod(itself, 0o700)
        opened = os.open(itself, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        yield opened
    finally:
        os.close(opened)


def _unlink(directory: int, name: bytes) -> bool:
    """Removes a file; returns whether it was one, and no directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except (IsADirectoryError, PermissionError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise
        return False
    return True


def _remove_entry(top: int, entry: bytes) -> None:
    """Removes a file, or a directory whose directories are moved up."""
    if _unlink(top, entry):
        return
    with _directory(top, entry) as inner:
        for each in map(os.fsencode, os.listdir(inner)):
            with contextlib.suppress(FileNotFoundError):
                if not _unlink(inner, each):
                    with _directory(inner, each):  # which gives the right to move it
                        pass
                    rename(inner, each, top, secrets.token_hex(16).encode(), replace=False)
    with contextlib.suppress(OSError):  # something new is in it: the next pass comes to it
        os.rmdir(entry, dir_fd=top)

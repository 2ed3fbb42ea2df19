"""What can be done with the files of one workspace. All of it blocks: see `sessions`."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from codecontext_service.workers.file_names import show

from .beneath import open_beneath, remove_tree, rename
from .failures import kind_of, translated, wrong_kind

_NEW_DIRECTORY = 0o755


@dataclass(frozen=True)
class FileInfo:
    """What a file is."""

    path: str
    """Its path in the workspace, as it is shown."""
    kind: str
    """`regular`, `directory`, `symlink` or `other`."""
    size_bytes: int
    """Its size; 0 for directories."""
    modify_time_ns: int
    """When its content last changed, in nanoseconds since 1970."""
    mode: int
    """Its permission bits."""
    link_target: str = ""
    """Where a link leads, as written in it."""
    sha256: bytes = b""
    """The SHA-256 of its content, where all of it was read."""


def describe(path: list[bytes], found: os.stat_result, link_target: bytes = b"") -> FileInfo:
    """Describes a file by what the kernel says of it."""
    kind = kind_of(found.st_mode)
    return FileInfo(
        show(b"/".join(path)),
        kind,
        0 if kind == "directory" else found.st_size,
        found.st_mtime_ns,
        stat.S_IMODE(found.st_mode),
        show(link_target),
    )


class Workspace:
    """The files of one sandbox, as seen from outside."""

    def __init__(self, root: int, uid: int, sandbox_id: str) -> None:
        """Knows a workspace.

        Args:
            root: A descriptor of its directory, which stays the caller's.
            uid: Whose what is made here is to be; -1: that of this process.
            sandbox_id: The sandbox that it belongs to.
        """
        self.root = root
        self.sandbox_id = sandbox_id
        self._uid = uid

    def failures(self, path: list[bytes]) -> contextlib.AbstractContextManager[None]:
        """Turns what the kernel refuses into errors of the service."""
        return translated(path, self.root, self.sandbox_id)

    def give(self, fd: int) -> None:
        """Gives a file that was made here to the code."""
        if self._uid >= 0:
            os.fchown(fd, self._uid, self._uid)

    @contextlib.contextmanager
    def directory(self, path: list[bytes], *, make: bool = False) -> Iterator[int]:
        """Opens a directory.

        Args:
            path: Which.
            make: Whether what is missing of the path is made.

        Raises:
            OSError: It can't be opened.
        """
        try:
            opened = open_beneath(self.root, path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            if not make:
                raise
            opened = self._make_directories(path)
        try:
            yield opened
        finally:
            os.close(opened)

    def _make_directories(self, path: list[bytes]) -> int:
        for depth in range(1, len(path) + 1):
            with contextlib.suppress(FileExistsError):
                self._make_directory(path[:depth])
        return open_beneath(self.root, path, os.O_RDONLY | os.O_DIRECTORY)

    def _make_directory(self, path: list[bytes]) -> None:
        with self.directory(path[:-1]) as parent:
            os.mkdir(path[-1], _NEW_DIRECTORY, dir_fd=parent)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            made = os.open(path[-1], flags, dir_fd=parent)
            try:
                os.fchmod(made, _NEW_DIRECTORY)  # whatever this process's umask is
                self.give(made)
            finally:
                os.close(made)

    def stat(self, path: list[bytes]) -> FileInfo:
        """Describes a file; a link is not followed.

        Raises:
            FileNotFound: There is none.
        """
        with self.failures(path):
            if not path:
                return describe(path, os.fstat(self.root))
            with self.directory(path[:-1]) as parent:
                return self.stat_in(parent, path)

    def stat_in(self, parent: int, path: list[bytes]) -> FileInfo:
        """Describes a file in a directory that is open.

        Raises:
            OSError: There is none.
        """
        found = os.stat(path[-1], dir_fd=parent, follow_symlinks=False)
        target = b""
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(path[-1], dir_fd=parent)
        return describe(path, found, target)

    def make_directory(self, path: list[bytes], *, parents: bool) -> FileInfo:
        """Makes a directory.

        Args:
            path: Which.
            parents: Whether its parents are made too, and one that is there is no error.

        Raises:
            FileExists: Something of that name is there.
            FileNotFound: Its parent is not there.
        """
        with self.failures(path):
            if parents:
                with self.directory(path, make=True):
                    pass
            else:
                self._make_directory(path)
        return self.stat(path)

    def move(self, source: list[bytes], target: list[bytes], *, overwrite: bool) -> FileInfo:
        """Renames a file or directory.

        Args:
            source: Its path.
            target: Its new path.
            overwrite: Whether a file that is there is replaced.

        Raises:
            FileNotFound: There is none, or no directory to move it to.
            FileExists: The target is there.
        """
        with (
            self.failures(source),
            self.directory(source[:-1]) as source_parent,
        ):
            os.stat(source[-1], dir_fd=source_parent, follow_symlinks=False)
            with self.failures(target), self.directory(target[:-1]) as target_parent:
                if target[: len(source)] == source and len(target) > len(source):
                    path = show(b"/".join(source))
                    raise wrong_kind(path, "directory", "can't be moved into itself")
                rename(source_parent, source[-1], target_parent, target[-1], replace=overwrite)
                return self.stat_in(target_parent, target)

    def delete(self, path: list[bytes], *, recursive: bool) -> None:
        """Deletes a file, a link, or a directory.

        Args:
            path: Which.
            recursive: Whether a directory goes with all that is in it.

        Raises:
            FileNotFound: There is none.
            FileWrongKind: It is a directory that is not empty, and `recursive` is not set.
        """
        with self.failures(path), self.directory(path[:-1]) as parent:
            found = os.stat(path[-1], dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(path[-1], dir_fd=parent)
            elif recursive:
                remove_tree(parent, path[-1])
            else:
                os.rmdir(path[-1], dir_fd=parent)

    def open_file(self, path: list[bytes]) -> int:
        """Opens a regular file to read it. Nothing else is opened: a pipe would wait, a device act.

        Returns:
            A descriptor, which is the caller's to close.

        Raises:
            FileNotFound: There is none.
            FileWrongKind: It is something else.
        """
        with self.failures(path):
            place = open_beneath(self.root, path, os.O_PATH)
            try:
                kind = kind_of(os.fstat(place).st_mode)
                if kind != "regular":
                    shown = show(b"/".join(path))
                    raise wrong_kind(shown, kind, "is no regular file")
                return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                os.close(place)

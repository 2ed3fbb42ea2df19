"""The content of files on its way in and out. All of it blocks: see `sessions`."""

from __future__ import annotations

import contextlib
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from codecontext._sum import Sum
from codecontext_service.domain.errors import (
    FieldViolation,
    FileChecksumMismatch,
    FileExists,
    InvalidArgument,
    QuotaExceeded,
)
from codecontext_service.workers.file_names import show

from .beneath import rename
from .failures import kind_of, wrong_kind
from .workspace import FileInfo, Workspace, describe

_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class UploadRequest:
    """What an upload is to be."""

    path: list[bytes]
    overwrite: bool = False
    parents: bool = False
    """Whether missing parent directories are made."""
    mode: int = 0o644
    offset: int = 0
    """How many bytes of the file that is there are kept, in front of what comes."""
    size_bytes: int | None = None
    """How many bytes will come, if known."""
    sha256: bytes = b""
    """The SHA-256 of the whole file, if known."""


class Upload:
    """A file that is being written: it has no name until it is whole."""

    def __init__(
        self,
        workspace: Workspace,
        request: UploadRequest,
        *,
        done: contextlib.ExitStack,
        sums: ThreadPoolExecutor,
    ) -> None:
        """Begins.

        Args:
            workspace: Where.
            request: What it is to be.
            done: Closes what is opened here.
            sums: Where its sum is made.

        Raises:
            FileExists: It is there, and is not to be replaced.
            FileNotFound: Its directory is not there.
            FileWrongKind: A directory is there.
            InvalidArgument: The offset is past the end of what is there.
            QuotaExceeded: It is announced to be larger than what is left.
        """
        self._workspace = workspace
        self._request = request
        self._shown = show(b"/".join(request.path))
        self._sum = Sum(sums)
        self._received = 0
        self._sent: int | None = None
        with workspace.failures(request.path):
            self._parent = done.enter_context(
                workspace.directory(request.path[:-1], make=request.parents)
            )
            self._check_target()
            self._check_room()
            self._file = self._open(done)
            if request.offset:
                self._keep_begin()

    def _check_target(self) -> None:
        try:
            there = os.stat(self._request.path[-1], dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not self._request.overwrite:
            raise FileExists(f"{self._shown[:200]!r} is there already", path=self._shown[:200])
        if (kind := kind_of(there.st_mode)) == "directory":
            raise wrong_kind(self._shown, kind, "is a directory")

    def _check_room(self) -> None:
        found = os.fstatvfs(self._workspace.root)
        left = found.f_bavail * found.f_frsize
        if self._request.offset + (self._request.size_bytes or 0) > left:
            raise QuotaExceeded(
                f"{left} bytes are left in the workspace; delete something",
                quota="workspace_bytes",
                limit=found.f_blocks * found.f_frsize,
                subject=self._workspace.sandbox_id,
            )

    def _open(self, done: contextlib.ExitStack) -> int:
        # Without a name nothing is left of it, however this process ends.
        file = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._parent)
        done.callback(os.close, file)
        return file

    def _keep_begin(self) -> None:
        source = self._workspace.open_file(self._request.path)
        try:
            size = os.fstat(source).st_size
            if self._request.offset > size:
                text = f"is past the end of the file, which has {size} bytes"
                raise InvalidArgument(FieldViolation("header.offset", text))
            left = self._request.offset
            while left and (block := os.read(source, min(left, _COPY_BYTES))):
                self._write(block)
                left -= len(block)
        finally:
            os.close(source)

    def _write(self, data: bytes | memoryview) -> None:
        self._sum.update(data)
        with memoryview(data) as view:
            written = 0
            while written < len(view):
                written += os.write(self._file, view[written:])

    def write(self, data: bytes | memoryview) -> None:
        """Takes the next piece.

        Args:
            data: It; it must stay as it is until the next call.

        Raises:
            FileChecksumMismatch: More comes than was announced.
            QuotaExceeded: The workspace is full.
        """
        self._received += len(data)
        announced = self._request.size_bytes
        if announced is not None and self._received > announced:
            raise self._mismatch(f"more than the {announced} bytes came that were announced")
        with self._workspace.failures(self._request.path):
            self._write(data)

    def end(self, total_bytes: int) -> None:
        """Hears how many bytes of content were sent."""
        self._sent = total_bytes

    def finish(self) -> FileInfo:
        """Gives the file its name, once all has come.

        Raises:
            FileChecksumMismatch: What came is not what was announced, or nothing says that it is all: the
                end of a stream may be that of its connection.
            FileExists: Something of that name has come meanwhile.
            FileWrongKind: A directory has come meanwhile.
        """
        request, digest = self._request, self._sum.digest()
        for announced in (request.size_bytes, self._sent):
            if announced is not None and announced != self._received:
                raise self._mismatch(f"{self._received} bytes came, and {announced} were announced")
        if request.size_bytes is None and self._sent is None and not request.sha256:
            raise self._mismatch(
                "nothing says that all has come; give size_bytes or sha256, or total_bytes at the end"
            )
        if request.sha256 and request.sha256 != digest:
            raise self._mismatch("the content has another SHA-256 than was announced")
        with self._workspace.failures(request.path):
            self._workspace.give(self._file)
            os.fchmod(self._file, request.mode)
            self._name()
            found = os.fstat(self._file)
        return replace(describe(request.path, found), sha256=digest)

    def _name(self) -> None:
        name = self._request.path[-1]
        unnamed = f"/proc/self/fd/{self._file}"
        if not self._request.overwrite:
            os.link(unnamed, name, dst_dir_fd=self._parent)
            return
        # A link never replaces a file, a rename does, at one moment.
        passing = f".{secrets.token_hex(16)}".encode()
        os.link(unnamed, passing, dst_dir_fd=self._parent)
        try:
            rename(self._parent, passing, self._parent, name, replace=True)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(passing, dir_fd=self._parent)
            raise

    def _mismatch(self, message: str) -> FileChecksumMismatch:
        return FileChecksumMismatch(f"{message}: nothing is stored", path=self._shown[:200])


class Download:
    """A file that is being read."""

    def __init__(
        self,
        workspace: Workspace,
        path: list[bytes],
        offset: int,
        length: int,
        *,
        done: contextlib.ExitStack,
        sums: ThreadPoolExecutor,
    ) -> None:
        """Opens the file.

        Args:
            workspace: Where.
            path: Which.
            offset: How many bytes to leave out at the begin.
            length: How many to read at most; 0 means all.
            done: Closes what is opened here.
            sums: Where its sum is made.

        Raises:
            FileNotFound: There is none.
            FileWrongKind: It is no regular file.
            InvalidArgument: The offset is past its end.
        """
        self._file = workspace.open_file(path)
        done.callback(os.close, self._file)
        found = os.fstat(self._file)
        if offset > found.st_size:
            text = f"is past the end of the file, which has {found.st_size} bytes"
            raise InvalidArgument(FieldViolation("offset", text))
        self.info = describe(path, found)
        """The file as it was opened."""
        self._at = offset
        # What the code appends meanwhile is not waited for: that might never end.
        self.left = min(length or found.st_size, found.st_size - offset)
        """How many bytes are still to be read."""
        self._sum = Sum(sums)

    def read(self, buffer: memoryview) -> memoryview:
        """Reads the next bytes into the begin of a buffer, and returns that part; nothing at the end.

        Args:
            buffer: Another one than that of the call before.
        """
        wanted = buffer[: self.left]
        data = wanted[: os.preadv(self._file, [wanted], self._at)]
        self._at += len(data)
        self.left -= len(data)
        self._sum.update(data)
        return data

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of what was read by now."""
        return self._sum.digest()

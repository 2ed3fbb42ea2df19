"""The content of uploads and downloads: cut into messages on the way out, checked on the way in."""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO, cast

from codecontext import _wire
from codecontext._calls import Call
from codecontext._channel import TRANSFER_DEADLINE_S
from codecontext._content import Content, DownloadMessage, FileStub, Packed, pack
from codecontext._sum import Sum
from codecontext._wire import HasId, Seconds
from codecontext.errors import FileChecksumMismatchError
from codecontext.files import FileInfo
from codecontext.v1 import file_service_pb2 as pb

CHUNK_BYTES = 1 << 20
Source = str | Path | bytes | BinaryIO | Iterable[bytes]
"""What to upload: the path of a local file, an open binary file, the content, or its pieces."""

Progress = Callable[[int], object]
"""Is called with how many bytes of content have gone or come by now."""


def upload(deadline: Seconds | None) -> Call[FileInfo]:
    """Describes an upload, whose requests are made by the functions below."""
    return Call(
        FileStub,
        lambda stub: stub.UploadFile,
        None,
        lambda response: FileInfo.from_proto(response.file),
        TRANSFER_DEADLINE_S if deadline is None else deadline,
    )


def header(
    owner: str | HasId,
    path: str,
    *,
    overwrite: bool,
    parents: bool,
    mode: int | None,
    offset: int = 0,
    size_bytes: int | None = None,
    sha256: bytes = b"",
) -> pb.UploadFileRequest:
    """Returns the first message of an upload."""
    return pb.UploadFileRequest(
        header=pb.UploadFileHeader(
            sandbox_id=_wire.sandbox_id_of(owner),
            path=_wire.text(path),
            overwrite=overwrite,
            parents=parents,
            mode=mode or 0,
            offset=offset,
            size_bytes=size_bytes,
            sha256=sha256,
        )
    )


def content(
    pieces: Iterable[Content], *, sized: bool, on_progress: Progress | None = None
) -> Iterator[pb.UploadFileRequest | Packed]:
    """Yields the messages that follow the first one: at most 1 MiB of content in each.

    Args:
        pieces: The content; each is used before the next one is asked for.
        sized: Whether the first message has its size; else the last one tells it.
        on_progress: Hears how much has gone.
    """
    sent = 0
    for piece in pieces:
        with memoryview(piece).cast("B") as view:
            for begin in range(0, len(view), CHUNK_BYTES):
                part = view[begin : begin + CHUNK_BYTES]
                yield pack(part)
                sent += len(part)
                if on_progress is not None:
                    on_progress(sent)
    if not sized:
        yield pb.UploadFileRequest(total_bytes=sent)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yields the content of a file that the caller has opened."""
    while block := file.read(CHUNK_BYTES):
        yield block


def _local_blocks(file: FileIO) -> Iterator[memoryview]:
    """Yields the content of a local file, each piece in the place of the one before."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    while count := file.readinto(buffer):
        yield buffer[:count]


def as_bytes(data: str | bytes) -> bytes:
    """Returns what to write: text as UTF-8, lone surrogates replaced."""
    return _wire.text(data).encode() if isinstance(data, str) else bytes(data)


def open_source(source: Source) -> tuple[FileIO | None, Iterable[Content], int | None]:
    """Returns the file to close afterwards, the pieces, and how many bytes they are, if known."""
    if isinstance(source, str | Path):
        file = Path(source).open("rb", buffering=0)  # noqa: SIM115  # closed after the upload
        return file, _local_blocks(file), os.fstat(file.fileno()).st_size
    if isinstance(source, bytes | bytearray):
        return None, [source], len(source)
    if hasattr(source, "read"):
        return None, _blocks(cast("BinaryIO", source)), None
    return None, source, None


@contextlib.contextmanager
def writer(target: str | Path | BinaryIO) -> Iterator[Callable[[Content], object]]:
    """Yields what writes a download; a path has it only once all has gone well."""
    if not isinstance(target, str | Path):
        yield lambda content: target.write(
            bytes(content)
        )  # a file of any class may know bytes alone
        return
    final = Path(target)
    part = final.with_name(f".{final.name}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            yield file.write
        part.replace(final)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class Download:
    """Takes the messages of a download, and checks their sum."""

    def __init__(self, path: str, on_progress: Progress | None = None) -> None:
        self._path = path
        self._on_progress = on_progress
        self._received = 0
        self._sum = Sum()
        self._checked = False
        self.file: FileInfo | None = None

    def add(self, message: DownloadMessage) -> Content:
        """Takes the next message; returns its content.

        Raises:
            FileChecksumMismatchError: what arrived is not what was sent.
        """
        if isinstance(message, memoryview):
            return self._take(message)
        match message.WhichOneof("message"):
            case "file":
                self.file = FileInfo.from_proto(message.file)
            case "data":
                return self._take(message.data)
            case "sha256":
                self._checked = True
                if message.sha256 != self._sum.digest():
                    raise self._mismatch("what arrived is not what was sent")
            case _:
                pass
        return b""

    def _take(self, content: Content) -> Content:
        self._sum.update(content)
        self._received += len(content)
        if self._on_progress is not None:
            self._on_progress(self._received)
        return content

    def finish(self) -> FileInfo:
        """Returns the file once its stream has ended.

        Raises:
            FileChecksumMismatchError: the stream ended too early.
        """
        if self.file is None or not self._checked:
            raise self._mismatch("the download ended before its end")
        return self.file

    def _mismatch(self, message: str) -> FileChecksumMismatchError:
        return FileChecksumMismatchError(message, metadata={"path": self._path})

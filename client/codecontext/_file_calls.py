"""The calls on files that take one message each way, each described once for both clients."""

from codecontext import _wire
from codecontext._calls import Call, Pages, Stream, call, pages, stream
from codecontext._channel import TRANSFER_DEADLINE_S
from codecontext._content import DownloadMessage
from codecontext._content import FileStub as Stub
from codecontext._wire import HasId, Seconds
from codecontext.files import FileInfo
from codecontext.v1 import file_service_pb2 as pb


def download(
    owner: str | HasId,
    path: str,
    *,
    offset: int = 0,
    length: int = 0,
    deadline: Seconds | None = None,
) -> Stream[DownloadMessage]:
    """Describes a download: info first, content after it, the sum last."""
    request = pb.DownloadFileRequest(
        sandbox_id=_wire.sandbox_id_of(owner), path=_wire.text(path), offset=offset, length=length
    )
    return stream(
        Stub,
        lambda stub: stub.DownloadFile,
        request,
        lambda response: response,
        TRANSFER_DEADLINE_S if deadline is None else deadline,
    )


def list_(
    sandbox_or_context: str | HasId,
    path: str = "",
    *,
    recursive: bool = False,
    page_size: int = 0,
    deadline: Seconds | None = None,
) -> Pages[FileInfo]:
    """Lists a directory in the order of the names.

    Args:
        sandbox_or_context: The sandbox, its id, or a context in it.
        path: The directory; the workspace itself by default.
        recursive: Whether to list all below, not only the directory itself.
        page_size: How many to ask for at a time; 0 leaves it to the server.
        deadline: Of each page's call, in seconds or as a timedelta; the client's by default.

    Returns:
        An iterator over all pages.

    Raises:
        RemoteFileNotFoundError: there is no such directory (raised when iterated).
        FileWrongKindError: it is no directory, or a link that leads out (raised when iterated).
        SandboxNotFoundError: there is no such sandbox (raised when iterated).
    """
    request = pb.ListFilesRequest(
        sandbox_id=_wire.sandbox_id_of(sandbox_or_context),
        path=_wire.text(path),
        page_size=page_size,
        recursive=recursive,
    )
    return pages(
        Stub,
        lambda stub: stub.ListFiles,
        request,
        lambda response: map(FileInfo.from_proto, response.files),
        deadline,
    )


def stat(
    sandbox_or_context: str | HasId, path: str, *, deadline: Seconds | None = None
) -> Call[FileInfo]:
    """Describes one file or directory; a link is described, not followed.

    Args:
        sandbox_or_context: The sandbox, its id, or a context in it.
        path: The path in its workspace.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        The file.

    Raises:
        RemoteFileNotFoundError: there is no such file.
        SandboxNotFoundError: there is no such sandbox.
    """
    return call(
        Stub,
        lambda stub: stub.StatFile,
        pb.StatFileRequest(
            sandbox_id=_wire.sandbox_id_of(sandbox_or_context), path=_wire.text(path)
        ),
        lambda response: FileInfo.from_proto(response.file),
        deadline,
    )


def make_directory(
    sandbox_or_context: str | HasId,
    path: str,
    *,
    parents: bool = False,
    deadline: Seconds | None = None,
) -> Call[FileInfo]:
    """Makes a directory.

    Args:
        sandbox_or_context: The sandbox, its id, or a context in it.
        path: The path in its workspace.
        parents: Whether missing parents are made too, and one that is there is no error.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        The directory.

    Raises:
        RemoteFileExistsError: something of that name is there.
        RemoteFileNotFoundError: its parent is not there.
        SandboxNotFoundError: there is no such sandbox.
        QuotaExceededError: the workspace is full.
    """
    request = pb.MakeDirectoryRequest(
        sandbox_id=_wire.sandbox_id_of(sandbox_or_context), path=_wire.text(path), parents=parents
    )
    return call(
        Stub,
        lambda stub: stub.MakeDirectory,
        request,
        lambda response: FileInfo.from_proto(response.file),
        deadline,
    )


def move(
    sandbox_or_context: str | HasId,
    path: str,
    target_path: str,
    *,
    overwrite: bool = False,
    deadline: Seconds | None = None,
) -> Call[FileInfo]:
    """Renames a file or directory.

    Args:
        sandbox_or_context: The sandbox, its id, or a context in it.
        path: The path as it is.
        target_path: The path as it shall be.
        overwrite: Whether a file that is there is replaced.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        The file under its new name.

    Raises:
        RemoteFileNotFoundError: there is no such file.
        RemoteFileExistsError: the target is there.
        SandboxNotFoundError: there is no such sandbox.
    """
    request = pb.MoveFileRequest(
        sandbox_id=_wire.sandbox_id_of(sandbox_or_context),
        source_path=_wire.text(path),
        target_path=_wire.text(target_path),
        overwrite=overwrite,
    )
    return call(
        Stub,
        lambda stub: stub.MoveFile,
        request,
        lambda response: FileInfo.from_proto(response.file),
        deadline,
    )


def delete(
    sandbox_or_context: str | HasId,
    path: str,
    *,
    recursive: bool = False,
    deadline: Seconds | None = None,
) -> Call[None]:
    """Deletes a file, a link, or a directory.

    Args:
        sandbox_or_context: The sandbox, its id, or a context in it.
        path: The path in its workspace.
        recursive: Whether a directory goes with all that is in it.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Raises:
        RemoteFileNotFoundError: there is no such file.
        FileWrongKindError: it is a directory that is not empty, and `recursive` is unset.
        SandboxNotFoundError: there is no such sandbox.
    """
    request = pb.DeleteFileRequest(
        sandbox_id=_wire.sandbox_id_of(sandbox_or_context),
        path=_wire.text(path),
        recursive=recursive,
    )
    return call(Stub, lambda stub: stub.DeleteFile, request, lambda response: None, deadline)

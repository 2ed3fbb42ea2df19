"""The servicer of `FileService`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc

from codecontext._content import (
    SERVICE,
    Packed,
    UploadMessage,
    deserialize_upload,
    pack,
    serialize,
)
from codecontext.v1 import file_service_pb2 as pb
from codecontext.v1.file_service_pb2_grpc import (
    FileServiceServicer,
    add_FileServiceServicer_to_server,
)
from codecontext_service.contexts.sandbox_manager import SandboxManager
from codecontext_service.domain.errors import FieldViolation, InvalidArgument
from codecontext_service.files import names
from codecontext_service.files.listing import list_page
from codecontext_service.files.sessions import Session
from codecontext_service.files.transfers import Download, Upload, UploadRequest
from codecontext_service.files.workspace import FileInfo
from codecontext_service.workers.file_names import show

from . import paging
from .conversion import timestamp_from_ns
from .errors import stream, unary
from .unimplemented import refuse_missing
from .validation import Checks

_CHUNK = 1 << 20
"""How many bytes a message of a download has: larger ones are no faster."""
_MAX_DATA = 3 << 20
"""How many bytes a message of an upload may have."""
_THREADS = 4
"""How many operations on files are at work at a time."""
_SHA256_BYTES = 32
_DEFAULT_MODE = 0o644

_ResultT = TypeVar("_ResultT")
_Call = grpc.aio.ServicerContext[Any, Any]


def add_file_service(servicer: FileServicer, server: grpc.aio.Server) -> None:
    """Adds the service to a server, whose transfers send packed content and receive content as it is."""
    transfers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "UploadFile": grpc.stream_unary_rpc_method_handler(
            servicer.UploadFile,
            request_deserializer=deserialize_upload,
            response_serializer=pb.UploadFileResponse.SerializeToString,
        ),
        "DownloadFile": grpc.unary_stream_rpc_method_handler(
            servicer.DownloadFile,
            request_deserializer=pb.DownloadFileRequest.FromString,
            response_serializer=serialize,
        ),
    }
    # In the place of the generated ones: of the handlers that know a method the first one has it, and where
    # gRPC has registered ones for asyncio (not in 1.76), these before all others.
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, transfers),))
    add_FileServiceServicer_to_server(servicer, server)
    server.add_registered_method_handlers(SERVICE, transfers)


@refuse_missing
class FileServicer(FileServiceServicer):
    """Turns calls into operations on workspaces; see the proto for what each call promises."""

    def __init__(self, sandboxes: SandboxManager) -> None:
        """Makes a servicer.

        Args:
            sandboxes: Whose files they are.
        """
        self._sandboxes = sandboxes
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")
        self._sums = ThreadPoolExecutor(_THREADS, thread_name_prefix="sums")

    def _session(self, sandbox_id: str) -> contextlib.AbstractAsyncContextManager[Session]:
        sandbox = self._sandboxes.get_usable(sandbox_id)
        return sandbox.files.open(sandbox.open_workspace(), self._threads)

    # Content

    @unary
    async def UploadFile(  # noqa: D102
        self, request_iterator: AsyncIterator[UploadMessage], context: _Call
    ) -> pb.UploadFileResponse:
        messages = aiter(request_iterator)
        first = await anext(messages, None)
        if not isinstance(first, pb.UploadFileRequest) or not first.HasField("header"):
            raise InvalidArgument(
                FieldViolation("header", "is missing: the first message names the file")
            )
        request = _upload_request(first.header)
        async with self._session(first.header.sandbox_id) as session:
            upload = await session.do(
                lambda: Upload(session.workspace, request, done=session.resources, sums=self._sums)
            )
            await _receive(session, upload, messages)
            return pb.UploadFileResponse(file=_info(await session.do(upload.finish)))

    @stream
    async def DownloadFile(  # type: ignore[override]  # noqa: D102  # see `add_file_service`
        self, request: pb.DownloadFileRequest, context: _Call
    ) -> AsyncIterator[pb.DownloadFileResponse | Packed]:
        checks = Checks()
        offset = checks.not_negative("offset", request.offset)
        length = checks.not_negative("length", request.length)
        checks.finish()
        path = names.parse(request.path)
        async with self._session(request.sandbox_id) as session:
            download = await session.do(
                lambda: Download(
                    session.workspace,
                    path,
                    offset,
                    length,
                    done=session.resources,
                    sums=self._sums,
                )
            )
            yield pb.DownloadFileResponse(file=_info(download.info))
            # Two in turns: of what is in one the sum may still be made while the other is filled.
            buffers = itertools.cycle(
                [memoryview(bytearray(min(_CHUNK, download.left))) for _ in range(2)]
            )

            def read() -> Packed | None:
                data = download.read(next(buffers))
                return pack(data) if data else None

            # The next piece is read while this one is sent.
            reading = _begin(session.do(read))
            while (packed := await reading) is not None:
                reading = _begin(session.do(read))
                yield packed
            yield pb.DownloadFileResponse(sha256=await session.do(lambda: download.sha256))

    # Names

    @unary
    async def ListFiles(  # noqa: D102
        self, request: pb.ListFilesRequest, context: _Call
    ) -> pb.ListFilesResponse:
        checks = Checks()
        limit = paging.page_size(checks, request.page_size)
        after = paging.read_path_token(checks, request, request.page_token)
        checks.finish()
        path = names.parse(request.path, allow_root=True)
        behind = names.parse(after, "page_token", allow_root=True)
        async with self._session(request.sandbox_id) as session:
            files, last = await session.do(
                lambda: list_page(
                    session.workspace,
                    path,
                    recursive=request.recursive,
                    after=behind,
                    limit=limit,
                )
            )
        following = None if last is None else show(b"/".join(last))
        return pb.ListFilesResponse(
            files=map(_info, files), next_page_token=paging.make_token(request, following)
        )

    @unary
    async def StatFile(  # noqa: D102
        self, request: pb.StatFileRequest, context: _Call
    ) -> pb.StatFileResponse:
        path = names.parse(request.path, allow_root=True)
        async with self._session(request.sandbox_id) as session:
            found = await session.do(lambda: session.workspace.stat(path))
        return pb.StatFileResponse(file=_info(found))

    @unary
    async def MakeDirectory(  # noqa: D102
        self, request: pb.MakeDirectoryRequest, context: _Call
    ) -> pb.MakeDirectoryResponse:
        path = names.parse(request.path)
        async with self._session(request.sandbox_id) as session:
            made = await session.do(
                lambda: session.workspace.make_directory(path, parents=request.parents)
            )
        return pb.MakeDirectoryResponse(file=_info(made))

    @unary
    async def MoveFile(  # noqa: D102
        self, request: pb.MoveFileRequest, context: _Call
    ) -> pb.MoveFileResponse:
        source = names.parse(request.source_path, "source_path")
        target = names.parse(request.target_path, "target_path")
        async with self._session(request.sandbox_id) as session:
            moved = await session.do(
                lambda: session.workspace.move(source, target, overwrite=request.overwrite)
            )
        return pb.MoveFileResponse(file=_info(moved))

    @unary
    async def DeleteFile(  # noqa: D102
        self, request: pb.DeleteFileRequest, context: _Call
    ) -> pb.DeleteFileResponse:
        path = names.parse(request.path)
        async with self._session(request.sandbox_id) as session:
            await session.do(lambda: session.workspace.delete(path, recursive=request.recursive))
        return pb.DeleteFileResponse()


def _upload_request(header: pb.UploadFileHeader) -> UploadRequest:
    checks = Checks()
    size_bytes = None
    if header.HasField("size_bytes"):
        size_bytes = checks.not_negative("header.size_bytes", header.size_bytes)
    offset = checks.not_negative("header.offset", header.offset)
    if header.mode > 0o777:
        checks.wrong("header.mode", "has more than permission bits: give 0 to 0o777")
    if header.sha256 and len(header.sha256) != _SHA256_BYTES:
        checks.wrong("header.sha256", f"has not {_SHA256_BYTES} bytes")
    if offset and not header.overwrite:
        checks.wrong("header.offset", "keeps a part of what is there: set overwrite too")
    checks.finish()
    return UploadRequest(
        names.parse(header.path, "header.path"),
        header.overwrite,
        header.parents,
        header.mode or _DEFAULT_MODE,
        offset,
        size_bytes,
        header.sha256,
    )


async def _receive(
    session: Session, upload: Upload, messages: AsyncIterator[UploadMessage]
) -> None:
    """Writes each piece while the next one comes."""
    writing: asyncio.Future[None] | None = None
    ended = False
    while (message := await _next(session, messages)) is not None:
        if ended:
            raise InvalidArgument(FieldViolation("total_bytes", "is not in the last message"))
        if not isinstance(message, memoryview) and message.HasField("total_bytes"):
            upload.end(message.total_bytes)
            ended = True
            continue
        data = _content(message)
        if len(data) > _MAX_DATA:
            text = f"has {len(data)} bytes; at most {_MAX_DATA} are allowed"
            raise InvalidArgument(FieldViolation("data", text))
        if writing is not None:
            await writing
        writing = _begin(session.do(functools.partial(upload.write, data)))
    if writing is not None:
        await writing


def _content(message: UploadMessage) -> bytes | memoryview:
    if isinstance(message, memoryview):
        return message
    if message.HasField("data"):  # beside fields that are not known here
        return message.data
    raise InvalidArgument(FieldViolation("data", "is missing: one header, then content"))


def _begin(work: Coroutine[Any, Any, _ResultT]) -> asyncio.Future[_ResultT]:
    """Begins something whose end may not be waited for, if the call fails before."""
    begun = asyncio.ensure_future(work)
    begun.add_done_callback(lambda done: done.cancelled() or done.exception())
    return begun


async def _next(session: Session, messages: AsyncIterator[UploadMessage]) -> UploadMessage | None:
    """Waits for the next message, or for the end of the sandbox."""
    coming = asyncio.ensure_future(anext(messages, None))
    try:
        either: list[asyncio.Future[Any]] = [coming, session.ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        session.check()
        return await coming
    finally:
        coming.cancel()


def _info(found: FileInfo) -> pb.FileInfo:
    return pb.FileInfo(
        path=found.path,
        kind=pb.FileKind.Value(f"FILE_KIND_{found.kind.upper()}"),
        size_bytes=found.size_bytes,
        modify_time=timestamp_from_ns(found.modify_time_ns),
        mode=found.mode,
        link_target=found.link_target,
        sha256=found.sha256,
    )

"""`client.files` of the asynchronous client; local files are read and written in threads."""

import asyncio
import hashlib
from collections.abc import AsyncIterable, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from codecontext import _context_calls, _file_calls, _transfer
from codecontext._aio import AsyncEventStream, AsyncTransport, bind, bind_pages
from codecontext._calls import Stream
from codecontext._content import DownloadMessage, Packed
from codecontext._wire import HasId, Seconds
from codecontext.files import FileInfo
from codecontext.results import Fetch
from codecontext.v1 import file_service_pb2 as pb


class AsyncFiles:
    """Files in the workspace of a sandbox, by paths inside it."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def fetcher(self, context_id: Callable[[], str]) -> Fetch:
        """Returns what downloads the files that results of a context name.

        Args:
            context_id: Returns the context's id, when it is asked for.
        """

        async def fetch(path: str, target: str | Path | BinaryIO | None) -> bytes | FileInfo:
            owner = await self._transport.call(_context_calls.get_code_context(context_id()))
            if target is None:
                return await self.read(owner, path)
            return await self.download(owner, path, target)

        return fetch

    list = bind_pages(_file_calls.list_)
    stat = bind(_file_calls.stat)
    make_directory = bind(_file_calls.make_directory)
    move = bind(_file_calls.move)
    delete = bind(_file_calls.delete)

    async def upload(
        self,
        sandbox_or_context: str | HasId,
        path: str,
        source: _transfer.Source | AsyncIterable[bytes],
        *,
        overwrite: bool = True,
        parents: bool = False,
        mode: int | None = None,
        offset: int = 0,
        on_progress: _transfer.Progress | None = None,
        deadline: Seconds | None = None,
    ) -> FileInfo:
        """Writes a file in pieces; it appears whole, once all has arrived.

        Args:
            sandbox_or_context: The sandbox, its id, or a context in it.
            path: The path in its workspace.
            source: The path of a local file, an open binary file (which stays open), the content,
                or its pieces, which may come from an asynchronous iterator.
            overwrite: Whether a file that is there is replaced.
            parents: Whether missing parent directories are made.
            mode: Its permission bits; 0o644 by default.
            offset: How many bytes of the file that is there are kept, in front of the source's: so
                a large file can be uploaded in parts.
            on_progress: Is called with the number of bytes that have gone, after each piece; in
                another thread.
            deadline: Of this call, in seconds or as a timedelta; 10 minutes by default.

        Returns:
            The file, with its SHA-256.

        Raises:
            OSError: the local file can't be read; nothing is stored.
            CodeContextError: as with `Files.upload`.
        """
        if isinstance(source, AsyncIterable):
            source = _from_loop(source, asyncio.get_running_loop())
        file, pieces, size_bytes = await asyncio.to_thread(_transfer.open_source, source)

        def requests() -> Iterator[pb.UploadFileRequest | Packed]:
            yield _transfer.header(
                sandbox_or_context,
                path,
                overwrite=overwrite,
                parents=parents,
                mode=mode,
                offset=offset,
                size_bytes=size_bytes,
            )
            yield from _transfer.content(
                pieces, sized=size_bytes is not None, on_progress=on_progress
            )

        try:
            return await self._transport.upload(_transfer.upload(deadline), requests())
        finally:
            if file is not None:
                file.close()

    async def write(
        self,
        sandbox_or_context: str | HasId,
        path: str,
        data: str | bytes,
        *,
        overwrite: bool = True,
        parents: bool = False,
        mode: int | None = None,
        deadline: Seconds | None = None,
    ) -> FileInfo:
        """Writes a file from memory; text is written as UTF-8.

        Args:
            sandbox_or_context: The sandbox, its id, or a context in it.
            path: The path in its workspace.
            data: The content.
            overwrite: Whether a file that is there is replaced.
            parents: Whether missing parent directories are made.
            mode: Its permission bits; 0o644 by default.
            deadline: Of this call, in seconds or as a timedelta; 10 minutes by default.

        Returns:
            The file, with its SHA-256.

        Raises:
            CodeContextError: as with `upload`.
        """
        whole = _transfer.as_bytes(data)

        def requests() -> Iterator[pb.UploadFileRequest | Packed]:
            yield _transfer.header(
                sandbox_or_context,
                path,
                overwrite=overwrite,
                parents=parents,
                mode=mode,
                size_bytes=len(whole),
                sha256=hashlib.sha256(whole).digest(),
            )
            yield from _transfer.content([whole], sized=True)

        return await self._transport.upload(_transfer.upload(deadline), requests())

    async def download(
        self,
        sandbox_or_context: str | HasId,
        path: str,
        target: str | Path | BinaryIO,
        *,
        offset: int = 0,
        length: int = 0,
        on_progress: _transfer.Progress | None = None,
        deadline: Seconds | None = None,
    ) -> FileInfo:
        """Reads a file in pieces into a local one.

        Args:
            sandbox_or_context: The sandbox, its id, or a context in it.
            path: The path in its workspace.
            target: The path of a local file, which appears (or is replaced) once all has arrived;
                or an open binary file, which stays open.
            offset: How many bytes to leave out at the begin.
            length: How many bytes to read at most; 0 means all.
            on_progress: Is called with the number of bytes that have come, after each piece.
            deadline: Of this call, in seconds or as a timedelta; 10 minutes by default.

        Returns:
            The file as it was opened.

        Raises:
            OSError: the local file can't be written.
            CodeContextError: as with `Files.download`.
        """
        download = _transfer.Download(path, on_progress)
        async with self._open(sandbox_or_context, path, offset, length, deadline) as messages:
            with _transfer.writer(target) as write:
                async for message in messages:
                    await asyncio.to_thread(lambda m=message: write(download.add(m)))  # type: ignore[misc]
                return download.finish()

    async def read(
        self,
        sandbox_or_context: str | HasId,
        path: str,
        *,
        offset: int = 0,
        length: int = 0,
        deadline: Seconds | None = None,
    ) -> bytes:
        """Reads a file into memory.

        Args:
            sandbox_or_context: The sandbox, its id, or a context in it.
            path: The path in its workspace.
            offset: How many bytes to leave out at the begin.
            length: How many bytes to read at most; 0 means all.
            deadline: Of this call, in seconds or as a timedelta; 10 minutes by default.

        Returns:
            Its content.

        Raises:
            CodeContextError: as with `download`.
        """
        download = _transfer.Download(path)
        async with self._open(sandbox_or_context, path, offset, length, deadline) as messages:
            content = b"".join([download.add(message) async for message in messages])
        download.finish()
        return content

    def _open(
        self,
        owner: str | HasId,
        path: str,
        offset: int,
        length: int,
        deadline: Seconds | None,
    ) -> AsyncEventStream[DownloadMessage]:
        stream = _file_calls.download(owner, path, offset=offset, length=length, deadline=deadline)

        async def describe() -> Stream[DownloadMessage]:
            return stream

        return AsyncEventStream(self._transport, describe)


def _from_loop(source: AsyncIterable[bytes], loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """Takes the pieces of an asynchronous iterator in its loop, from another thread."""
    iterator = aiter(source)

    async def step() -> bytes | None:
        return await anext(iterator, None)

    while (piece := asyncio.run_coroutine_threadsafe(step(), loop).result()) is not None:
        yield piece

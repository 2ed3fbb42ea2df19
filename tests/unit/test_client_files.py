"""Files go up and come down in pieces, whole or not at all."""
# ruff: noqa: N802  # servicers have the names of the protocol

import hashlib
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_service import Contexts, fail, serving

import codecontext
from codecontext import AsyncCodeContextClient, CodeContextClient
from codecontext.v1 import file_service_pb2 as pb
from codecontext.v1 import file_service_pb2_grpc

BIG = bytes(range(256)) * 9000  # 2.2 MiB


class Workspace(file_service_pb2_grpc.FileServiceServicer):
    """Keeps files in memory."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], bytes] = {}
        self.headers: list[Any] = []
        self.sizes: list[int] = []
        self.cut = False
        self.wrong_sum = False

    def UploadFile(self, request_iterator: Any, context: grpc.ServicerContext) -> Any:
        header = next(request_iterator).header
        self.headers.append(header)
        key = (header.sandbox_id, header.path)
        if key in self.files and not header.overwrite:
            fail(context, grpc.StatusCode.ALREADY_EXISTS, "FILE_EXISTS", path=header.path)
        messages = list(request_iterator)
        if not header.HasField("size_bytes"):
            last = messages.pop()
            assert last.HasField("total_bytes"), "the upload was cut"
            header.size_bytes = last.total_bytes
        pieces = [message.data for message in messages]
        self.sizes += [len(piece) for piece in pieces]
        content = b"".join(pieces)
        if header.size_bytes != len(content):
            fail(context, grpc.StatusCode.DATA_LOSS, "FILE_CHECKSUM_MISMATCH")
        self.files[key] = content
        digest = hashlib.sha256(content).digest()
        return pb.UploadFileResponse(
            file=pb.FileInfo(path=header.path, size_bytes=len(content), sha256=digest)
        )

    def DownloadFile(self, request: Any, context: grpc.ServicerContext) -> Any:
        content = self.files.get((request.sandbox_id, request.path))
        if content is None:
            fail(context, grpc.StatusCode.NOT_FOUND, "FILE_NOT_FOUND", path=request.path)
        content = content[request.offset :][: request.length or None]
        yield pb.DownloadFileResponse(file=pb.FileInfo(path=request.path))
        for begin in range(0, len(content), 1 << 20):
            yield pb.DownloadFileResponse(data=content[begin : begin + (1 << 20)])
        if not self.cut:
            digest = hashlib.sha256(content + b"!" * self.wrong_sum).digest()
            yield pb.DownloadFileResponse(sha256=digest)


@pytest.fixture
def workspace() -> Workspace:
    return Workspace()


@pytest.fixture
def target(workspace: Workspace) -> Iterator[str]:
    with serving(workspace, Contexts()) as target:
        yield target


@pytest.fixture
def client(target: str) -> Iterator[CodeContextClient]:
    with CodeContextClient(target) as client:
        yield client


def test_write_and_read(client: CodeContextClient, workspace: Workspace) -> None:
    """What is written is read again, in pieces of at most 1 MiB, with its sum announced."""
    info = client.files.write("s1", "a/b", BIG, parents=True, mode=0o600)
    assert info.size_bytes == len(BIG)
    assert client.files.read("s1", "a/b") == BIG
    assert client.files.read("s1", "a/b", offset=3, length=2) == BIG[3:5]
    assert max(workspace.sizes) <= 1 << 20
    (header,) = workspace.headers
    assert (header.parents, header.mode, header.size_bytes) == (True, 0o600, len(BIG))
    assert header.sha256 == hashlib.sha256(BIG).digest()


def test_the_workspace_of_a_context(client: CodeContextClient, workspace: Workspace) -> None:
    """A context stands for the sandbox that it lives in; text is written as UTF-8."""
    context = client.create_code_context()
    client.files.write(context, "t", "ä\ud800")
    assert workspace.files == {("s1", "t"): "ä\ufffd".encode()}


def test_upload_and_download(client: CodeContextClient, tmp_path: Path) -> None:
    """Local files, open files and pieces are uploaded; a download makes a local file."""
    local = tmp_path / "local"
    local.write_bytes(BIG)
    for source in (local, str(local), io.BytesIO(BIG), BIG, [BIG[:7], BIG[7:]]):
        client.files.write("s1", "f", "")
        client.files.upload("s1", "f", source)
        assert client.files.read("s1", "f") == BIG
    client.files.download("s1", "f", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == BIG
    kept = io.BytesIO()
    client.files.download("s1", "f", kept)
    assert kept.getvalue() == BIG


async def test_files_async(target: str, tmp_path: Path) -> None:
    """The asynchronous client does the same, with asynchronous pieces too."""

    async def pieces() -> AsyncIterator[bytes]:
        yield BIG[:7]
        yield BIG[7:]

    local = tmp_path / "local"
    local.write_bytes(BIG)
    async with AsyncCodeContextClient(target) as client:
        for source in (local, BIG, [BIG], pieces()):
            await client.files.write("s1", "f", "")
            await client.files.upload("s1", "f", source)
            assert await client.files.read("s1", "f") == BIG
        await client.files.download("s1", "f", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == BIG
        with pytest.raises(codecontext.RemoteFileExistsError):
            await client.files.upload("s1", "f", BIG * 10, overwrite=False)


def test_a_file_that_is_there(client: CodeContextClient) -> None:
    """A write that must not replace raises what the server says."""
    client.files.write("s1", "f", "1")
    with pytest.raises(codecontext.RemoteFileExistsError):
        client.files.write("s1", "f", BIG, overwrite=False)


def test_a_source_that_fails(
    client: CodeContextClient, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """An upload whose source raises stores nothing, and the exception propagates unlogged."""

    def pieces() -> Iterator[bytes]:
        yield b"begin"
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        client.files.upload("s1", "f", pieces())
    assert workspace.files == {}
    assert not caplog.records


async def test_a_source_that_fails_async(target: str, workspace: Workspace) -> None:
    """An asynchronous upload whose source raises stores nothing."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"begin"
        raise LookupError("no more")

    async with AsyncCodeContextClient(target) as client:
        with pytest.raises(LookupError, match="no more"):
            await client.files.upload("s1", "f", pieces())
    assert workspace.files == {}


def test_no_local_file(client: CodeContextClient, workspace: Workspace, tmp_path: Path) -> None:
    """A local file that is not there is the caller's own error, before anything is sent."""
    with pytest.raises(FileNotFoundError):
        client.files.upload("s1", "f", tmp_path / "missing")
    assert workspace.headers == []


@pytest.mark.parametrize("fault", ["cut", "wrong_sum"])
def test_a_download_that_is_not_whole(
    client: CodeContextClient, workspace: Workspace, tmp_path: Path, fault: str
) -> None:
    """A download that was cut or changed raises, and leaves the local file as it was."""
    client.files.write("s1", "f", "new")
    setattr(workspace, fault, True)
    copy = tmp_path / "copy"
    copy.write_text("old")
    with pytest.raises(codecontext.FileChecksumMismatchError):
        client.files.download("s1", "f", copy)
    with pytest.raises(codecontext.FileChecksumMismatchError):
        client.files.read("s1", "f")
    assert copy.read_text() == "old"
    assert list(tmp_path.iterdir()) == [copy]


def test_a_file_that_is_not_there(client: CodeContextClient, tmp_path: Path) -> None:
    """A missing file raises, and makes no local one."""
    with pytest.raises(codecontext.RemoteFileNotFoundError):
        client.files.download("s1", "f", tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_what_the_server_does_not_offer(client: CodeContextClient) -> None:
    """A call that the server lacks is an UnimplementedError."""
    with pytest.raises(codecontext.UnimplementedError):
        client.files.stat("s1", "f")

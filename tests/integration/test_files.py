"""Files in and out of a workspace, beside code that does what it likes with them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from support.proxy import CuttableProxy
from support.runs import LiveRun, until
from support.sandboxes import read, write
from support.servers import MODES, ServerProcess
from support.stubs import connected_to_files
from support.users import as_nobody, home_of_nobody

from codecontext import (
    AsyncCodeContextClient,
    CodeContext,
    CodeContextClient,
    CodeContextError,
    FileKind,
    FileWrongKindError,
    InvalidArgumentError,
    Outcome,
    QuotaExceededError,
    RemoteFileExistsError,
    RemoteFileNotFoundError,
    ResourceLimits,
    SandboxNotFoundError,
)
from codecontext.v1 import file_service_pb2 as pb

MIB = 1 << 20
USER = ("user",)


@pytest.fixture(scope="module", params=[*MODES, pytest.param(USER, id="user")])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server of each mode, and one that an ordinary user runs; at its end nothing may be left."""
    with contextlib.ExitStack() as stack:
        flags, prefix, folder = request.param, [], tmp_path_factory.mktemp("state")
        if flags == USER:
            if os.geteuid() != 0:
                pytest.skip("an ordinary user runs the others")
            home = stack.enter_context(home_of_nobody())
            flags, prefix, folder = (), as_nobody(home / "interpreter"), home / "state"
        process = stack.enter_context(
            ServerProcess(folder, "--pool-size", "1", *flags, prefix=prefix)
        )
        yield process
        assert process.stop() == 0


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of the module's server."""
    with CodeContextClient(server.target) as each:
        yield each


@pytest.fixture
def full_cells(client: CodeContextClient) -> None:
    """Skips where workspaces are folders of the server's."""
    if client.get_server_info().isolation.tier != "cell":
        pytest.skip("no cells")


def ok(client: CodeContextClient, context: CodeContext, code: str) -> str:
    """Runs code that must succeed, and returns its result's text."""
    run = client.run_code(code, context=context)
    assert run.error is None, run.error
    return run.text or ""


def names(client: CodeContextClient, context: CodeContext, path: str = "") -> list[str]:
    """Returns the paths of all below a directory."""
    return [each.path for each in client.files.list(context, path, recursive=True)]


def test_what_is_uploaded_is_seen_by_code_and_the_other_way_round(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Files go both ways at once, byte for byte, and belong to the code."""
    content = bytes(range(256)) * 5000
    info = client.files.upload(context, "in/data.bin", content, parents=True, mode=0o640)
    assert (info.kind, info.size_bytes, info.mode) == (FileKind.REGULAR, len(content), 0o640)
    assert info.sha256 == hashlib.sha256(content).digest()
    found = ok(
        client,
        context,
        "import hashlib, os\n"
        "data = open('in/data.bin', 'rb').read()\n"
        "with open('in/data.bin', 'ab') as f: _ = f.write(b'!')\n"
        "with open('out.bin', 'wb') as f: _ = f.write(data[::-1])\n"
        "os.rename('in', 'used')\n"
        "hashlib.sha256(data).hexdigest()",
    )
    assert found == repr(info.sha256.hex())
    assert client.files.read(context, "out.bin") == content[::-1]
    assert (
        client.files.read(context, "used/data.bin", offset=len(content) - 1) == content[-1:] + b"!"
    )
    assert client.files.read(context, "out.bin", offset=1, length=3) == content[::-1][1:4]
    assert names(client, context) == ["out.bin", "used", "used/data.bin"]


def test_local_files_and_open_files_are_taken_and_progress_is_told(
    client: CodeContextClient, context: CodeContext, tmp_path: Path
) -> None:
    """Paths and file objects work both ways, and a callback hears how far a transfer is."""
    local, back = tmp_path / "local.bin", tmp_path / "back.bin"
    local.write_bytes(os.urandom(3 * MIB + 5))
    sent: list[int] = []
    came: list[int] = []
    client.files.upload(context, "a", local, on_progress=sent.append)
    client.files.download(context, "a", back, on_progress=came.append)
    assert back.read_bytes() == local.read_bytes()
    for told in (sent, came):
        assert told == sorted(told)
        assert told[-1] == 3 * MIB + 5
    with local.open("rb") as source:
        client.files.upload(context, "b", source)
    target = io.BytesIO()
    client.files.download(context, "b", target)
    assert target.getvalue() == local.read_bytes()


async def test_the_asynchronous_client_does_the_same(
    server: ServerProcess, context: CodeContext, tmp_path: Path
) -> None:
    """Each call on files works from asyncio."""
    async with AsyncCodeContextClient(server.target) as client:
        await client.files.write(context, "d/x.txt", "hello", parents=True)
        assert await client.files.read(context, "d/x.txt") == b"hello"
        await client.files.make_directory(context, "e")
        await client.files.move(context, "d/x.txt", "e/y.txt")
        told: list[int] = []
        await client.files.download(context, "e/y.txt", tmp_path / "y", on_progress=told.append)
        await client.files.upload(context, "z", tmp_path / "y", on_progress=told.append)
        assert told == [5, 5]
        assert (await client.files.stat(context, "z")).size_bytes == 5
        assert [each.path async for each in client.files.list(context)] == ["d", "e", "z"]
        await client.files.delete(context, "e", recursive=True)
        with pytest.raises(RemoteFileNotFoundError):
            await client.files.read(context, "e/y.txt")


def test_an_upload_replaces_a_file_at_one_moment(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Code that reads a file all the time sees the old one or the new one, whole, and never none."""
    size = 200_000
    client.files.write(context, "f", b"0" * size)
    watch = (
        "print('begun', flush=True)\n"
        "seen = set()\n"
        "while '9' not in seen:\n"
        "    text = open('f').read()\n"
        f"    assert len(text) == {size} and len(set(text)) == 1, (len(text), set(text))\n"
        "    seen.add(text[0])\n"
    )
    with LiveRun(client, context, watch) as run:
        run.begun()
        for digit in range(1, 10):
            client.files.write(context, "f", str(digit).encode() * size)
        run.end()
        assert run.outcome is Outcome.SUCCEEDED
    assert names(client, context) == ["f"]


def test_an_upload_does_not_replace_what_it_was_not_told_to(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Without `overwrite` a file that is there stays, and the error says so."""
    client.files.write(context, "f", "old")
    with pytest.raises(RemoteFileExistsError):
        client.files.write(context, "f", "new", overwrite=False)
    assert client.files.read(context, "f") == b"old"
    client.files.write(context, "g", "new", overwrite=False)
    assert names(client, context) == ["f", "g"]


def test_a_large_file_can_be_uploaded_in_parts(
    client: CodeContextClient, context: CodeContext
) -> None:
    """With an offset the begin of the file that is there is kept, and the sum is that of the whole."""
    client.files.write(context, "f", b"abcdef")
    info = client.files.upload(context, "f", b"XYZ", offset=3)
    assert client.files.read(context, "f") == b"abcXYZ"
    assert info.sha256 == hashlib.sha256(b"abcXYZ").digest()
    with pytest.raises(InvalidArgumentError, match="past the end"):
        client.files.upload(context, "f", b"!", offset=7)
    with pytest.raises(RemoteFileNotFoundError):
        client.files.upload(context, "none", b"!", offset=1)
    assert client.files.read(context, "f") == b"abcXYZ"


def test_a_download_that_was_cut_goes_on_at_its_offset(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """What came before the cut and what comes from there on make the file."""
    content = os.urandom(20 * MIB)
    client.files.write(context, "f", content)
    target = io.BytesIO()
    with CuttableProxy(server.target) as proxy, CodeContextClient(proxy.target) as far:

        def cut(come: int) -> None:
            if come > 5 * MIB:
                proxy.cut()

        with pytest.raises(CodeContextError):
            far.files.download(context, "f", target, on_progress=cut)
    come = target.tell()
    assert 0 < come < len(content)
    client.files.download(context, "f", target, offset=come)
    assert target.getvalue() == content


def test_an_upload_that_is_cut_leaves_nothing_or_the_old_file(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """Wherever the connection ends, no part of a file and no other file is left."""
    client.files.write(context, "old", "old")
    with CuttableProxy(server.target) as proxy:
        for name in ("old", "new"):
            failed = threading.Event()

            def pieces(failed: threading.Event) -> Iterator[bytes]:
                yield from [b"x" * 100_000] * 10
                while not failed.wait(0.01):  # gRPC may try again what had not begun
                    proxy.cut()

            with CodeContextClient(proxy.target) as far:
                with pytest.raises(CodeContextError):
                    far.files.upload(context, name, pieces(failed))
                failed.set()
    assert names(client, context) == ["old"]
    assert ok(client, context, "import os; sorted(os.listdir('.'))") == "['old']"
    assert client.files.read(context, "old") == b"old"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "empty"),
        (".", "empty"),
        ("/etc/passwd", "absolute"),
        ("/workspace/x", "absolute"),
        ("..", "'..'"),
        ("a/../../x", "'..'"),
        ("x" * 256, "255 bytes"),
        ("é" * 128, "255 bytes"),
        ("/".join(["x" * 200] * 21), "4095 bytes"),
        ("a\0b", "NUL"),
    ],
)
def test_a_path_that_can_be_no_file_is_refused(
    client: CodeContextClient, context: CodeContext, path: str, message: str
) -> None:
    """Every call names the field and what is wrong with the path, and does nothing."""
    calls = (
        lambda: client.files.write(context, path, "x"),
        lambda: client.files.read(context, path),
        lambda: client.files.make_directory(context, path),
        lambda: client.files.move(context, path, "x"),
        lambda: client.files.move(context, "x", path),
        lambda: client.files.delete(context, path),
    )
    for call in calls:
        with pytest.raises(InvalidArgumentError, match=message):
            call()
    assert names(client, context) == []


def test_no_link_leads_out(client: CodeContextClient, context: CodeContext, tmp_path: Path) -> None:
    """Links to the outside, absolute ones and loops are refused at each place of a path."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    ok(
        client,
        context,
        "import os\n"
        "os.mkdir('d'); open('d/f', 'w').write('inside')\n"
        f"os.symlink({str(outside)!r}, 'absolute')\n"
        f"os.symlink('../' * 20 + {str(outside)[1:]!r}, 'up')\n"
        "os.symlink('loop', 'loop'); os.symlink('d', 'within'); os.symlink('d/f', 'file')\n"
        "os.symlink('/proc/self/root', 'proc')",
    )
    assert client.files.read(context, "within/f") == b"inside"
    assert client.files.read(context, "file") == b"inside"
    for link in ("absolute", "up", "proc"):
        for call in (
            lambda: client.files.read(context, link),  # noqa: B023
            lambda: client.files.read(context, f"{link}/secret"),  # noqa: B023
            lambda: client.files.write(context, f"{link}/new", "x"),  # noqa: B023
            lambda: client.files.write(context, f"{link}/a/b", "x", parents=True),  # noqa: B023
            lambda: client.files.make_directory(context, f"{link}/new"),  # noqa: B023
            lambda: client.files.delete(context, f"{link}/secret"),  # noqa: B023
            lambda: client.files.move(context, f"{link}/secret", "x"),  # noqa: B023
            lambda: client.files.move(context, "d", f"{link}/x"),  # noqa: B023
            lambda: list(client.files.list(context, link)),  # noqa: B023
        ):
            with pytest.raises(FileWrongKindError, match="leads out"):
                call()
    with pytest.raises(FileWrongKindError):
        client.files.read(context, "loop/x")
    assert client.files.stat(context, "absolute").link_target == str(outside)
    client.files.write(context, "absolute", "no link any more")
    client.files.delete(context, "up")
    assert sorted(each.name for each in outside.iterdir()) == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert client.files.stat(context, "absolute").kind is FileKind.REGULAR


def test_a_directory_that_becomes_a_link_meanwhile_leads_nowhere(
    client: CodeContextClient, context: CodeContext, tmp_path: Path
) -> None:
    """Code that swaps directories and links all the time never has anything read or written outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("secret")
    swap = (
        "import os\n"
        "os.mkdir('real'); open('real/f', 'w').write('inside')\n"
        f"os.symlink({str(outside)!r}, 'link'); os.symlink('/proc/self/cwd/..', 'up')\n"
        "print('begun', flush=True)\n"
        "while True:\n"
        "    for other in ('link', 'up'):\n"
        "        for pair in (('real', 'd'), ('d', 'real'), (other, 'd'), ('d', other)):\n"
        "            os.rename(*pair)\n"
    )
    with LiveRun(client, context, swap) as run:
        run.begun()
        seen = set()
        for number in range(300):
            with contextlib.suppress(CodeContextError):
                seen.add(client.files.read(context, "d/f"))
            with contextlib.suppress(CodeContextError):
                client.files.write(context, f"d/{number}", "x")
            with contextlib.suppress(CodeContextError):
                client.files.make_directory(context, f"d/m{number}/n", parents=True)
        client.interrupt_code_context(context)
    assert seen <= {b"inside"}
    assert [each.name for each in outside.iterdir()] == ["f"]


def test_what_is_no_regular_file_blocks_nothing(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Pipes and sockets are listed, moved and deleted, and never opened."""
    ok(
        client,
        context,
        "import os, socket\nos.mkfifo('pipe')\nos.mkdir('d')\n"
        "s = socket.socket(socket.AF_UNIX) if hasattr(socket, 'AF_UNIX') else None\n"
        "s.bind('sock'); open('f', 'w').close()",
    )
    for name in ("pipe", "sock", "d"):
        with pytest.raises(FileWrongKindError, match="no regular file"):
            client.files.read(context, name)
    with pytest.raises(FileWrongKindError, match="directory"):
        client.files.write(context, "d", "x")
    with pytest.raises(FileWrongKindError, match="no directory"):
        list(client.files.list(context, "pipe"))
    with pytest.raises(FileWrongKindError):
        client.files.write(context, "f/x", "x")
    kinds = {each.path: each.kind for each in client.files.list(context)}
    assert kinds["pipe"] is kinds["sock"] is FileKind.OTHER
    client.files.move(context, "pipe", "d/pipe")
    client.files.delete(context, "d", recursive=True)
    client.files.write(context, "sock", "a file now")
    assert names(client, context) == ["f", "sock"]


def test_directories_are_made_moved_and_deleted(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Each call on names does what it says, or says why not."""
    with pytest.raises(RemoteFileNotFoundError):
        client.files.make_directory(context, "a/b")
    assert client.files.make_directory(context, "a/b", parents=True).kind is FileKind.DIRECTORY
    client.files.make_directory(context, "a/b", parents=True)
    with pytest.raises(RemoteFileExistsError):
        client.files.make_directory(context, "a")
    client.files.write(context, "a/b/f", "1")
    with pytest.raises(FileWrongKindError):
        client.files.make_directory(context, "a/b/f", parents=True)
    client.files.write(context, "g", "2")
    with pytest.raises(RemoteFileExistsError):
        client.files.move(context, "g", "a/b/f")
    assert client.files.move(context, "g", "a/b/f", overwrite=True).path == "a/b/f"
    assert client.files.read(context, "a/b/f") == b"2"
    with pytest.raises(FileWrongKindError):
        client.files.move(context, "a", "a/b/c")
    with pytest.raises(RemoteFileNotFoundError):
        client.files.move(context, "g", "h")
    with pytest.raises(FileWrongKindError, match="not empty"):
        client.files.delete(context, "a")
    client.files.delete(context, "a", recursive=True)
    with pytest.raises(RemoteFileNotFoundError):
        client.files.delete(context, "a")
    assert ok(client, context, "import os; os.listdir('.')") == "[]"


def test_a_tree_deeper_than_any_path_is_deleted(
    client: CodeContextClient, context: CodeContext
) -> None:
    """What no path can name goes with the directory that it is in, closed directories too."""
    ok(
        client,
        context,
        "import os\n"
        "for _ in range(1500): os.mkdir('d' * 50); os.chdir('d' * 50)\n"
        "os.chdir(os.environ['HOME'])\n"
        "os.makedirs('d' * 50 + '/closed/x'); os.chmod('d' * 50 + '/closed', 0)",
    )
    assert len(names(client, context)) > 10
    client.files.delete(context, "d" * 50, recursive=True)
    assert names(client, context) == []


def test_a_directory_is_listed_in_order_page_by_page(
    client: CodeContextClient, context: CodeContext
) -> None:
    """All that stays is listed once and in order, whatever comes and goes between two pages."""
    ok(
        client,
        context,
        "import os\n"
        "for n in range(25): os.makedirs(f'd{n:02}/e'); open(f'd{n:02}/e/f', 'w').close()\n"
        "for n in range(5): open(f'd.{n}', 'w').close()",
    )
    paths = names(client, context)
    assert paths == sorted(paths, key=lambda path: path.split("/"))
    assert len(paths) == 80
    listed = []
    for info in client.files.list(context, recursive=True, page_size=7):
        listed.append(info.path)
        if len(listed) == 20:
            client.files.delete(context, listed[-1].split("/")[0], recursive=True)
            client.files.write(context, "a", "before")
            client.files.write(context, "z", "after")
    gone = listed[19].split("/")[0]
    kept = [path for path in paths if path.split("/")[0] != gone]
    assert [each for each in listed if each in kept] == kept
    assert len(set(listed)) == len(listed)
    assert listed[-1] == "z"


def test_a_name_of_any_bytes_is_named_and_found_again(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Bytes that are no UTF-8, and characters that stand for them, come back as they were."""
    ok(
        client,
        context,
        "for n in (b'\\xff\\xfe', 'é€𝄞'.encode(), '\\U0010ff80'.encode(), b'a\\xc3'):\n"
        "    open(n, 'w').write(repr(n))",
    )
    found = {
        each.path: client.files.read(context, each.path) for each in client.files.list(context)
    }
    assert set(found.values()) == {
        repr(name).encode()
        for name in (b"\xff\xfe", "é€𝄞".encode(), "\U0010ff80".encode(), b"a\xc3")
    }
    assert "é€𝄞" in found
    for path in found:
        client.files.move(context, path, f"new {path}")
        client.files.write(context, path, "again")
    assert ok(
        client, context, "import os; os.path.exists(b'\\xff\\xfe'), len(os.listdir('.'))"
    ) == ("(True, 8)")


def test_a_full_workspace_is_said_and_leaves_no_part(
    client: CodeContextClient, full_cells: None
) -> None:
    """What does not fit is RESOURCE_EXHAUSTED, before it is sent where its size is known."""
    limits = ResourceLimits(workspace_bytes=4 * MIB, workspace_inodes=20)
    context = client.create_code_context(resource_limits=limits)
    client.files.write(context, "half", b"x" * 3 * MIB)
    for source in (b"x" * 2 * MIB, iter([b"x" * MIB] * 2)):
        with pytest.raises(QuotaExceededError) as caught:
            client.files.upload(context, "more", source)
        assert caught.value.metadata["quota"] == "workspace_bytes"
        assert int(caught.value.metadata["limit"]) == 4 * MIB
    assert names(client, context) == ["half"]
    client.files.write(context, "fits", b"x" * (MIB // 2))
    with pytest.raises(QuotaExceededError) as caught:
        client.files.make_directory(context, "/".join(["d"] * 30), parents=True)
    assert caught.value.metadata["quota"] == "workspace_inodes"
    client.delete_code_context(context)


def test_what_is_not_what_was_announced_is_not_stored(
    server: ServerProcess, client: CodeContextClient, context: CodeContext
) -> None:
    """A wrong sum, too few bytes and too many are DATA_LOSS, and so is a stream that may have been cut;
    the old file stays."""
    client.files.write(context, "f", "old")
    with connected_to_files(server.target) as stub:

        def upload(content: bytes, *last: pb.UploadFileRequest, **announced: object) -> None:
            header = pb.UploadFileHeader(
                sandbox_id=context.sandbox_id,
                path="f",
                overwrite=True,
                **announced,  # type: ignore[arg-type]
            )
            stub.UploadFile(
                iter(
                    [pb.UploadFileRequest(header=header), pb.UploadFileRequest(data=content), *last]
                )
            )

        for last, announced in (
            ([], {}),
            ([2], {}),
            ([4], {}),
            ([2], {"size_bytes": 3}),
            ([], {"sha256": hashlib.sha256(b"other").digest()}),
            ([], {"size_bytes": 4}),
            ([], {"size_bytes": 2}),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                upload(
                    b"new", *(pb.UploadFileRequest(total_bytes=each) for each in last), **announced
                )
            assert caught.value.code() is grpc.StatusCode.DATA_LOSS
            assert client.files.read(context, "f") == b"old"
        upload(b"new", sha256=hashlib.sha256(b"new").digest())
        upload(b"newer", size_bytes=5)
        upload(b"newest", pb.UploadFileRequest(total_bytes=6))
        assert client.files.read(context, "f") == b"newest"


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "header"),
        ([{"data": b"x"}], "header"),
        ([{"header": {"path": "f"}}, {"header": {"path": "g"}}], "data"),
        ([{"header": {"path": "f"}}, {"total_bytes": 0}, {"data": b"x"}], "total_bytes"),
        ([{"header": {"path": "f", "mode": 0o4755}}], "header.mode"),
        ([{"header": {"path": "f", "size_bytes": -1}}], "header.size_bytes"),
        ([{"header": {"path": "f", "sha256": b"short"}}], "header.sha256"),
        ([{"header": {"path": "f", "offset": 1}}], "header.offset"),
        ([{"header": {"path": "../f"}}], "header.path"),
        ([{"header": {"path": "f"}}, {"data": b"x" * (3 * MIB + 1)}], "data"),
    ],
)
def test_an_upload_that_makes_no_sense_is_refused(
    server: ServerProcess,
    client: CodeContextClient,
    context: CodeContext,
    messages: list[dict[str, object]],
    field: str,
) -> None:
    """The field that is wrong is named, and nothing is stored."""
    for message in messages:
        if isinstance(header := message.get("header"), dict):
            header["sandbox_id"] = context.sandbox_id
    with (
        connected_to_files(server.target) as stub,
        pytest.raises(grpc.RpcError) as caught,
    ):
        stub.UploadFile(pb.UploadFileRequest(**message) for message in messages)  # type: ignore[arg-type]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(f"{field}: ")
    assert names(client, context) == []


def test_the_offset_of_a_download_is_checked(
    client: CodeContextClient, context: CodeContext
) -> None:
    """An offset at the end gives nothing, one past it and negative numbers are refused."""
    client.files.write(context, "f", "abc")
    assert client.files.read(context, "f", offset=3) == b""
    for wrong in ({"offset": 4}, {"offset": -1}, {"length": -1}):
        with pytest.raises(InvalidArgumentError):
            client.files.read(context, "f", **wrong)


def test_a_file_that_grows_is_downloaded_as_it_was(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Code that appends all the time keeps no download from its end."""
    client.files.write(context, "f", b"x" * MIB)
    grow = (
        "print('begun', flush=True)\n"
        "for _ in range(2000):\n"
        "    with open('f', 'ab') as file: _ = file.write(b'x' * 65536)\n"
    )
    with LiveRun(client, context, grow) as run:
        run.begun()
        came: list[int] = []
        target = io.BytesIO()
        info = client.files.download(context, "f", target, on_progress=came.append)
        assert len(target.getvalue()) == came[-1] == info.size_bytes
        client.interrupt_code_context(context)


def test_an_unknown_sandbox_has_no_files(client: CodeContextClient, context: CodeContext) -> None:
    """Every call on a sandbox that is not there, or not any more, is NOT_FOUND."""
    client.delete_code_context(context)
    for owner in (context, "s0-unknown"):
        with pytest.raises(SandboxNotFoundError):
            client.files.write(owner, "f", "x")
        with pytest.raises(SandboxNotFoundError):
            client.files.read(owner, "f")
        with pytest.raises(SandboxNotFoundError):
            list(client.files.list(owner))


def test_contexts_of_one_sandbox_share_what_is_uploaded(client: CodeContextClient) -> None:
    """Files of a sandbox without contexts are there for those that come, and outlive those that go."""
    sandbox = client.sandboxes.create()
    client.files.write(sandbox, "f", "early")
    context = client.create_code_context(sandbox_id=sandbox)
    assert read(client, context, "f") == "'early'"
    write(client, context, "g", "late")
    client.restart_code_context(context)
    assert client.files.read(context, "g") == b"late"
    client.delete_code_context(context)
    assert client.files.read(sandbox, "g") == b"late"
    client.sandboxes.destroy(sandbox)


def test_a_destroyed_sandbox_ends_transfers_and_keeps_nothing(
    server: ServerProcess, client: CodeContextClient
) -> None:
    """A sandbox goes at once, whoever reads or writes in it slowly, and they are told."""
    sandbox = client.sandboxes.create()
    client.files.write(sandbox, "big", b"x" * 64 * MIB)
    process = psutil.Process(server.process.pid)
    waiting, go_on = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"x" * MIB
        waiting.set()
        go_on.wait(60)

    ends: list[Exception] = []

    def upload() -> None:
        try:
            client.files.upload(sandbox, "up", pieces())
        except CodeContextError as error:
            ends.append(error)

    uploading = threading.Thread(target=upload)
    uploading.start()
    with connected_to_files(server.target) as stub:
        download = stub.DownloadFile(pb.DownloadFileRequest(sandbox_id=sandbox.id, path="big"))
        next(download)
        assert waiting.wait(60)
        until(
            lambda: (
                any(
                    "files" in each.path or "(deleted)" in each.path
                    for each in process.open_files()
                )
                or True
            )
        )
        before = process.num_fds()
        client.sandboxes.destroy(sandbox)
        until(lambda: bool(ends))  # though it sends nothing any more
        assert isinstance(ends[0], SandboxNotFoundError)
        with pytest.raises(grpc.RpcError) as caught:
            for _ in download:
                pass
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    go_on.set()
    uploading.join(60)
    until(lambda: process.num_fds() < before)


def test_random_operations_agree_with_a_model(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Whatever is written, moved and deleted in any order, the workspace is what it should be."""
    chances = random.Random(7)
    model: dict[str, bytes | None] = {}  # None: a directory
    paths = ["a", "b", "a/x", "a/y", "b/x", "b/x/z"]

    def inside(path: str) -> list[str]:
        return [each for each in model if each == path or each.startswith(f"{path}/")]

    def parent_there(path: str) -> bool:
        parent = path.rpartition("/")[0]
        return not parent or (parent in model and model[parent] is None)

    for _ in range(250):
        path, other = chances.choice(paths), chances.choice(paths)
        action = chances.choice(["write", "make", "move", "delete"])
        before = dict(model)
        try:
            if action == "write":
                data = chances.randbytes(5)
                if parent_there(path) and not (path in model and model[path] is None):
                    model[path] = data
                client.files.write(context, path, data)
            elif action == "make":
                if parent_there(path) and path not in model:
                    model[path] = None
                client.files.make_directory(context, path)
            elif action == "delete":
                for each in inside(path):
                    del model[each]
                client.files.delete(context, path, recursive=True)
            else:
                within = other == path or other.startswith(f"{path}/")
                if path in model and parent_there(other) and other not in model and not within:
                    for each in inside(path):
                        model[other + each[len(path) :]] = model.pop(each)
                client.files.move(context, path, other)
        except CodeContextError:
            assert model == before, (action, path, other)
        found = {
            each.path: None
            if each.kind is FileKind.DIRECTORY
            else client.files.read(context, each.path)
            for each in client.files.list(context, recursive=True)
        }
        assert found == model, (action, path, other)

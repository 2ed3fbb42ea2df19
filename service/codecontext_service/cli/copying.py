"""`cp`: files between this machine and the workspaces of sandboxes."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from codecontext_service.cli import exits
from codecontext_service.cli.failures import connected, refuse, say
from codecontext_service.cli.options import CLIENT_DEFAULTS, PATH_OR_STREAM, ClientOptions
from codecontext_service.cli.output import write, write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from codecontext import CodeContextClient, FileInfo

    Progress = Callable[[int], object]

_REMOTE = re.compile(
    r"(?P<owner>[cs](?:0|[1-9][0-9]*)-[0-9a-z]+-[a-z2-7]+):(?P<path>.*)", re.DOTALL
)
_STREAM = "-"


class _Remote(NamedTuple):
    """A path in a workspace."""

    owner: str
    path: str

    def under(self, name: str) -> _Remote:
        return _Remote(self.owner, str(PurePosixPath(self.path) / name))

    @property
    def is_folder(self) -> bool:
        return self.path == "" or self.path.endswith("/")


def cp(
    source: Annotated[str, PATH_OR_STREAM],
    target: Annotated[str, PATH_OR_STREAM],
    /,
    *,
    recursive: Annotated[bool, Parameter(name=("--recursive", "-r"), negative=())] = False,
    no_overwrite: Annotated[bool, Parameter(name=("--no-overwrite", "-n"), negative=())] = False,
    client: ClientOptions = CLIENT_DEFAULTS,
) -> int:
    """Copy a file into a sandbox's workspace, or out of it. Prints each file that was copied.

    One of the two is ID:PATH, where ID is a context's or a sandbox's, and PATH is in the workspace; the
    other is a local path, or - for standard input or output. A target that ends in / is a directory.

    Args:
        source: What to copy.
        target: Where to.
        recursive: Copy a directory with all that is in it; links are left out, and said.
        no_overwrite: Fail where a file is there already.
        client: How to reach the server.
    """
    from_remote, to_remote = _remote(source), _remote(target)
    if (from_remote is None) == (to_remote is None):
        refuse("give one local path and one ID:PATH, with the id of a context or a sandbox")
    with connected(client) as connection:
        copied: Iterator[tuple[str, FileInfo]]
        if to_remote is not None:
            owned = _owned(connection, to_remote)
            copied = _upload(connection, source, owned, recursive, not no_overwrite)
        else:
            assert from_remote is not None  # noqa: S101  # for the types: one of them is
            owned = _owned(connection, from_remote)
            copied = _download(connection, owned, target, recursive, not no_overwrite)
        try:
            for name, info in copied:
                if target == _STREAM:
                    continue
                if client.json:
                    write_json(info)
                else:
                    write(name)
        except OSError as error:
            say(f"{error.filename or source}: {error.strerror or error}")
            return exits.USAGE
    return exits.OK


def _remote(path: str) -> _Remote | None:
    match = _REMOTE.fullmatch(path)
    return None if match is None else _Remote(match["owner"], match["path"])


def _owned(connection: CodeContextClient, remote: _Remote) -> _Remote:
    """Names the sandbox, where a context was named."""
    if remote.owner.startswith("s"):
        return remote
    return _Remote(connection.get_code_context(remote.owner).sandbox_id, remote.path)


def _upload(
    connection: CodeContextClient, source: str, target: _Remote, recursive: bool, overwrite: bool
) -> Iterator[tuple[str, FileInfo]]:
    if source == _STREAM:
        if target.is_folder:
            refuse("standard input has no name: give the path of a file")
        with _progress(_STREAM, None) as progress:
            stdin = sys.stdin.buffer
            info = connection.files.upload(
                target.owner, target.path, stdin, overwrite=overwrite, on_progress=progress
            )
        yield target.path, info
        return
    local = Path(source)
    if not local.is_dir():
        path = target.under(local.name) if target.is_folder else target
        yield _upload_file(connection, local, path, overwrite)
        return
    if not recursive:
        refuse(f"{source} is a directory: copy it with --recursive")
    root = target.under(local.name) if target.is_folder else target
    connection.files.make_directory(root.owner, root.path, parents=True)
    for each in sorted(local.rglob("*")):
        inside = root.under(each.relative_to(local).as_posix())
        if each.is_symlink():
            say(f"{each}: a link is left out")
        elif each.is_dir():
            connection.files.make_directory(inside.owner, inside.path, parents=True)
        elif each.is_file():
            yield _upload_file(connection, each, inside, overwrite)
        else:
            say(f"{each}: what is no regular file is left out")


def _upload_file(
    connection: CodeContextClient, local: Path, target: _Remote, overwrite: bool
) -> tuple[str, FileInfo]:
    with _progress(local.name, local.stat().st_size) as progress:
        info = connection.files.upload(
            target.owner,
            target.path,
            local,
            overwrite=overwrite,
            parents=True,
            mode=local.stat().st_mode & 0o777,
            on_progress=progress,
        )
    return info.path, info


def _download(
    connection: CodeContextClient, source: _Remote, target: str, recursive: bool, overwrite: bool
) -> Iterator[tuple[str, FileInfo]]:
    from codecontext import FileKind

    path = source.path.rstrip("/")
    if target == _STREAM:
        yield _STREAM, connection.files.download(source.owner, path, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    local = Path(target)
    is_folder = local.is_dir() or target.endswith("/")
    is_root = path == ""
    found = None if is_root else connection.files.stat(source.owner, path)
    if found is not None and found.kind is not FileKind.DIRECTORY:
        place = local / PurePosixPath(path).name if is_folder else local
        yield _download_file(connection, source.owner, found, place, overwrite)
        return
    if not recursive:
        refuse(f"{source.path or 'the workspace'} is a directory: copy it with --recursive")
    root = local / PurePosixPath(path).name if is_folder and not is_root else local
    root.mkdir(parents=True, exist_ok=True)
    for info in connection.files.list(source.owner, path, recursive=True):
        place = root / PurePosixPath(info.path).relative_to(path or ".")
        if info.kind is FileKind.DIRECTORY:
            place.mkdir(parents=True, exist_ok=True)
        elif info.kind is FileKind.REGULAR:
            yield _download_file(connection, source.owner, info, place, overwrite)
        else:
            say(f"{info.path}: what is no regular file is left out")


def _download_file(
    connection: CodeContextClient, owner: str, file: FileInfo, place: Path, overwrite: bool
) -> tuple[str, FileInfo]:
    if not overwrite and place.exists():
        raise FileExistsError(17, "is there already", str(place))
    place.parent.mkdir(parents=True, exist_ok=True)
    with _progress(place.name, file.size_bytes) as progress:
        info = connection.files.download(owner, file.path, place, on_progress=progress)
    return str(place), info


@contextlib.contextmanager
def _progress(name: str, size_bytes: int | None) -> Iterator[Progress]:
    """Shows how far a transfer is, where somebody looks."""
    if not sys.stderr.isatty():
        yield lambda sent: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(name, total=size_bytes)
        yield lambda sent: shown.update(task, completed=sent)

"""What a server shows of the machine to code in cells."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine import skip, why_no_namespaces
from support.servers import ServerProcess, serve_command

from codecontext import CodeContextClient, Outcome


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder below /tmp, which cells have one of their own of, with one more folder and files in both."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        outer = Path(name)
        (outer / "inner").mkdir()
        for place in (outer, outer / "inner"):
            place.chmod(0o755)
            (place / "file").write_text(f"of {place.name}")
        (outer.with_name(f"{outer.name}-hidden")).write_text("hidden")
        yield outer
        outer.with_name(f"{outer.name}-hidden").unlink()


@pytest.fixture(scope="module")
def client(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CodeContextClient]:
    """A client of a server that shows both folders, and one file by its own name too."""
    shown = (folder, folder / "inner", folder / "inner" / "file")
    flags = [part for path in shown for part in ("--read-only-paths", str(path))]
    with (
        ServerProcess(tmp_path_factory.mktemp("shown") / "state", *flags) as server,
        CodeContextClient(server.target) as each,
    ):
        if "no_foreign_files" not in each.get_server_info().isolation.guarantees:
            pytest.skip("this machine has no cells for this user")
        yield each


def test_what_is_shown_can_be_read_although_one_is_in_another(
    client: CodeContextClient, folder: Path
) -> None:
    """A folder that is shown, and one in it that is shown too, have their files under their own names."""
    context = client.create_code_context()
    code = f"[open(p).read() for p in ({str(folder / 'file')!r}, {str(folder / 'inner/file')!r})]"
    ran = client.run_code(code, context=context)
    assert ran.text == f"['of {folder.name}', 'of inner']"


def test_what_is_shown_is_neither_written_nor_does_it_show_more(
    client: CodeContextClient, folder: Path
) -> None:
    """Code can't write to what is shown, and finds nothing else of the folder around it."""
    context = client.create_code_context()
    for path in (folder / "file", folder / "inner" / "new"):
        ran = client.run_code(f"open({str(path)!r}, 'w')", context=context)
        assert ran.outcome is Outcome.RAISED
        assert ran.error.name in ("OSError", "PermissionError")
    hidden = f"{folder}-hidden"
    ran = client.run_code(f"import os; os.path.exists({hidden!r})", context=context)
    assert ran.text == "False"


@pytest.mark.parametrize("socket", ["{}/inner/s", "{}-link/s", "/opt/codecontext-test-s"])
def test_the_server_does_not_listen_where_code_could_call_it(
    folder: Path, tmp_path: Path, socket: str
) -> None:
    """A Unix socket in what is shown, by whatever name, starts no server, and the refusal says why."""
    if proof := why_no_namespaces():
        skip("there are no cells", proof)
    link, path = folder.with_name(f"{folder.name}-link"), socket.format(folder)
    flags = ("--read-only-paths", str(folder), "--listen", f"unix:{path}")
    link.symlink_to(folder / "inner")
    try:
        done = subprocess.run(
            serve_command(tmp_path, *flags),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    finally:
        link.unlink()
    assert done.returncode == 2, done.stderr
    assert f"listen: code in cells could call unix:{path}" in done.stderr
    assert not Path(path).exists()

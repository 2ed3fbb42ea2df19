"""The committed stubs are what the protos and the pinned generators give."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "generate_protos.py"
CLIENT = ROOT / "client"


def stubs(root: Path) -> dict[str, bytes]:
    """Reads the stubs under a folder, by relative path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*_pb2*")
        if path.suffix in {".py", ".pyi"}
    }


def breaks(root: Path, promised: Path) -> str:
    """Returns what buf says of protos that break what was promised; nothing if they don't."""
    buf = Path(sys.executable).with_name("buf")
    command = [buf, "breaking", root, "--config", root / "buf.yaml", "--against", promised]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout


@pytest.mark.timeout(400)  # the first run may have to install the generators
def test_committed_stubs_are_current(tmp_path: Path) -> None:
    """Generating again changes no byte, adds no file and leaves none over."""
    subprocess.run([sys.executable, SCRIPT, "--output", tmp_path], check=True)

    committed, generated = stubs(CLIENT), stubs(tmp_path)
    assert committed.keys() == generated.keys()
    stale = [name for name, content in generated.items() if committed[name] != content]
    assert not stale, "run `make proto`"


def test_generation_touches_stubs_alone(tmp_path: Path) -> None:
    """A hand-written module beside the stubs survives; a stub without a proto does not."""
    package = tmp_path / "codecontext" / "v1"
    package.mkdir(parents=True)
    kept, leftover = package / "__init__.py", package / "gone_pb2.py"
    kept.write_text('"""Kept."""\n')
    leftover.write_text("")

    subprocess.run([sys.executable, SCRIPT, "--output", tmp_path], check=True)

    assert kept.read_text() == '"""Kept."""\n'
    assert not leftover.exists()


def test_a_break_of_the_protos_is_found(tmp_path: Path) -> None:
    """The protos break nothing of what callers rely on, and a field that gets another name would."""
    promised = ROOT / "protos" / "promised.binpb"
    assert not breaks(ROOT, promised)
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    proto = tmp_path / "protos" / "codecontext" / "v1" / "code_context_service.proto"
    proto.write_text(proto.read_text().replace("string cwd = ", "string directory = "))
    assert 'from "cwd" to "directory"' in breaks(tmp_path, promised)

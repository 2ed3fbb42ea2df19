#!/usr/bin/env python3
"""Generates the Python stubs of every proto under ``protos/`` into ``client/``.

Needs nothing but the standard library: the generators are installed, at the exact versions of
``requirements-proto.txt``, into ``.venv-proto``, which is made when it is missing or out of date.
The same protos give the same bytes on every machine.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
REQUIREMENTS = ROOT / "scripts" / "requirements-proto.txt"
ENVIRONMENT = ROOT / ".venv-proto"

GENERATED_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock, so that two callers do not build one environment at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare_environment() -> Path:
    """Makes the generators' environment unless it is there and current.

    Returns:
        The environment's folder of executables.
    """
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    stamp = ENVIRONMENT / "requirements.sha256"
    binaries = ENVIRONMENT / "bin"
    with locked(ENVIRONMENT / ".lock"):
        if stamp.exists() and stamp.read_text() == wanted:
            return binaries
        stamp.unlink(missing_ok=True)
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        pip: list[str | Path] = [binaries / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--requirement", REQUIREMENTS], check=True)
        stamp.write_text(wanted)
    return binaries


def generate(protos: Path, output: Path, binaries: Path) -> None:
    """Runs protoc over every proto under ``protos``.

    Args:
        protos: The import root of the protos.
        output: Where the stubs go; the package's folders are made inside it.
        binaries: The folder with the generators.
    """
    files = sorted(path.relative_to(protos).as_posix() for path in protos.rglob("*.proto"))
    if not files:
        raise SystemExit(f"no protos under {protos}")
    command: list[str | Path] = [
        binaries / "python",
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={protos}",
        f"--python_out={output}",
        f"--grpc_python_out={output}",
        f"--mypy_out=quiet:{output}",
        f"--mypy_grpc_out=quiet,generate_concrete_servicer_stubs:{output}",
        *files,
    ]
    # protoc finds its plugins on the path.
    environment = os.environ | {"PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run(command, check=True, env=environment)


def generated_files(root: Path) -> dict[str, bytes]:
    """Reads what is generated under ``root``, by path relative to it."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*_pb2*"))
        if path.name.endswith(GENERATED_SUFFIXES)
    }


def replace_generated(source: Path, target: Path) -> None:
    """Makes the stubs under ``target`` those under ``source``, and touches no other file."""
    new, old = generated_files(source), generated_files(target)
    for name in old.keys() - new.keys():
        (target / name).unlink()
    for name, content in new.items():
        if old.get(name) != content:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)


def main() -> None:
    """Parses the command line and generates."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--protos", type=Path, default=PROTOS, help="import root of the protos")
    parser.add_argument("--output", type=Path, default=ROOT / "client", help="root of the stubs")
    parser.add_argument(
        "--prepare-only", action="store_true", help="make the generators' environment, and stop"
    )
    arguments = parser.parse_args()

    binaries = prepare_environment()
    if arguments.prepare_only:
        return
    with tempfile.TemporaryDirectory() as scratch:
        generate(arguments.protos.resolve(), Path(scratch), binaries)
        replace_generated(Path(scratch), arguments.output)


if __name__ == "__main__":
    main()

"""Programs of other languages that drive the service, and what to do without them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _needed(program: str, *, made_with: str, there: bool) -> None:
    if there:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{program} is missing, and in CI nothing is skipped")
    if shutil.which(made_with):
        pytest.fail(f"{program} is missing: `make test` installs it")
    pytest.skip(f"{made_with} is missing, which {program} needs")


@pytest.fixture(scope="session")
def grpcurl() -> Path:
    """The real grpcurl, as `make test` installs it."""
    program = ROOT / ".tools" / "bin" / "grpcurl"
    _needed("grpcurl", made_with="go", there=program.exists())
    return program


@pytest.fixture(scope="session")
def node_client() -> list[str]:
    """The command that runs the Node client, beside the packages that `make test` installs."""
    folder = ROOT / "tests" / "interop" / "node"
    packages = folder / "node_modules" / "@grpc" / "grpc-js"
    _needed("@grpc/grpc-js", made_with="npm", there=packages.exists())
    return ["node", str(folder / "client.mjs")]

"""What the security tests share: an arena for each mode, and a folder for everybody."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from security.arena import Arena, Unable
from security.modes import MODES, Mode, parameters


@pytest.fixture(
    scope="session",
    params=parameters(MODES),
)
def arena(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Arena]:
    """A server in namespaces of its own, with everything that attempts are made against."""
    mode: Mode = request.param
    try:
        each = Arena(mode, tmp_path_factory.mktemp("arena") / "log")
    except Unable as reason:
        pytest.skip(str(reason))
    with each:
        yield each


@pytest.fixture
def open_path() -> Iterator[Path]:
    """An empty directory that every user can get at; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="codecontext-test-") as folder:
        path = Path(folder)
        path.chmod(0o777)
        yield path

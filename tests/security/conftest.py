"""What the security tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_path() -> Iterator[Path]:
    """An empty directory that every user can get at; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="codecontext-test-") as folder:
        path = Path(folder)
        path.chmod(0o777)
        yield path

"""What the security tests share: an arena for each mode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.machine import skip

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
        skip(str(reason), reason.proof)
    with each:
        yield each

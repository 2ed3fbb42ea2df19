"""A real server for each test process, clients of it, and folders for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kernels import NEEDS_KERNELS, write_kernelspecs
from support.languages import DIALECTS, Dialect
from support.servers import PRELOADED, ServerProcess
from support.stubs import connected
from support.users import home_of_nobody, open_folder

from codecontext import CodeContext, CodeContextClient
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that the tests of one process share; at the end it drains, and nothing may be left."""
    kernels = write_kernelspecs(tmp_path_factory.mktemp("jupyter"))
    flags = ("--jupyter-paths", str(kernels), "--preload", PRELOADED)
    env = os.environ | {"SERVER_TOKEN": "a secret of the server's"}
    with ServerProcess(tmp_path_factory.mktemp("state"), *flags, env=env) as process:
        yield process
        descendants = process.descendants()
        assert process.stop() == 0
        assert not [left for left in descendants if left.is_running()]


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of the shared server."""
    with CodeContextClient(server.target) as each:
        yield each


@pytest.fixture(scope="session")
def stub(server: ServerProcess) -> Iterator[CodeContextServiceStub]:
    """A raw stub of the shared server."""
    with connected(server.target) as each:
        yield each


@pytest.fixture
def context(client: CodeContextClient) -> Iterator[CodeContext]:
    """A fresh context on the shared server."""
    each = client.create_code_context()
    yield each
    if any(left.id == each.id for left in client.list_code_contexts()):
        client.delete_code_context(each, force=True)


KERNEL_MARKS = (NEEDS_KERNELS, pytest.mark.timeout(120))
"""Of a language that a kernel is for: they start slowly, on a busy machine very much so."""


@pytest.fixture(
    params=[
        pytest.param(each, marks=KERNEL_MARKS if each.runtime else (), id=each.name)
        for each in DIALECTS
    ]
)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """A language that can do what the test needs."""
    found: Dialect = request.param
    for marker in request.node.iter_markers("needs"):
        if marker.args[0] in found.cannot:
            pytest.skip(f"{found.name} can't: {marker.args[0]}")
    return found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A directory for the state of a server of the test's own."""
    return tmp_path / "state"


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that belongs to an ordinary user, whoever runs the tests."""
    with home_of_nobody() as folder:
        yield folder


@pytest.fixture
def open_path() -> Iterator[Path]:
    """An empty directory that every user can get at; pytest's own are closed to others."""
    with open_folder() as folder:
        yield folder

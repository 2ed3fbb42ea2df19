"""Network policies: what code reaches, and who may ask for what."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers import MODES, ServerProcess, serve_command
from support.stubs import connected, refusal_of

from codecontext import (
    CodeContext,
    CodeContextClient,
    InvalidArgumentError,
    NetworkPolicy,
    PermissionDeniedError,
    UnimplementedError,
)
from codecontext.v1 import code_context_service_pb2 as pb

HOST_ALLOWED = ("--allow-host-network", "--host-network-reaches-listeners")


@pytest.fixture(scope="module", params=MODES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server of each mode that allows the host's network."""
    flags = ("--pool-size", "1", *HOST_ALLOWED, *request.param)
    with ServerProcess(tmp_path_factory.mktemp("state"), *flags) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of the module's server."""
    with CodeContextClient(server.target) as each:
        yield each


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A port of the host's loopback, where everyone who connects is sent a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"host")

        thread = threading.Thread(target=answer)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)  # this ends the accept
        thread.join()


def reached(client: CodeContextClient, context: CodeContext, port: int) -> str:
    """What code in a context is told on a port of its loopback, or the name of its error."""
    code = f"import socket\nsocket.create_connection(('localhost', {port}), 30).recv(10).decode()"
    run = client.run_code(code, context=context)
    return run.error.name if run.error is not None else (run.text or "").strip("'")


def has_cells(client: CodeContextClient) -> bool:
    """Whether the server can keep code from the host's network."""
    return client.get_server_info().isolation.tier == "cell"


def test_the_host_is_reached_with_host_alone(client: CodeContextClient, port: int) -> None:
    """Code reaches the host's loopback, and its names are resolved, with HOST, and not without."""
    host = NetworkPolicy.HOST
    sandbox = client.sandboxes.create(network_policy=host)
    contexts = [
        client.create_code_context(network_policy=host),
        client.create_code_context(sandbox_id=sandbox),
        client.create_code_context(sandbox_id=sandbox, network_policy=host),
    ]
    for each in contexts:
        assert each.network_policy == host
        assert "no_network" not in each.isolation.guarantees
        assert reached(client, each, port) == "host"
        resolvers = client.run_code("open('/etc/resolv.conf').read()", context=each)
        if Path("/etc/resolv.conf").exists():
            assert resolvers.text == repr(Path("/etc/resolv.conf").read_text())
    client.restart_code_context(contexts[0])
    assert reached(client, contexts[0], port) == "host"
    if has_cells(client):
        none = client.sandboxes.create(network_policy=NetworkPolicy.NONE)
        for each in (
            client.create_code_context(),
            client.create_code_context(network_policy=NetworkPolicy.NONE),
            client.create_code_context(sandbox_id=none),
        ):
            assert each.network_policy == NetworkPolicy.NONE
            assert "no_network" in each.isolation.guarantees
            assert reached(client, each, port) == "ConnectionRefusedError"


def test_what_can_not_be_kept_is_refused(client: CodeContextClient, port: int) -> None:
    """Where there are no cells NONE is refused as not offered, and unset tells what is the case."""
    if has_cells(client):
        pytest.skip("this server keeps it")
    for create in (client.create_code_context, client.sandboxes.create):
        with pytest.raises(UnimplementedError, match="host's network") as raised:
            create(network_policy=NetworkPolicy.NONE)  # type: ignore[operator]  # both take it
        assert raised.value.metadata["field"] == "network_policy"
    context = client.create_code_context()
    assert context.network_policy == NetworkPolicy.HOST
    assert reached(client, context, port) == "host"


def test_a_context_can_not_change_its_sandbox(client: CodeContextClient) -> None:
    """Another policy than that of the sandbox that is named is refused, with the field."""
    if not has_cells(client):
        pytest.skip("there is one policy alone")
    none, host = NetworkPolicy.NONE, NetworkPolicy.HOST
    for its, other in ((none, host), (host, none)):
        sandbox = client.sandboxes.create(network_policy=its)
        with pytest.raises(InvalidArgumentError) as raised:
            client.create_code_context(sandbox_id=sandbox, network_policy=other)
        assert [each.field for each in raised.value.field_violations] == ["network_policy"]


def test_host_is_denied_by_default(tmp_path: Path) -> None:
    """Unless the server allows it, HOST is PERMISSION_DENIED with the name of the option."""
    with (
        ServerProcess(tmp_path / "state", "--pool-size", "1") as server,
        CodeContextClient(server.target) as client,
    ):
        if not has_cells(client):
            pytest.skip("every context has the host's network here")
        for create in (client.create_code_context, client.sandboxes.create):
            with pytest.raises(PermissionDeniedError, match="allow_host_network") as raised:
                create(network_policy=NetworkPolicy.HOST)  # type: ignore[operator]  # both take it
            assert raised.value.metadata["option"] == "allow_host_network"
        assert list(client.list_code_contexts()) == []


def test_a_server_that_code_could_call_does_not_start(tmp_path: Path) -> None:
    """With the host's network allowed a TCP listener must be accepted by name; a Unix socket is fine."""
    command = serve_command(tmp_path / "state", "--allow-host-network")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "allow_host_network" in ended.stderr
    assert "host_network_reaches_listeners" in ended.stderr
    address = f"unix:{tmp_path}/socket"
    flags = ("--listen", address, "--allow-host-network", "--pool-size", "1")
    with (
        ServerProcess(tmp_path / "state", *flags) as server,
        CodeContextClient(server.target) as client,
    ):
        context = client.create_code_context(network_policy=NetworkPolicy.HOST)
        if has_cells(client):
            code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(tmp_path / 'socket')!r})"
            error = client.run_code(code, context=context).error
            assert error is not None
            assert error.name in {"FileNotFoundError", "PermissionError"}


def test_an_unknown_policy_is_refused(server: ServerProcess) -> None:
    """A number that is no policy is INVALID_ARGUMENT, never taken for another one."""
    with connected(server.target) as stub:
        request = pb.CreateCodeContextRequest(network_policy=77)  # type: ignore[arg-type]  # as others may
        refusal = refusal_of(stub.CreateCodeContext, request)
        assert refusal.reason == "INVALID_ARGUMENT"
        assert "network_policy" in refusal.fields

"""The client is thin, and whole."""

import re
import subprocess
import sys

import pytest

from codecontext import AsyncCodeContextClient, CodeContextClient
from codecontext._channel import READS
from codecontext.v1 import code_context_service_pb2, file_service_pb2, sandbox_service_pb2

SERVICES = {
    service.full_name: service
    for module in (code_context_service_pb2, file_service_pb2, sandbox_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
}
METHODS = [
    (service.name, method.name) for service in SERVICES.values() for method in service.methods
]

ONLY_THE_BASE = """
import importlib.abc, sys
ALLOWED = {"codecontext", "grpc", "google"}
class Guard(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in ALLOWED and top not in sys.stdlib_module_names and top != "typing_extensions":
            raise ModuleNotFoundError("not in the base installation", name=name)
sys.meta_path.insert(0, Guard())
import codecontext, codecontext.v1.code_context_service_pb2_grpc
from codecontext import *
assert "codecontext_service" not in sys.modules
assert not any(name.startswith(("grpc_status", "grpc_health")) for name in sys.modules)
"""


def test_imports_only_its_base() -> None:
    """The client needs grpcio, protobuf and googleapis-common-protos, and never the service."""
    # typing_extensions comes with grpcio.
    subprocess.run([sys.executable, "-c", ONLY_THE_BASE], check=True, timeout=60)


@pytest.mark.parametrize("client", [CodeContextClient, AsyncCodeContextClient])
@pytest.mark.parametrize(("service", "method"), METHODS)
def test_every_rpc_has_a_method(client: type, service: str, method: str) -> None:
    """Each call of each service has a documented method in both clients."""
    words = re.sub("(?<!^)(?=[A-Z])", "_", method).lower()
    owner = {
        "CodeContextService": client,
        "SandboxService": type(client("127.0.0.1:1").sandboxes),
        "FileService": type(client("127.0.0.1:1").files),
    }[service]
    if service != "CodeContextService":
        words = re.sub("_(sandbox|sandboxes|file|files)$", "", words)
    found = getattr(owner, words)
    assert callable(found)
    assert found.__doc__


def test_both_clients_have_the_same_methods() -> None:
    """What one client can, the other can, with the same arguments."""
    import inspect

    def parameters(client: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_")
        }

    assert parameters(CodeContextClient) == parameters(AsyncCodeContextClient)
    for part in ("sandboxes", "files"):
        sync = type(getattr(CodeContextClient("127.0.0.1:1"), part))
        aio = type(getattr(AsyncCodeContextClient("127.0.0.1:1"), part))
        assert parameters(sync) == parameters(aio)


def test_reads_are_those_that_change_nothing() -> None:
    """The calls that are retried are exactly those whose name says that they only read."""
    reading = ("Get", "List", "Stat", "Watch", "Complete", "Inspect", "Download")
    for name, service in SERVICES.items():
        assert set(READS[name]) == {
            method.name for method in service.methods if method.name.startswith(reading)
        }


def test_stubs_are_importable() -> None:
    """The generated code can be used without the client."""
    from codecontext.v1 import code_context_service_pb2_grpc

    assert code_context_service_pb2_grpc.CodeContextServiceStub

"""Peers beside this service: an ipykernel by jupyter_client, and one by Jupyter Kernel Gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator

import grpc
from calls import create, delete, run, wait_for_pool
from effort import Effort
from figures import Expectation, Figures
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel
from processes import server
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

_OURS = "RunCode('1+1')"
_OUR_CREATE = "create, first run and delete of a context"

EXPECTATIONS = (
    Expectation(_OURS, 1.0, "run of 1+1 by jupyter_client"),
    Expectation(_OUR_CREATE, 1.0, "start, first run and end of a kernel by jupyter_client"),
)

_TIMEOUT_S = 60
_EXECUTE = {"code": "1+1", "silent": False, "store_history": True, "allow_stdin": False}


def measure(figures: Figures, effort: Effort) -> None:
    """Measures runs in turns, then the lives of a context and of kernels."""
    asyncio.run(_measure(figures, effort))


async def _measure(figures: Figures, effort: Effort) -> None:
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(_gateway())
        served = stack.enter_context(server())
        gateway = _Gateway(address)
        await gateway.wait()
        manager, client = _start_kernel()
        stub = CodeContextServiceStub(stack.enter_context(grpc.insecure_channel(served.target)))
        context_id = create(stub)
        kernel_id = await gateway.start_kernel()
        connection = await gateway.connect(kernel_id)
        for into in effort.rounds(figures, 500):
            with into.timed(_OURS):
                run(stub, context_id, "1+1")
            with into.timed("run of 1+1 by jupyter_client", floor=_OURS):
                client.execute_interactive("1+1", timeout=_TIMEOUT_S, output_hook=_ignore)
            with into.timed("run of 1+1 by Jupyter Kernel Gateway", floor=_OURS):
                await _execute(connection)
        connection.close()
        await gateway.end_kernel(kernel_id)
        delete(stub, context_id)
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        for into in effort.rounds(figures, 10):
            wait_for_pool(stub)
            with into.timed(_OUR_CREATE):
                context_id = create(stub)
                run(stub, context_id, "1+1")
                delete(stub, context_id)
            with into.timed(
                "start, first run and end of a kernel by jupyter_client", floor=_OUR_CREATE
            ):
                manager, client = _start_kernel()
                client.execute_interactive("1+1", timeout=_TIMEOUT_S, output_hook=_ignore)
                client.stop_channels()
                manager.shutdown_kernel(now=True)
            with into.timed(
                "start, first run and end of a kernel by Jupyter Kernel Gateway", floor=_OUR_CREATE
            ):
                kernel_id = await gateway.start_kernel()
                connection = await gateway.connect(kernel_id)
                await _execute(connection)
                connection.close()
                await gateway.end_kernel(kernel_id)


def _ignore(message: object) -> None:
    pass


def _start_kernel() -> tuple[KernelManager, BlockingKernelClient]:
    """Starts a kernel of the interpreter that runs this, whatever kernels the machine has."""
    return start_new_kernel(
        startup_timeout=_TIMEOUT_S, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # type: ignore[no-any-return]


@contextlib.contextmanager
def _gateway() -> Iterator[str]:
    """Runs a gateway; yields where it listens, once it is started and before it serves."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "kernel_gateway", "--KernelGatewayApp.ip=127.0.0.1"]
        command += [f"--KernelGatewayApp.port={port}", "--KernelGatewayApp.port_retries=0"]
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(_TIMEOUT_S)


class _Gateway:
    """The calls of a gateway."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client = AsyncHTTPClient()

    async def wait(self) -> None:
        """Waits until it serves.

        Raises:
            OSError: It does not come.
        """
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                await self._client.fetch(f"http://{self._address}/api")
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def start_kernel(self) -> str:
        """Starts a kernel and returns its id."""
        request = HTTPRequest(
            f"http://{self._address}/api/kernels",
            method="POST",
            body=json.dumps({"name": "python3"}),
            request_timeout=_TIMEOUT_S,
        )
        answer = await self._client.fetch(request)
        return str(json.loads(answer.body)["id"])

    async def connect(self, kernel_id: str) -> WebSocketClientConnection:
        """Opens a kernel's channels."""
        return await websocket_connect(f"ws://{self._address}/api/kernels/{kernel_id}/channels")

    async def end_kernel(self, kernel_id: str) -> None:
        """Ends a kernel."""
        url = f"http://{self._address}/api/kernels/{kernel_id}"
        await self._client.fetch(HTTPRequest(url, method="DELETE", request_timeout=_TIMEOUT_S))


async def _execute(connection: WebSocketClientConnection) -> None:
    """Runs 1+1, and reads until it has ended and all of its output has come."""
    message_id = uuid.uuid4().hex
    header = {
        "msg_id": message_id,
        "msg_type": "execute_request",
        "session": "s",
        "username": "u",
        "version": "5.3",
    }
    message = {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": _EXECUTE,
        "channel": "shell",
    }
    await connection.write_message(json.dumps(message))
    replied = idle = False
    while not (replied and idle):
        read = await asyncio.wait_for(connection.read_message(), _TIMEOUT_S)
        assert isinstance(read, str), "the gateway has closed the connection"
        answer = json.loads(read)
        if answer["parent_header"].get("msg_id") != message_id:
            continue
        kind = answer["msg_type"]
        replied = replied or kind == "execute_reply"
        idle = idle or (kind == "status" and answer["content"]["execution_state"] == "idle")

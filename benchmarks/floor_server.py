"""The floor: a server of the same stack that does nothing. Prints its address."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import uvloop

SERVICE = "benchmark.Floor"
CHUNK = bytes(64 * 1024)


async def empty(request: bytes, context: object) -> bytes:
    """Answers with nothing."""
    return b""


async def stream(request: bytes, context: object) -> AsyncIterator[bytes]:
    """Sends as many chunks of 64 KiB as the request says."""
    for _ in range(int(request)):
        yield CHUNK


async def main() -> None:
    """Serves until it is killed."""
    server = grpc.aio.server()
    handlers = {
        "Empty": grpc.unary_unary_rpc_method_handler(empty),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())

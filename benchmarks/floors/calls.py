"""The floor: a server of the same stack that does nothing. Prints its address, and ends with its input."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop

SERVICE = "benchmark.Floor"

# The options of `codecontext_service.server.app`.
OPTIONS = [
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4 << 20),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


async def empty(request: bytes, context: object) -> bytes:
    """Answers with nothing."""
    return b""


async def stream(request: bytes, context: object) -> AsyncIterator[bytes]:
    """Sends messages; the request says how many, and of how many bytes."""
    count, size = map(int, request.split())
    message = bytes(size)
    for _ in range(count):
        yield message


async def sink(messages: AsyncIterator[bytes], context: object) -> bytes:
    """Reads messages to their end."""
    async for _ in messages:
        pass
    return b""


async def main() -> None:
    """Serves until standard input ends."""
    server = grpc.aio.server(options=OPTIONS)
    handlers: dict[str, Any] = {
        "Empty": grpc.unary_unary_rpc_method_handler(empty),
        "Sink": grpc.stream_unary_rpc_method_handler(sink),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(main())

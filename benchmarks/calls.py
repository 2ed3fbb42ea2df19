"""The calls that are measured: of the floor's server, and of the server's bare stub."""

from __future__ import annotations

import time

import grpc

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

CHUNK = 64 * 1024

EMPTY_CALL = "empty call"
"""The name of the figure that most others are compared to."""


class Floor:
    """The calls of the floor's server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.empty: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/benchmark.Floor/Empty"
        )
        self._stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(
            "/benchmark.Floor/Stream"
        )
        self._sink: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(
            "/benchmark.Floor/Sink"
        )

    def call(self) -> None:
        """Makes an empty unary call."""
        self.empty(b"")

    def first_message(self) -> float:
        """Reads a stream of one message, and returns the moment at which it comes."""
        came = 0.0
        for _ in self._stream(b"1 1"):
            came = time.perf_counter()
        return came

    def read(self, messages: int, size: int = CHUNK) -> int:
        """Reads a stream of messages of a size in bytes, and returns how many bytes it had."""
        return sum(map(len, self._stream(b"%d %d" % (messages, size))))

    def write(self, messages: int, size: int) -> None:
        """Sends a stream of messages of a size in bytes."""
        message = bytes(size)
        self._sink(message for _ in range(messages))


def create(stub: CodeContextServiceStub, language: str = "", *, runtime: str = "") -> str:
    """Creates a context of a language, Python by default, or of a runtime, and returns its id."""
    request = pb.CreateCodeContextRequest(language=language, runtime=runtime)
    return stub.CreateCodeContext(request).context.id


def run(stub: CodeContextServiceStub, context_id: str, code: str) -> pb.RunCodeResponse:
    """Runs code, which must not fail."""
    answer = stub.RunCode(pb.RunCodeRequest(context_id=context_id, code=code))
    assert not answer.execution.HasField("error"), answer.execution.error
    return answer


def read_stdout(stub: CodeContextServiceStub, context_id: str, code: str) -> int:
    """Streams a run, and returns how many bytes it has written."""
    request = pb.RunCodeStreamRequest(context_id=context_id, code=code)
    return sum(len(answer.event.stdout) for answer in stub.RunCodeStream(request))


def delete(stub: CodeContextServiceStub, context_id: str, *, force: bool = False) -> None:
    """Deletes a context."""
    stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=context_id, force=force))


def languages(stub: CodeContextServiceStub) -> list[str]:
    """Returns the languages that the server has."""
    runtimes = stub.GetServerInfo(pb.GetServerInfoRequest()).runtimes
    return list(dict.fromkeys(runtime.language for runtime in runtimes if not runtime.failure))


def wait_for_pool(stub: CodeContextServiceStub, name: str = "python") -> None:
    """Waits until the pool of a runtime is full and the server has nothing to do."""
    while True:
        runtimes = stub.GetServerInfo(pb.GetServerInfoRequest()).runtimes
        runtime = next(each for each in runtimes if each.name == name)
        if runtime.pool_ready >= runtime.pool_size:
            return
        time.sleep(0.002)

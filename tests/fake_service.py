"""A real gRPC server with small servicers of the tests' own, to try the client against."""
# ruff: noqa: N802  # servicers have the names of the protocol

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from codecontext.v1 import (
    code_context_pb2,
    code_context_service_pb2_grpc,
    execution_pb2,
    file_service_pb2_grpc,
    sandbox_service_pb2_grpc,
)
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.execution_pb2 import ExecutionEvent

DETAILS_KEY = "grpc-status-details-bin"


def fail(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    reason: str = "",
    message: str = "it failed",
    *details: Message,
    **metadata: str,
) -> Any:
    """Ends a call with an error as the service sends it."""
    everything = list(details)
    if reason:
        everything.append(
            error_details_pb2.ErrorInfo(reason=reason, domain="codecontext.v1", metadata=metadata)
        )
    packed = []
    for detail in everything:
        one = Packed()
        one.Pack(detail)
        packed.append(one)
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message, details=packed)
    context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
    context.abort(code, message)


def events(*contents: dict[str, Any], execution_id: str = "e1") -> Iterator[ExecutionEvent]:
    """Yields events numbered from 1, each from the one field that it sets."""
    for sequence, content in enumerate(contents, 1):
        yield ExecutionEvent(execution_id=execution_id, sequence=sequence, **content)


STARTED: dict[str, Any] = {"started": execution_pb2.ExecutionStarted(execution_count=1)}
COMPLETED: dict[str, Any] = {
    "completed": execution_pb2.ExecutionCompleted(
        outcome=execution_pb2.EXECUTION_OUTCOME_SUCCEEDED, state_kept=True
    )
}

Run = Callable[[pb.RunCodeStreamRequest, grpc.ServicerContext], Iterator[ExecutionEvent]]


class Contexts(code_context_service_pb2_grpc.CodeContextServiceServicer):
    """Keeps the ids of contexts, and runs what the test says."""

    def __init__(self, run: Run | None = None) -> None:
        self._ids = itertools.count(1)
        self._run = run or (lambda request, context: events(STARTED, COMPLETED))
        self.live: dict[str, code_context_pb2.CodeContext] = {}
        self.requests: list[Any] = []
        self.cancelled = threading.Event()
        self.creating: Callable[[], None] = lambda: None

    def CreateCodeContext(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        self.creating()
        made = code_context_pb2.CodeContext(
            id=f"c{next(self._ids)}",
            language=request.language,
            sandbox_id="s1",
            labels=request.labels,
            state=code_context_pb2.CODE_CONTEXT_STATE_IDLE,
        )
        self.live[made.id] = made
        return pb.CreateCodeContextResponse(context=made)

    def DeleteCodeContext(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        if self.live.pop(request.context_id, None) is None:
            fail(context, grpc.StatusCode.NOT_FOUND, "CONTEXT_NOT_FOUND")
        return pb.DeleteCodeContextResponse()

    def RunCodeStream(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        context.add_callback(lambda: context.code() or self.cancelled.set())
        if request.context_id not in self.live:
            fail(
                context,
                grpc.StatusCode.NOT_FOUND,
                "CONTEXT_DELETED",
                context_id=request.context_id,
            )
        for event in self._run(request, context):
            yield pb.RunCodeStreamResponse(event=event)
        context.set_code(grpc.StatusCode.OK)


@contextlib.contextmanager
def serving(*servicers: Any) -> Iterator[str]:
    """Serves on a free port; yields the target."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
    for servicer in servicers:
        for module, service in (
            (code_context_service_pb2_grpc, "CodeContextService"),
            (sandbox_service_pb2_grpc, "SandboxService"),
            (file_service_pb2_grpc, "FileService"),
        ):
            if isinstance(servicer, getattr(module, f"{service}Servicer")):
                getattr(module, f"add_{service}Servicer_to_server")(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()

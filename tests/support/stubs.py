"""The generated stubs on a plain channel: calls as another program would make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub
from codecontext.v1.execution_pb2 import ExecutionEvent
from codecontext.v1.file_service_pb2_grpc import FileServiceStub

MAX_MESSAGE_BYTES = 3 << 20
"""No message from the server is larger, so these channels receive none that is."""


@contextmanager
def channel_to(target: str, options: Sequence[tuple[str, Any]] = ()) -> Iterator[grpc.Channel]:
    """Opens a channel, whose calls fail where the server sends a larger message than it promises."""
    always = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(target, [*always, *options]) as channel:
        yield channel


@contextmanager
def connected(
    target: str, options: Sequence[tuple[str, Any]] = ()
) -> Iterator[CodeContextServiceStub]:
    """Connects a stub, whose channel may have other options than gRPC's own."""
    with channel_to(target, options) as channel:
        yield CodeContextServiceStub(channel)


@contextmanager
def connected_to_files(target: str) -> Iterator[FileServiceStub]:
    """Connects a stub of the service for files."""
    with channel_to(target) as channel:
        yield FileServiceStub(channel)


@dataclass
class Refusal:
    """How a call failed, with all the details that came with its status."""

    code: grpc.StatusCode
    message: str
    info: error_details_pb2.ErrorInfo | None = None
    fields: dict[str, str] = field(default_factory=dict)
    """Descriptions of `BadRequest`, by field; the part of the name in brackets is left out."""
    quotas: list[str] = field(default_factory=list)
    """Subjects of `QuotaFailure`."""

    @property
    def reason(self) -> str:
        """The reason of its `ErrorInfo`, which must be this service's own."""
        assert self.info is not None, self
        assert self.info.domain == "codecontext.v1"
        return self.info.reason


def refusal_of(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Refusal:
    """Makes a call (a streaming one to its end) that must fail, and returns how it did."""

    def make() -> None:
        answer = call(*args, **kwargs)
        if isinstance(answer, grpc.RpcError):  # a stream is its own error
            for _ in answer:  # type: ignore[attr-defined]  # grpc's stream is an iterator too
                pass

    with pytest.raises(grpc.RpcError) as raised:
        make()
    error: Any = raised.value
    refusal = Refusal(error.code(), error.details())
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info, bad, quota = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.QuotaFailure(),
        )
        if detail.Unpack(info):
            refusal.info = info
        elif detail.Unpack(bad):
            for violation in bad.field_violations:
                refusal.fields[violation.field.partition("[")[0]] = violation.description
        elif detail.Unpack(quota):
            refusal.quotas += [violation.subject for violation in quota.violations]
    return refusal


def kinds(events: list[ExecutionEvent]) -> list[str]:
    """The kind of each event, in their order."""
    return [str(event.WhichOneof("event")) for event in events]

"""Every failure of a call is one typed exception."""
# ruff: noqa: N802  # servicers have the names of the protocol

import pickle
from typing import Any

import grpc
import pytest
from fake_service import fail, serving
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

import codecontext
from codecontext import CodeContextClient, CodeContextError, FieldViolation, QuotaViolation, errors
from codecontext.v1 import code_context_service_pb2_grpc
from codecontext.v1.error_reason_pb2 import ErrorReason

REASONS = [
    name.removeprefix("ERROR_REASON_")
    for name in ErrorReason.keys()  # noqa: SIM118  # an enum, not a mapping
    if name != "ERROR_REASON_UNSPECIFIED"
]


class Failing(code_context_service_pb2_grpc.CodeContextServiceServicer):
    def __init__(self, *args: Any, **metadata: str) -> None:
        self.args = args
        self.metadata = metadata

    def DeleteCodeContext(self, request: Any, context: Any) -> Any:
        fail(context, *self.args, **self.metadata)


def caught(*args: Any, **metadata: str) -> CodeContextError:
    with serving(Failing(*args, **metadata)) as target, CodeContextClient(target) as client:
        with pytest.raises(CodeContextError) as raised:
            client.delete_code_context("c1")
        return raised.value


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_a_class(reason: str) -> None:
    """Each reason of the protocol has a class, which is exported and knows its reason and code."""
    kind = errors.BY_REASON[reason]
    assert getattr(codecontext, kind.__name__) is kind
    assert kind().reason == reason
    assert kind().code is not grpc.StatusCode.UNKNOWN


def test_no_class_has_a_reason_that_is_not() -> None:
    """No class claims a reason that the protocol does not have."""
    assert set(errors.BY_REASON) == set(REASONS)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name != "OK"])
def test_every_status_code_has_a_class(code: grpc.StatusCode) -> None:
    """An error without rich details gets the class of its status code, and an empty reason."""
    error = caught(code)
    assert type(error) is errors.BY_CODE[code]
    assert (error.code, error.reason, error.message) == (code, "", "it failed")


def test_error_info() -> None:
    """The reason decides the class, and metadata names the thing that is meant."""
    error = caught(
        grpc.StatusCode.FAILED_PRECONDITION, "CONTEXT_EXECUTING", "busy", execution_id="e7"
    )
    assert type(error) is codecontext.ContextExecutingError
    assert (error.reason, error.message) == ("CONTEXT_EXECUTING", "busy")
    assert error.execution_id == "e7"
    assert isinstance(error.__cause__, grpc.RpcError)


def test_all_details() -> None:
    """Field violations, quota violations and the retry delay arrive as plain values."""
    error = caught(
        grpc.StatusCode.UNAVAILABLE,
        "RUNTIME_UNAVAILABLE",
        "no",
        error_details_pb2.BadRequest(
            field_violations=[{"field": "language", "description": "unknown"}]
        ),
        error_details_pb2.QuotaFailure(violations=[{"subject": "host", "description": "full"}]),
        error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2)),
    )
    assert error.field_violations == (FieldViolation("language", "unknown"),)
    assert error.quota_violations == (QuotaViolation("host", "full"),)
    assert error.retry_delay is not None
    assert error.retry_delay.total_seconds() == 2


def test_a_reason_of_a_newer_server() -> None:
    """A reason that this client does not know keeps its name and gets the class of its code."""
    error = caught(grpc.StatusCode.NOT_FOUND, "MOON_NOT_FOUND")
    assert type(error) is codecontext.NotFoundError
    assert error.reason == "MOON_NOT_FOUND"


def test_details_that_cannot_be_read() -> None:
    """Broken details do not hide the status that they came with."""

    class Broken(code_context_service_pb2_grpc.CodeContextServiceServicer):
        def DeleteCodeContext(self, request: Any, context: grpc.ServicerContext) -> Any:
            context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
            context.abort(grpc.StatusCode.NOT_FOUND, "gone")

    with (
        serving(Broken()) as target,
        CodeContextClient(target) as client,
        pytest.raises(codecontext.NotFoundError, match="gone"),
    ):
        client.delete_code_context("c1")


def test_nobody_listens() -> None:
    """A refused connection is an UnavailableError without a reason."""
    with serving() as target:
        pass
    with (
        CodeContextClient(target) as client,
        pytest.raises(codecontext.UnavailableError) as raised,
    ):
        client.delete_code_context("c1")
    assert raised.value.reason == ""


def test_kinds() -> None:
    """Deleted and lost contexts are kinds of contexts that are not found."""
    assert issubclass(codecontext.ContextDeletedError, codecontext.ContextNotFoundError)
    assert issubclass(codecontext.ContextLostError, codecontext.ContextNotFoundError)
    assert issubclass(codecontext.QuotaExceededError, codecontext.ResourceExhaustedError)


def test_pickle() -> None:
    """An exception survives pickling with all that it says."""
    error = codecontext.ContextExecutingError("busy", metadata={"execution_id": "e1"})
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.args, vars(copy)) == (error.args, vars(error))

"""Turns an error of gRPC into one of this client's exceptions."""

from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from codecontext.errors import (
    BY_CODE,
    BY_REASON,
    CodeContextError,
    FieldViolation,
    QuotaViolation,
)

DOMAIN = "codecontext.v1"
_DETAILS_KEY = "grpc-status-details-bin"


def _details(call: Any) -> dict[type, Any]:
    """Returns the rich details of a status by their type; those that can't be read are left out."""
    found: dict[type, Any] = {}
    for key, value in call.trailing_metadata() or ():
        if key != _DETAILS_KEY:
            continue
        try:
            status = status_pb2.Status.FromString(value)
        except DecodeError:
            continue
        for packed in status.details:
            for kind in (
                error_details_pb2.ErrorInfo,
                error_details_pb2.BadRequest,
                error_details_pb2.QuotaFailure,
                error_details_pb2.RetryInfo,
            ):
                if packed.type_url.rpartition("/")[2] == kind.DESCRIPTOR.full_name:
                    found[kind] = kind()
                    packed.Unpack(found[kind])
    return found


def error_from(raised: grpc.RpcError, request: Any = None) -> CodeContextError:
    """Returns the exception that says what a failed call's status says.

    The class is that of the reason, if this client knows it, else that of the status code. It names
    the id of the request, if that has one.
    """
    call = cast("grpc.Call", raised)
    code = call.code()
    details = _details(call)
    info = details.get(error_details_pb2.ErrorInfo)
    reason = info.reason if info is not None else ""
    known = BY_REASON.get(reason) if info is not None and info.domain == DOMAIN else None
    bad_request = details.get(error_details_pb2.BadRequest)
    quota_failure = details.get(error_details_pb2.QuotaFailure)
    retry_info = details.get(error_details_pb2.RetryInfo)
    request_id = getattr(request, "request_id", "")
    named = {"request_id": request_id} if request_id else {}
    return (known or BY_CODE.get(code, CodeContextError))(
        call.details() or "",
        code=code,
        reason=reason,
        metadata={**named, **(info.metadata if info is not None else {})},
        field_violations=[
            FieldViolation(violation.field, violation.description)
            for violation in (bad_request.field_violations if bad_request is not None else ())
        ],
        quota_violations=[
            QuotaViolation(violation.subject, violation.description)
            for violation in (quota_failure.violations if quota_failure is not None else ())
        ],
        retry_delay=retry_info.retry_delay.ToTimedelta() if retry_info is not None else None,
    )

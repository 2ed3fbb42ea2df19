"""The one place that turns the errors of the domain into gRPC statuses."""

from __future__ import annotations

import functools
import logging
import secrets
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from codecontext_service.domain import errors

logger = logging.getLogger(__name__)

DOMAIN = "codecontext.v1"

# A status travels in trailers, of which gRPC takes 8 KiB: a larger one would arrive as another error.
_MAX_TEXT_BYTES = 400
_MAX_VIOLATIONS_BYTES = 3000

_CODES: tuple[tuple[type[errors.ServiceError], int], ...] = (
    (errors.InvalidArgument, code_pb2.INVALID_ARGUMENT),
    (errors.NotFound, code_pb2.NOT_FOUND),
    (errors.FileExists, code_pb2.ALREADY_EXISTS),
    (errors.FileChecksumMismatch, code_pb2.DATA_LOSS),
    (errors.FailedPrecondition, code_pb2.FAILED_PRECONDITION),
    (errors.QuotaExceeded, code_pb2.RESOURCE_EXHAUSTED),
    (errors.Unavailable, code_pb2.UNAVAILABLE),
    (errors.PermissionDenied, code_pb2.PERMISSION_DENIED),
    (errors.NotImplementedHere, code_pb2.UNIMPLEMENTED),
)

_Servicer = TypeVar("_Servicer")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Context = grpc.aio.ServicerContext[Any, Any]


def _cut(text: str, max_bytes: int = _MAX_TEXT_BYTES) -> str:
    """Cuts a text that may hold what the caller sent."""
    content = text.encode("utf-8", "replace")
    if len(content) <= max_bytes:
        return content.decode()
    return content[:max_bytes].decode("utf-8", "ignore") + "…"


def _violations(
    violations: Sequence[errors.FieldViolation],
) -> Iterator[error_details_pb2.BadRequest.FieldViolation]:
    """Names each field that is wrong; the last one says how many more there are, if they are too many."""
    size = 0
    for number, violation in enumerate(violations):
        named = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(violation.field), description=_cut(violation.description)
        )
        size += named.ByteSize()
        if size > _MAX_VIOLATIONS_BYTES:
            more = f"and {len(violations) - number} more are wrong"
            yield error_details_pb2.BadRequest.FieldViolation(field=named.field, description=more)
            return
        yield named


def to_status(error: errors.ServiceError) -> status_pb2.Status:
    """Turns an error into a status with its details."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), code_pb2.INTERNAL)
    details: list[Any] = [
        error_details_pb2.ErrorInfo(
            reason=error.reason,
            domain=DOMAIN,
            metadata={key: _cut(value, 200) for key, value in error.metadata.items()},
        )
    ]
    if isinstance(error, errors.InvalidArgument):
        details.append(error_details_pb2.BadRequest(field_violations=_violations(error.violations)))
    if isinstance(error, errors.QuotaExceeded):
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=error.subject, description=_cut(error.message)
        )
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration(nanos=0)
        delay.FromMicroseconds(int(error.retry_after_s * 1e6))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        any_detail = any_pb2.Any()
        any_detail.Pack(detail)
        packed.append(any_detail)
    return status_pb2.Status(code=code, message=_cut(error.message), details=packed)


async def abort(context: _Context, error: Exception, method: str) -> None:
    """Ends a call with the status of an error. A bug is logged without what users' code was or wrote."""
    if not isinstance(error, errors.ServiceError):
        incident = secrets.token_hex(8)
        where = "".join(traceback.format_tb(error.__traceback__))
        fields = {"incident": incident, "method": method, "error": type(error).__name__}
        logger.error("a bug in the service:\n%s", where, extra=fields)
        error = errors.ServiceError(
            f"a bug in the service: report it with the incident {incident}", incident=incident
        )
    await context.abort_with_status(rpc_status.to_status(to_status(error)))


def unary(
    method: Callable[[_Servicer, _Request, _Context], Awaitable[_Response]],
) -> Callable[[_Servicer, _Request, _Context], Awaitable[_Response]]:
    """Decorates a unary method of a servicer: its errors become statuses."""

    @functools.wraps(method)
    async def answer(self: _Servicer, request: _Request, context: _Context) -> _Response:
        try:
            return await method(self, request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await abort(context, error, method.__name__)
            raise  # never reached: abort raises

    return answer


def stream(
    method: Callable[[_Servicer, _Request, _Context], AsyncIterator[_Response]],
) -> Callable[[_Servicer, _Request, _Context], AsyncIterator[_Response]]:
    """Decorates a server-streaming method of a servicer: its errors become statuses."""

    @functools.wraps(method)
    async def answer(
        self: _Servicer, request: _Request, context: _Context
    ) -> AsyncIterator[_Response]:
        try:
            async for response in method(self, request, context):
                yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await abort(context, error, method.__name__)

    return answer

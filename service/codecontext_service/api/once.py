"""At most once, at the edge: which calls are the same one made again."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from codecontext_service.contexts.idempotency import FirstAnswers, RequestKey

from .validation import Checks

_NOT_PAYLOAD = ("request_id", "after_sequence")
"""Fields that say which call it is, or where its answer goes on, and not what it asks for."""

_Context = grpc.aio.ServicerContext[Any, Any]
_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)


class HasAnswers(Protocol):
    """A servicer that remembers what it has answered."""

    answers: FirstAnswers


_Servicer = TypeVar("_Servicer", bound=HasAnswers)


def payload_of(request: Message) -> bytes:
    """Returns a digest of what a request asks for: equal for a call that is made again."""
    payload = type(request)()
    payload.CopyFrom(request)
    for field in _NOT_PAYLOAD:
        if field in payload.DESCRIPTOR.fields_by_name:
            payload.ClearField(field)
    return hashlib.sha256(payload.SerializeToString(deterministic=True)).digest()


def once(
    method: Callable[[_Servicer, _Request, _Context], Coroutine[Any, Any, _Response]],
) -> Callable[[_Servicer, _Request, _Context], Awaitable[_Response]]:
    """Decorates a unary method of a servicer: a `request_id` that came before gets the first answer.

    With a `request_id` the work goes on when its caller goes away, and failures are not remembered.
    """

    @functools.wraps(method)
    async def answer(self: _Servicer, request: _Request, context: _Context) -> _Response:
        request_id: str = request.request_id  # type: ignore[attr-defined]  # each such request has one
        if not request_id:
            return await method(self, request, context)
        checks = Checks()
        checks.request_id(request_id)
        checks.finish()
        return await self.answers.once(
            RequestKey(method.__name__, request_id),
            payload_of(request),
            lambda: method(self, request, context),
            lambda response: response.ByteSize(),
        )

    return answer

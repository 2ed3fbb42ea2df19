"""A call as a value: which method, with what request, and what its answer means.

The functions of the modules `_*_calls` describe each call once; the synchronous and the
asynchronous client only differ in how they make it.
"""

import functools
import inspect
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

import grpc

from codecontext import _wire

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """A call with one answer."""

    stub: type[Any]
    method: Callable[[Any], Any]
    request: Any
    convert: Callable[[Any], T_co]
    deadline: _wire.Seconds | None
    repeatable: bool = False
    """Whether it may be made again while nothing answers: its request has a `request_id`."""


@dataclass(frozen=True, slots=True)
class Pages(Generic[T_co]):
    """A call for a list that comes page by page: `request.page_token` asks for the next one."""

    stub: type[Any]
    method: Callable[[Any], Any]
    request: Any
    convert: Callable[[Any], Iterable[T_co]]
    deadline: _wire.Seconds | None


@dataclass(frozen=True, slots=True)
class Stream(Generic[T_co]):
    """A call that is answered by a stream; without a deadline unless it has one."""

    stub: type[Any]
    method: Callable[[Any], Any]
    request: Any
    convert: Callable[[Any], T_co]
    deadline: _wire.Seconds | None = None
    resumes_s: float | None = None
    """For how long after a cut it may go on from its last event; None if it can't."""
    farewell: Call[Any] | None = None
    """What to call when it is left before its end, so that the server does not wait for a return."""


# These three only tie the types of a method, its request and its answer together.


def call(
    stub: type[S],
    method: Callable[[S], "grpc.UnaryUnaryMultiCallable[Request, Response]"],
    request: Request,
    convert: Callable[[Response], T],
    deadline: _wire.Seconds | None,
    *,
    repeatable: bool = False,
) -> Call[T]:
    """Describes a call with one answer."""
    return Call(stub, method, request, convert, deadline, repeatable)


def pages(
    stub: type[S],
    method: Callable[[S], "grpc.UnaryUnaryMultiCallable[Request, Response]"],
    request: Request,
    convert: Callable[[Response], Iterable[T]],
    deadline: _wire.Seconds | None,
) -> Pages[T]:
    """Describes a call for a list."""
    return Pages(stub, method, request, convert, deadline)


def stream(
    stub: type[S],
    method: Callable[[S], "grpc.UnaryStreamMultiCallable[Request, Response]"],
    request: Request,
    convert: Callable[[Response], T],
    deadline: _wire.Seconds | None = None,
    *,
    resumes_s: float | None = None,
    farewell: Call[Any] | None = None,
) -> Stream[T]:
    """Describes a call that is answered by a stream."""
    return Stream(stub, method, request, convert, deadline, resumes_s, farewell)


def next_page(request: Any, response: Any) -> Any:
    """Returns the request for the page after a response; None after the last one."""
    if not response.next_page_token:
        return None
    following = type(request)()
    following.CopyFrom(request)
    following.page_token = response.next_page_token
    return following


def as_method(
    build: Callable[..., Any], method: Callable[P, T], container: Any = None
) -> Callable[P, T]:
    """Gives a method of a client the name, the documentation and the signature of its description.

    Args:
        build: Describes the call.
        method: Makes it.
        container: What the method returns the answers in, if it has many of them.
    """
    functools.update_wrapper(method, build)
    signature = inspect.signature(build)
    (answer,) = typing.get_args(signature.return_annotation)
    if container is not None:
        answer = container[answer]
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__annotations__ = {**build.__annotations__, "return": answer}
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[this, *signature.parameters.values()], return_annotation=answer
    )
    return method

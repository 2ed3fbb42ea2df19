"""Small conversions between Python values and what travels on the wire."""

import enum
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

Seconds = float | timedelta
"""A length of time: seconds as a number, or a timedelta."""

E = TypeVar("E", bound=enum.StrEnum)


class HasId(Protocol):
    """A context or a sandbox, as this client or the generated code has it."""

    @property
    def id(self) -> str: ...


class HasExecutionId(Protocol):
    """An execution or one of its events, as this client or the generated code has it."""

    @property
    def execution_id(self) -> str: ...


def text(value: str) -> str:
    """Returns the text with lone surrogates replaced by U+FFFD: a proto string can't hold them."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def texts(values: Mapping[str, str] | None) -> dict[str, str]:
    """Returns the mapping with lone surrogates in keys and values replaced."""
    return {text(key): text(value) for key, value in (values or {}).items()}


def request_id(chosen: str | None) -> str:
    """Returns the caller's own id of a request, or a new one: with it the request can be repeated."""
    return text(chosen) if chosen else str(uuid.uuid4())


def id_of(thing: str | HasId) -> str:
    """Returns the id of a context or sandbox, or the id itself."""
    return text(thing if isinstance(thing, str) else thing.id)


def sandbox_id_of(owner: str | HasId) -> str:
    """Returns the id of the sandbox that is meant by its id, by itself or by a context in it."""
    sandbox_id = getattr(owner, "sandbox_id", None)  # a context has one, a sandbox is one
    return sandbox_id if isinstance(sandbox_id, str) else id_of(owner)


def execution_id_of(thing: str | HasExecutionId) -> str:
    """Returns the id of an execution, or the id itself."""
    return text(thing if isinstance(thing, str) else thing.execution_id)


def to_timedelta(value: Seconds) -> timedelta:
    """Returns seconds, or a timedelta, as a timedelta."""
    return value if isinstance(value, timedelta) else timedelta(seconds=value)


def to_duration(value: Seconds | None) -> Duration | None:
    """Returns a Duration; None stays None, which leaves a field unset."""
    if value is None:
        return None
    duration = Duration()
    duration.FromTimedelta(to_timedelta(value))
    return duration


def from_duration(message: Message, field: str) -> timedelta | None:
    """Returns a Duration field; None if it is unset."""
    if not message.HasField(field):
        return None
    duration: Duration = getattr(message, field)
    return duration.ToTimedelta()


def from_timestamp(message: Message, field: str) -> datetime | None:
    """Returns a Timestamp field as an aware datetime in UTC; None if it is unset."""
    if not message.HasField(field):
        return None
    timestamp: Timestamp = getattr(message, field)
    return timestamp.ToDatetime(tzinfo=UTC)


def _prefix(wrapper: Any) -> str:
    name: str = wrapper.Name(0)
    return name.removesuffix("UNSPECIFIED")


def from_enum(kind: type[E], wrapper: Any, number: int) -> E:
    """Returns an enum value without its prefix; UNSPECIFIED if this client is too old for it."""
    names: list[str] = wrapper.keys()
    numbers: list[int] = wrapper.values()
    name = dict(zip(numbers, names, strict=True)).get(number, "").removeprefix(_prefix(wrapper))
    return kind(name) if name in kind.__members__ else kind("UNSPECIFIED")


def to_enum(wrapper: Any, value: str | None) -> Any:
    """Returns the number of an enum value that is named without its prefix; None is UNSPECIFIED.

    Raises:
        ValueError: there is no such value.
    """
    return wrapper.Value(_prefix(wrapper) + (value or "UNSPECIFIED"))

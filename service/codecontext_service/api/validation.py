"""Checks of requests: every field that is wrong is named, all of them at once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from codecontext_service.domain.errors import FieldViolation, InvalidArgument

NumberT = TypeVar("NumberT", int, float)

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_ENV_BYTES = 128 * 1024
_MAX_LABELS, _MAX_LABEL = 64, 256
_MAX_REQUEST_ID = 128
MAX_SECONDS = 10 * 366 * 86_400.0
"""The longest time that may be asked for: ten years."""


class Checks:
    """Collects what is wrong with a request."""

    def __init__(self) -> None:
        """Starts with nothing wrong."""
        self._violations: list[FieldViolation] = []

    def wrong(self, field: str, description: str) -> None:
        """Takes note of a field that is wrong.

        Args:
            field: Its name.
            description: What is wrong, and what would be right.
        """
        self._violations.append(FieldViolation(field, description))

    def finish(self) -> None:
        """Ends the checks.

        Raises:
            InvalidArgument: Something was wrong.
        """
        if self._violations:
            raise self.failure()

    def failure(self, *more: FieldViolation) -> InvalidArgument:
        """Returns the error of all that was wrong, with what another check has found."""
        return InvalidArgument(*self._violations, *more)

    def seconds(
        self, request: Message, field: str, default: float = 0.0, *, name: str = ""
    ) -> float:
        """Returns a duration in seconds; the default if it is unset.

        Args:
            request: What has the field.
            field: The field.
            default: What it is if it is unset.
            name: What the caller knows it by; by default the field's own name.
        """
        if not request.HasField(field):
            return default
        duration: Duration = getattr(request, field)
        field = name or field
        seconds = duration.seconds + duration.nanos / 1e9
        if seconds < 0 or (
            (duration.seconds < 0) != (duration.nanos < 0)
            and 0
            not in (
                duration.seconds,
                duration.nanos,
            )
        ):
            self.wrong(field, "is negative: give zero or more")
        elif (
            not math.isfinite(seconds) or seconds > MAX_SECONDS or abs(duration.nanos) > 999_999_999
        ):
            self.wrong(field, f"is no time of at most {MAX_SECONDS:.0f} seconds")
        else:
            return seconds
        return default

    def env(self, field: str, variables: Mapping[str, str]) -> dict[str, str]:
        """Returns environment variables whose names and values can be such."""
        for name, value in variables.items():
            if not _ENV_NAME.fullmatch(name):
                self.wrong(
                    f"{field}[{name[:80]!r}]",
                    "is no name of a variable: take letters, digits and '_', and no digit at the begin",
                )
            elif "\0" in value:
                self.wrong(
                    f"{field}[{name[:80]!r}]", "holds a NUL character, which no variable can"
                )
            elif len(value.encode()) + len(name) > _MAX_ENV_BYTES - 2:
                self.wrong(f"{field}[{name[:80]!r}]", f"is larger than {_MAX_ENV_BYTES} bytes")
        return dict(variables)

    def labels(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Returns labels that are few and short enough."""
        if len(labels) > _MAX_LABELS:
            self.wrong("labels", f"are more than {_MAX_LABELS}")
        for key, value in labels.items():
            if not 1 <= len(key) <= _MAX_LABEL or len(value) > _MAX_LABEL:
                self.wrong(
                    f"labels[{key[:80]!r}]",
                    f"keys have 1 to {_MAX_LABEL} characters, values at most {_MAX_LABEL}",
                )
        return dict(labels)

    def not_negative(self, field: str, number: NumberT) -> NumberT:
        """Returns a number that is zero or more."""
        if number < 0:
            self.wrong(field, "is negative: give zero or more")
        return number

    def code_size(self, code: str, most: int) -> None:
        """Checks how long code is.

        Args:
            code: The code.
            most: How many bytes it may have.
        """
        size = len(code.encode())
        if size > most:
            self.wrong("code", f"has {size} bytes; at most {most} are allowed")

    def request_id(self, request_id: str) -> None:
        """Checks an id that makes a retry safe; an empty one is none."""
        if len(request_id) > _MAX_REQUEST_ID or not (
            request_id.isascii() and request_id.isprintable()
        ):
            self.wrong(
                "request_id",
                f"is no id of at most {_MAX_REQUEST_ID} characters of printable ASCII: give a UUID",
            )

"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from codecontext_service.cli.failures import refuse
from codecontext_service.units import parse_duration

NAME_VALUE = Parameter(negative=(), metavar="NAME=VALUE")
"""An option `NAME=VALUE` that may be given several times."""

LANGUAGE = Parameter(name=("--language", "-l"))
"""The option of a language."""


def _no_option(_: object, value: str | None) -> None:
    if value is not None and value.startswith("-") and value != "-":
        raise ValueError(f"unknown option (a file of that name is ./{value})")


PATH_OR_STREAM = Parameter(allow_leading_hyphen=True, validator=_no_option)
"""An argument that is a path, or `-` for standard input or output."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """How to reach the server, and how to answer."""

    target: Annotated[str, Parameter(name=("--target", "-t"), env_var="CODECONTEXT_TARGET")] = (
        "127.0.0.1:50051"
    )
    """Address of the server: `host:port` or `unix:/path`."""

    json: Annotated[bool, Parameter(negative=())] = False
    """Write JSON for programs instead of text for people."""


CLIENT_DEFAULTS = ClientOptions()


def pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """Reads `NAME=VALUE` options.

    Args:
        given: The values, as given.
        option: The option's name, for the error.

    Raises:
        SystemExit: One has no `=`.
    """
    found = {}
    for item in given or ():
        name, equals, value = item.partition("=")
        if not equals or not name:
            refuse(f"{option}: {item!r} is not of the form NAME=VALUE")
        found[name] = value
    return found


def duration(given: str | None, option: str) -> float | None:
    """Reads an option that is a length of time.

    Args:
        given: The value, as given; None if it was not.
        option: The option's name, for the error.

    Returns:
        Seconds, or None.

    Raises:
        SystemExit: It is no length of time.
    """
    if given is None:
        return None
    try:
        return parse_duration(given)
    except ValueError as error:
        refuse(f"{option}: {error}")

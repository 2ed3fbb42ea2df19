"""Errors of the service as one line that says what to do next."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from codecontext_service.cli import exits

if TYPE_CHECKING:
    from codecontext import CodeContextClient, CodeContextError
    from codecontext_service.cli.options import ClientOptions

_GONE = "`codecontext ls` lists those that are there"
_RETRY = "retry in a moment"
_HINTS = {
    "CONTEXT_NOT_FOUND": _GONE,
    "CONTEXT_DELETED": _GONE,
    "CONTEXT_LOST": _GONE,
    "CONTEXT_EXECUTING": "wait, or stop it with `codecontext interrupt`; `codecontext rm --force` ends it",
    "CONTEXT_UNREACHABLE": _RETRY,
    "CONTEXT_FAILED": "`codecontext restart` gives it a fresh interpreter",
    "SERVER_STARTING": _RETRY,
    "SERVER_DRAINING": "it stops; retry when it is up again",
    "HOST_UNREACHABLE": _RETRY,
    "RUNTIME_UNAVAILABLE": "retry; `codecontext info` tells what is wrong with a runtime",
    "NOT_IMPLEMENTED": "this server does not offer it",
}


def say(text: str) -> None:
    """Writes a line to standard error, after this program's name.

    Args:
        text: What to say; line ends in it become spaces.
    """
    line = " ".join(text.split())
    sys.stderr.write(f"codecontext: {line.encode('utf-8', 'replace').decode()}\n")
    sys.stderr.flush()


def refuse(text: str) -> NoReturn:
    """Ends the program for a wrong use.

    Args:
        text: What is wrong and what would be right.
    """
    say(text)
    raise SystemExit(exits.USAGE)


def report(error: CodeContextError, options: ClientOptions) -> None:
    """Tells of an error of the service on standard error.

    Args:
        error: What the client raised.
        options: The target for the hint; with `json` the line is a JSON object.
    """
    code = error.code.name
    if options.json:
        failure = {
            "code": code,
            "reason": error.reason,
            "message": error.message,
            "metadata": error.metadata,
        }
        sys.stderr.write(json.dumps({"error": failure}) + "\n")
        sys.stderr.flush()
        return
    hint = _HINTS.get(error.reason, "")
    if code == "UNAVAILABLE" and not error.reason:
        hint = (
            f"is a server at {options.target}? "
            "`codecontext serve` starts one, --target names another"
        )
    say(f"{error}; {hint}" if hint else str(error))


@contextmanager
def connected(options: ClientOptions) -> Iterator[CodeContextClient]:
    """A client for the block; an error of the service in it ends the program with one line.

    Args:
        options: Where to connect.

    Raises:
        SystemExit: With `exits.SERVICE_FAILED`.
    """
    from codecontext import CodeContextClient, CodeContextError

    try:
        with CodeContextClient(options.target) as client:
            yield client
    except CodeContextError as error:
        report(error, options)
        raise SystemExit(exits.SERVICE_FAILED) from None

"""Page tokens: opaque to callers, and good for the filter alone that they were made for."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TypeVar

from google.protobuf.message import Message

from .validation import Checks

_AfterT = TypeVar("_AfterT", int, str)

_DEFAULT_SIZE, _MAX_SIZE = 100, 1000


def _digest(request: Message) -> str:
    filters = type(request)()
    filters.CopyFrom(request)
    for field in ("page_size", "page_token"):
        filters.ClearField(field)
    return hashlib.sha256(filters.SerializeToString(deterministic=True)).hexdigest()[:16]


def page_size(checks: Checks, requested: int) -> int:
    """Returns how many a page has."""
    if requested < 0:
        checks.wrong("page_size", "is negative: give zero or more")
    return min(requested or _DEFAULT_SIZE, _MAX_SIZE)


def make_token(request: Message, after: int | str | None) -> str:
    """Makes the token of the next page.

    Args:
        request: The request, whose fields beside `page_size` and `page_token` are its filter.
        after: Behind what the next page begins; None if there is none.
    """
    if after is None:
        return ""
    return base64.urlsafe_b64encode(json.dumps([after, _digest(request)]).encode()).decode()


def read_token(checks: Checks, request: Message, token: str) -> int:
    """Returns the number behind which the page of a token begins; 0 for the first page."""
    return _read_token(checks, request, token, 0)


def read_path_token(checks: Checks, request: Message, token: str) -> str:
    """Returns the path behind which the page of a token begins; empty for the first page."""
    return _read_token(checks, request, token, "")


def _read_token(checks: Checks, request: Message, token: str, first: _AfterT) -> _AfterT:
    if not token:
        return first
    try:
        content = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        after, digest = json.loads(content)
    except (ValueError, TypeError, RecursionError):
        after, digest = None, ""
    if not isinstance(after, type(first)):
        checks.wrong("page_token", "was not returned by this call: begin without one")
        return first
    if digest != _digest(request):
        checks.wrong(
            "page_token", "was returned for another filter: give the same one, or begin anew"
        )
    return after

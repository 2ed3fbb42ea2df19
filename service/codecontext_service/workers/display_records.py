"""The content of a `DISPLAY` packet: a JSON header, then the contents of its parts."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from .channel import ProtocolError, from_json, to_json

MAX_METADATA, MAX_METADATA_DEPTH = 64 * 1024, 20
"""The most bytes of a display's metadata as JSON, and how deep its values may be nested."""

MAX_INTEGER = 1 << 53
"""The largest integer in a display's metadata, whose numbers are doubles."""


def metadata_size(metadata: dict[str, Any]) -> int:
    """Returns the size of a display's metadata, in bytes as JSON.

    Raises:
        ValueError: It is too large, nested too deeply, no valid Unicode, or has a number that is no
            finite double.
    """
    if not metadata:
        return 0
    level: list[Any] = [metadata]
    for _ in range(MAX_METADATA_DEPTH):
        level = [
            value
            for each in level
            if isinstance(each, dict | list)
            for value in (each.values() if isinstance(each, dict) else each)
        ]
        if any(isinstance(value, int) and abs(value) > MAX_INTEGER for value in level):
            raise ValueError("metadata with an integer that is too large")
    if level:
        raise ValueError("metadata that is nested too deeply")
    size = len(json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode())
    if size > MAX_METADATA:
        raise ValueError("metadata that is too large")
    return size


def pack_display(header: dict[str, Any], parts: Sequence[tuple[str, bool, bytes]]) -> bytes:
    """Encodes a `DISPLAY` record: a JSON header, then the contents of its parts.

    Args:
        header: What goes beside the parts.
        parts: MIME type, whether it is text (UTF-8), and content of each part.

    Returns:
        The record.
    """
    head = to_json(
        {**header, "parts": [(mime, text, len(content)) for mime, text, content in parts]}
    )
    return b"".join([struct.pack(">I", len(head)), head, *(content for _, _, content in parts)])


def pack_text(kind: str, content: bytes) -> bytes:
    """Encodes the `DISPLAY` record of a text: what `pack_display` does, at the least cost.

    Args:
        kind: One of those of a display.
        content: The text, as UTF-8.

    Returns:
        The record.
    """
    head = (
        b'{"kind":"%s","parts":[["text/plain",true,%d]],"metadata":{},"omitted":0,"display_id":""}'
    )
    head %= kind.encode(), len(content)
    return struct.pack(">I", len(head)) + head + content


def unpack_display(record: bytes) -> tuple[dict[str, Any], list[tuple[str, bool, bytes]]]:
    """Decodes a `DISPLAY` record.

    Returns:
        The header without `parts`, and the parts, as given to `pack_display`.

    Raises:
        ProtocolError: It is no such record.
    """
    if len(record) < 4:
        raise ProtocolError("a display record that is cut")
    at = 4 + struct.unpack_from(">I", record)[0]
    header = from_json(record[4:at])
    parts = []
    try:
        for mime, text, length in header.pop("parts"):
            if not isinstance(mime, str) or length < 0 or at + length > len(record):
                raise ProtocolError("a display record whose parts do not fit")
            parts.append((mime, bool(text), record[at : at + length]))
            at += length
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("a display record without a list of parts") from error
    return header, parts

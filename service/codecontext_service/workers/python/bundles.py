"""MIME bundles of IPython's formatters, made ready for the wire."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from codecontext_service.workers.channel import MAX_MIME_TYPE, MAX_PARTS, metadata_size

from .streams import ERRORS, clean

_BINARY_PREFIXES = ("image/", "audio/", "video/", "font/")
_BINARY_TYPES = ("application/pdf", "application/octet-stream", "application/zip")

MAX_PART_BYTES = 32 << 20
"""A larger representation is left out, and counted."""


def _is_json(mime: str) -> bool:
    return mime == "application/json" or mime.endswith("+json")


def _is_binary(mime: str) -> bool:
    return mime != "image/svg+xml" and (mime.startswith(_BINARY_PREFIXES) or mime in _BINARY_TYPES)


def _part(mime: str, value: Any) -> tuple[str, bool, bytes]:
    if isinstance(value, bytes | bytearray | memoryview):
        return mime, False, bytes(value)
    if _is_json(mime) and not isinstance(value, str):
        value = _to_json(value)
    text = value if isinstance(value, str) else str(value)
    if _is_binary(mime):
        try:  # some objects give their images in base64, as Jupyter's messages have them
            return mime, False, base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            pass
    return mime, True, text.encode("utf-8", ERRORS)


def _to_json(value: Any) -> str:
    try:
        return json.dumps(value, default=repr)
    except (TypeError, ValueError, RecursionError):  # keys that are no text, a cycle, too deep
        return json.dumps(repr(value))


def _metadata(metadata: dict[str, Any] | None) -> tuple[dict[str, Any], int]:
    """Returns metadata that can be sent, and how many bytes of it were left out."""
    if not metadata:
        return {}, 0
    text = ""
    try:
        text = json.dumps(metadata, default=repr, skipkeys=True, ensure_ascii=False)
        result: dict[str, Any] = json.loads(clean(text, len(text)))
        metadata_size(result)
    except (TypeError, ValueError, RecursionError):
        return {}, max(1, len(text))
    return result, 0


def encode_bundle(
    data: dict[str, Any], metadata: dict[str, Any] | None
) -> tuple[dict[str, Any], list[tuple[str, bool, bytes]]]:
    """Encodes a MIME bundle.

    Args:
        data: Representations by MIME type: text, bytes, or (for JSON types) any value.
        metadata: Metadata of the bundle; what is no JSON in it is replaced by its `repr`. It is left
            out if it is too large.

    Returns:
        A header with `metadata` and `omitted` (bytes that were left out), and the parts: MIME type,
        whether it is text, content.
    """
    parts: list[tuple[str, bool, bytes]] = []
    sent, omitted = _metadata(metadata)
    for mime, value in data.items():
        if value is None:
            continue
        name = str(mime)
        part = _part(clean(name, len(name)), value)
        too_many = len(parts) >= MAX_PARTS or len(name) > MAX_MIME_TYPE
        if too_many or len(part[2]) > MAX_PART_BYTES:
            omitted += len(part[2])
        else:
            parts.append(part)
    return {"metadata": sent, "omitted": omitted}, parts

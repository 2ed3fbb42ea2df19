"""MIME bundles of IPython's formatters, made ready for the wire."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from codecontext_service.workers.channel import MAX_MIME_TYPE, MAX_PARTS
from codecontext_service.workers.display_records import MAX_INTEGER, metadata_size

from .streams import ERRORS, clean

_BINARY_PREFIXES = ("image/", "audio/", "video/", "font/")
_TEXT_TYPES = ("image/svg+xml", "application/javascript")
_BINARY_TYPES = ("application/pdf", "application/octet-stream", "application/zip")

MAX_PART_BYTES = 32 << 20
"""A larger representation is left out (`text/plain` is cut), and counted."""


_CONSTANTS = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) < 20 and abs(int(digits)) <= MAX_INTEGER else digits


def _is_json(mime: str) -> bool:
    return mime == "application/json" or mime.endswith("+json")


def _is_binary(mime: str) -> bool:
    return mime != "image/svg+xml" and (mime.startswith(_BINARY_PREFIXES) or mime in _BINARY_TYPES)


def _is_text(mime: str) -> bool:
    return mime.startswith("text/") or mime in _TEXT_TYPES or _is_json(mime)


def _is_unicode(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _part(mime: str, value: Any) -> tuple[str, bool, bytes]:
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return mime, _is_text(mime) and _is_unicode(data), data
    if isinstance(value, dict | list | tuple) or (_is_json(mime) and not isinstance(value, str)):
        value = _to_json(value)
    text = value if isinstance(value, str) else str(value)
    if _is_binary(mime):
        try:  # some objects give their images in base64, as Jupyter's messages have them
            return mime, False, base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            pass
    return mime, True, text.encode("utf-8", ERRORS)


def _dumps(value: Any, **options: Any) -> str:
    """Encodes a value as JSON, in which a number that is not finite is its repr, as in Jupyter.

    Raises:
        TypeError, ValueError, RecursionError: It can't be encoded.
    """
    try:
        return json.dumps(value, default=repr, allow_nan=False, **options)
    except ValueError:  # NaN or an infinity; anything else fails again
        text = json.dumps(value, default=repr, **options)
        return json.dumps(json.loads(text, parse_constant=_CONSTANTS.__getitem__), **options)


def _to_json(value: Any) -> str:
    try:
        return _dumps(value)
    except (TypeError, ValueError, RecursionError):  # keys that are no text, a cycle, too deep
        return json.dumps(repr(value))


def _metadata(metadata: dict[str, Any] | None) -> tuple[dict[str, Any], int]:
    """Returns metadata that can be sent, and how many bytes of it were left out."""
    if not metadata:
        return {}, 0
    text = ""
    try:
        text = _dumps(metadata, skipkeys=True, ensure_ascii=False)
        result: dict[str, Any] = json.loads(clean(text, len(text)), parse_int=_integer)
        metadata_size(result)
    except (TypeError, ValueError, RecursionError):
        return {}, max(1, len(text))
    return result, 0


def encode_bundle(
    data: dict[str, Any], metadata: dict[str, Any] | None
) -> tuple[dict[str, Any], list[tuple[str, bool, bytes]]]:
    """Encodes a MIME bundle.

    Args:
        data: Representations by MIME type: text, bytes, or any value, which is sent as JSON where its type
            is JSON or it is a dict or a list, else as its text.
        metadata: Metadata of the bundle; what is no JSON in it, or no double, is replaced by its
            `repr`. It is left out if it is too large.

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
        if part[0] == "text/plain" and part[1] and len(part[2]) > MAX_PART_BYTES:
            omitted += len(part[2]) - MAX_PART_BYTES
            part = (part[0], True, part[2][:MAX_PART_BYTES].decode(errors="ignore").encode())
        too_many = len(parts) >= MAX_PARTS or len(name) > MAX_MIME_TYPE
        if too_many or len(part[2]) > MAX_PART_BYTES:
            omitted += len(part[2])
        else:
            parts.append(part)
    return {"metadata": sent, "omitted": omitted}, parts

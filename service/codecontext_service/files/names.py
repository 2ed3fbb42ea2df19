"""Paths as callers write them, and names as the kernel has them.

A name on Linux is any bytes; a path in a message is Unicode. A byte that is no UTF-8 is shown as one
character of the private range U+10FF80 to U+10FFFF, and so is each byte of a character of that range that is
really there: every file has exactly one path, and can be named by it.
"""

from __future__ import annotations

from codecontext_service.domain.errors import FieldViolation, InvalidArgument

MAX_PATH_BYTES = 4095
"""PATH_MAX of Linux, without the byte that ends it."""
MAX_NAME_BYTES = 255
"""NAME_MAX of Linux."""

_ESCAPE = 0x10FF00
"""What is added to a byte that is no UTF-8."""


def _is_escape(character: str) -> bool:
    return _ESCAPE + 0x80 <= ord(character) <= _ESCAPE + 0xFF


def show(name: bytes) -> str:
    """Returns a name, or a path, as text."""
    text = name.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    shown = []
    for character in text:
        if "\udc80" <= character <= "\udcff":
            shown.append(chr(ord(character) - 0xDC00 + _ESCAPE))
        elif _is_escape(character):
            shown.extend(chr(byte + _ESCAPE) for byte in character.encode())
        else:
            shown.append(character)
    return "".join(shown)


def _bytes_of(name: str) -> bytes:
    if name.isascii():
        return name.encode()
    return b"".join(
        bytes([ord(character) - _ESCAPE]) if _is_escape(character) else character.encode()
        for character in name
    )


def parse(path: str, field: str = "path", *, allow_root: bool = False) -> list[bytes]:
    """Returns the names that a path consists of.

    Args:
        path: Relative to the workspace. `.` and doubled slashes mean nothing.
        field: What it is called in the request.
        allow_root: Whether the workspace itself may be meant.

    Raises:
        InvalidArgument: It is empty, absolute or too long, or has `..` or a NUL.
    """
    wrong = ""
    names = [_bytes_of(name) for name in path.split("/") if name not in ("", ".")]
    if path.startswith("/"):
        wrong = "is absolute: give a path in the workspace, for instance 'data/in.csv'"
    elif "\0" in path:
        wrong = "has a NUL character"
    elif b".." in names:
        wrong = "has '..': give a path that leads down only"
    elif sum(map(len, names)) + len(names) - 1 > MAX_PATH_BYTES:
        wrong = f"has more than {MAX_PATH_BYTES} bytes"
    elif any(len(name) > MAX_NAME_BYTES for name in names):
        wrong = f"has a name of more than {MAX_NAME_BYTES} bytes"
    elif not names and not allow_root:
        wrong = "is empty: give a path in the workspace"
    if wrong:
        raise InvalidArgument(FieldViolation(field, wrong))
    return names

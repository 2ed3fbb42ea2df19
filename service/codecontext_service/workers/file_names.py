"""Names of files as text: Linux takes any bytes, messages take Unicode.

A byte that is no UTF-8 is shown as one character of the private range U+10FF80 to U+10FFFF, and so is each
byte of a character of that range that is really there: every file has exactly one name, and can be found by it.
"""

from __future__ import annotations

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


def find(shown: str) -> bytes:
    """Returns the name, or the path, that is shown as a text."""
    if shown.isascii():
        return shown.encode()
    return b"".join(
        bytes([ord(character) - _ESCAPE]) if _is_escape(character) else character.encode()
        for character in shown
    )

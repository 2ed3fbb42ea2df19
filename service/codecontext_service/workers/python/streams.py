"""What `sys.stdout`, `sys.stderr` and `sys.stdin` are in a context."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Callable
from typing import Any

ERRORS = "codecontext.replace"
"""An error handler for encoding: what is no valid Unicode becomes U+FFFD."""


def _replace(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    # As bytes: the encoder takes only ASCII for text.
    return "\ufffd".encode() * (error.end - error.start), error.end


codecs.register_error(ERRORS, _replace)


def clean(text: str, max_length: int) -> str:
    """Returns a text as valid Unicode of at most a number of characters: the rest is cut off."""
    if len(text) > max_length:
        text = text[: max_length - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", ERRORS).decode()


def clean_lines(lines: list[str], max_length: int) -> list[str]:
    """Returns lines as valid Unicode, without the middle of what is too long."""
    text = "\n".join(lines)
    if len(text) > max_length:
        half = max_length // 2
        text = f"{text[:half]}\n…\n{text[-half:]}"
    return clean(text, len(text)).split("\n") if lines else []


class _Bytes(io.RawIOBase):
    """The `buffer` of an output stream."""

    def __init__(self, stream: OutputStream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = bytes(data)
        if content:
            self._stream.send(content)
        return len(content)

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        """Does nothing: the stream lives as long as the context."""


class OutputStream(io.TextIOBase):
    """Standard output or error: unbuffered, so that a crash loses nothing and order is kept."""

    def __init__(self, send: Callable[[bytes], None], fd: int, name: str) -> None:
        """Makes a stream.

        Args:
            send: Takes what is written.
            fd: The descriptor that C code and child processes know the stream by.
            name: Its name.
        """
        self.send = send
        self._fd = fd
        self.name = name
        self.mode = "w"
        self.buffer = _Bytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of what is written."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """The name of the handler for what can't be encoded."""
        return ERRORS

    def writable(self) -> bool:
        """Returns whether it can be written."""
        return True

    def write(self, text: str) -> int:
        """Writes text.

        Raises:
            TypeError: It is no text.
        """
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self.send(text.encode("utf-8", ERRORS))
        return len(text)

    def fileno(self) -> int:
        """Returns the descriptor, for child processes: it leads to the same stream by another way."""
        return self._fd

    def reconfigure(self, **options: Any) -> None:
        """Does nothing: the stream is always UTF-8 and unbuffered."""

    def close(self) -> None:
        """Does nothing: the stream lives as long as the context."""

    def write_to_descriptor(self) -> None:
        """Writes to the descriptor from now on, in a forked child of the code's."""

        def send(content: bytes) -> None:
            while content:
                content = content[os.write(self._fd, content) :]

        self.send = send

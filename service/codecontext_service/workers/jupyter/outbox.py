"""The bridge's end of the channel: takes everything at once, and sends it as the server reads."""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

from codecontext_service.workers.channel import (
    MAX_CONTENT,
    MAX_JSON,
    STDERR,
    STDOUT,
    Assembler,
    from_json,
    packets,
)

_FULL_BYTES, _EMPTY_BYTES = 4 << 20, 1 << 20


class Outbox:
    """A channel that never blocks: what the server has not taken yet waits here."""

    def __init__(self, end: socket.socket) -> None:
        """Takes over the socket."""
        end.setblocking(False)
        self._socket = end
        self._assembler = Assembler(4 * MAX_JSON)
        self._packets: deque[bytes] = deque()
        self._bytes = 0

    def fileno(self) -> int:
        """Returns the socket's descriptor."""
        return self._socket.fileno()

    @property
    def waiting(self) -> bool:
        """Whether there is something that the server has not taken yet."""
        return bool(self._packets)

    @property
    def full(self) -> bool:
        """Whether so much waits that no more should be made."""
        return self._bytes > _FULL_BYTES

    @property
    def has_room(self) -> bool:
        """Whether so little waits that more may be made."""
        return self._bytes < _EMPTY_BYTES

    def send(self, kind: bytes, content: bytes) -> None:
        """Sends a message, now or when the server takes it.

        Raises:
            OSError: The server is gone.
        """
        if kind in (STDOUT, STDERR):  # raw bytes: each piece is a message of its own
            pieces = [content[at : at + MAX_CONTENT] for at in range(0, len(content), MAX_CONTENT)]
        else:
            pieces = [content]
        for piece in pieces:
            for packet in packets(kind, piece):
                self._packets.append(packet)
                self._bytes += len(packet)
        self.flush()

    def flush(self) -> None:
        """Sends what the server takes now.

        Raises:
            OSError: The server is gone.
        """
        try:
            while self._packets:
                self._socket.send(self._packets[0])
                self._bytes -= len(self._packets.popleft())
        except BlockingIOError:
            pass

    def send_rest(self) -> None:
        """Waits until the server has taken everything.

        Raises:
            OSError: The server is gone.
        """
        self._socket.setblocking(True)
        self.flush()

    def receive(self) -> tuple[bytes, dict[str, Any]] | None:
        """Returns the next order, its type and content; None if there is none.

        Raises:
            EOFError: The server is gone.
            ProtocolError: What came is no message.
        """
        while True:
            try:
                packet = self._socket.recv(MAX_CONTENT + 3)
            except BlockingIOError:
                return None
            if not packet:
                raise EOFError
            if message := self._assembler.add(packet):
                return message[0], from_json(message[1])

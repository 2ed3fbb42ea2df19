"""A socket to another process on the event loop: messages go and come, nothing ever blocks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

from codecontext_service.workers.descriptors import receive_message, send_message

OnMessage = Callable[[dict[str, Any], list[int]], None]


class Peer:
    """One end of a pair of SOCK_SEQPACKET sockets."""

    def __init__(
        self, end: socket.socket, on_message: OnMessage, on_closed: Callable[[], None]
    ) -> None:
        """Takes over the socket, and reads from it.

        Args:
            end: The socket.
            on_message: Takes each message, with its descriptors, which are now its own to close.
            on_closed: Is called once when the other side has closed its end.
        """
        self._loop = asyncio.get_running_loop()
        self._end = end
        self._on_message = on_message
        self._on_closed = on_closed
        end.setblocking(False)
        self._loop.add_reader(end, self._read)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """Makes two connected sockets."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Sends a message.

        Raises:
            OSError: The other side is gone, or has not read for so long that its buffer is full.
        """
        send_message(self._end, message, descriptors)

    def send_bytes(self, content: bytes) -> None:
        """Sends a message that is no JSON.

        Raises:
            OSError: As with `send`.
        """
        self._end.send(content)

    def close(self) -> None:
        """Closes this end; `on_closed` is not called."""
        if self._end.fileno() >= 0:
            self._loop.remove_reader(self._end)
            self._end.close()

    def _read(self) -> None:
        while self._end.fileno() >= 0:
            try:
                message, descriptors = receive_message(self._end)
            except BlockingIOError:
                return
            except (EOFError, OSError, ValueError):
                self.close()
                self._on_closed()
                return
            self._on_message(message, descriptors)

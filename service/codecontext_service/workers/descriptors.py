"""Sockets of SOCK_SEQPACKET between the processes: JSON messages with file descriptors."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any

_MAX_MESSAGE = 64 * 1024
_MAX_DESCRIPTORS = 16


def send_message(
    end: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()
) -> None:
    """Sends one message.

    Raises:
        OSError: The other side is gone, or (on a non-blocking socket) does not read.
    """
    socket.send_fds(end, [json.dumps(message).encode()], list(descriptors))


def receive_message(end: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receives one message.

    Returns:
        The message and its descriptors, which are now the caller's to close.

    Raises:
        EOFError: The other side is gone.
        BlockingIOError: The socket is non-blocking, and nothing has come.
    """
    content, descriptors, _, _ = socket.recv_fds(end, _MAX_MESSAGE, _MAX_DESCRIPTORS)
    if not content:
        raise EOFError
    for fd in descriptors:
        os.set_inheritable(fd, False)
    message: dict[str, Any] = json.loads(content)
    return message, descriptors


def close_all(descriptors: Iterable[int]) -> None:
    """Closes descriptors."""
    for fd in descriptors:
        os.close(fd)


def close_all_but(keep: Iterable[int]) -> None:
    """Closes every descriptor of this process from 3 on, except those given."""
    low = 3
    for fd in sorted(keep):
        if fd >= low:
            os.closerange(low, fd)
            low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))

"""Sockets of SOCK_SEQPACKET between the processes: JSON messages with file descriptors."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Any

_MAX_MESSAGE = 64 * 1024
_INT = struct.calcsize("i")
_ANCILLARY = socket.CMSG_LEN(16 * _INT)
"""Room for as many descriptors as a message may have."""

# Plain numbers and short ways: each page that a keeper writes to is one that it shares with no others.
_SOL_SOCKET, _SCM_RIGHTS = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)
_MSG_CMSG_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_encode, _decode = json.JSONEncoder().encode, json.JSONDecoder().raw_decode


def send_message(
    end: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()
) -> None:
    """Sends one message.

    Raises:
        OSError: The other side is gone, or (on a non-blocking socket) does not read.
    """
    content = _encode(message).encode()
    if not descriptors:
        end.send(content)
        return
    packed = struct.pack(f"{len(descriptors)}i", *descriptors)
    end.sendmsg([content], [(_SOL_SOCKET, _SCM_RIGHTS, packed)])


def receive_message(end: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receives one message.

    Returns:
        The message and its descriptors, which are now the caller's to close.

    Raises:
        EOFError: The other side is gone.
        BlockingIOError: The socket is non-blocking, and nothing has come.
    """
    content, ancillary, _, _ = end.recvmsg(_MAX_MESSAGE, _ANCILLARY, _MSG_CMSG_CLOEXEC)
    if not content:
        raise EOFError
    descriptors: list[int] = []
    for level, kind, packed in ancillary:
        if level == _SOL_SOCKET and kind == _SCM_RIGHTS:
            descriptors += memoryview(packed[: len(packed) & -_INT]).cast("i")
    return _decode(content.decode())[0], descriptors


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

"""What leads from the server to an interpreter: its channel, and its two output pipes."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Streams:
    """The server's ends."""

    channel: socket.socket
    stdout: int
    stderr: int
    framed: bool = False
    """Whether the channel is a stream, where each packet comes behind its length."""


@contextlib.contextmanager
def streams(*, framed: bool = False) -> Iterator[tuple[Streams, list[int]]]:
    """Makes them for an interpreter that is forked meanwhile; ours are closed if that fails.

    Args:
        framed: Whether the channel is to be a stream, for an interpreter that knows no packets.

    Yields:
        The server's ends, and those of the interpreter: of the channel, of standard output and error.

    Raises:
        OSError: There are too many descriptors.
    """
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        kind = socket.SOCK_STREAM if framed else socket.SOCK_SEQPACKET
        channel, their_channel = socket.socketpair(socket.AF_UNIX, kind)
        ours.callback(channel.close)
        theirs.callback(their_channel.close)
        channel.setblocking(False)
        pipes = []
        for _ in ("stdout", "stderr"):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            ours.callback(os.close, reading)
            theirs.callback(os.close, writing)
            pipes.append((reading, writing))
        (stdout, their_stdout), (stderr, their_stderr) = pipes
        yield (
            Streams(channel, stdout, stderr, framed),
            [their_channel.fileno(), their_stdout, their_stderr],
        )
        ours.pop_all()

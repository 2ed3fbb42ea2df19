"""What leads from the server to an interpreter: its channel, and its two output pipes."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from .peer import Peer


@dataclass(frozen=True)
class Streams:
    """The server's ends."""

    channel: socket.socket
    stdout: int
    stderr: int


@contextlib.contextmanager
def streams() -> Iterator[tuple[Streams, list[int]]]:
    """Makes them for an interpreter that is forked meanwhile; ours are closed if that fails.

    Yields:
        The server's ends, and those of the interpreter: of the channel, of standard output and error.

    Raises:
        OSError: There are too many descriptors.
    """
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        channel, their_channel = Peer.pair()
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
            Streams(channel, stdout, stderr),
            [their_channel.fileno(), their_stdout, their_stderr],
        )
        ours.pop_all()

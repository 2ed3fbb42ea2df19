"""The control channel between the server and an interpreter.

A channel is one end of a pair of SOCK_SEQPACKET sockets. The kernel keeps each packet whole, so an
exception, a signal or another thread in the middle of a send can't tear one: either it went or it did
not. For interpreters that can't open such sockets, as Node, it is a SOCK_STREAM socket, where each packet
comes behind its length: four bytes, little-endian. Which of the two it is, is settled where the interpreter
is started.

A packet is a type (one byte), a flag (one byte) and content of at most `MAX_CONTENT` bytes. With the flag
`WHOLE` the content is a message. A message that is larger goes as several packets, whose contents begin
with the same number (four bytes), so that messages of several threads may mix: `MORE` for each but the last,
`END` for that one, or `ABANDONED` if the message is to be dropped. Anything else is a breach of the protocol,
which ends the context.

From the server, all JSON, with these fields:
- `CONFIGURE`, before the first run, once or twice: `cwd`, `env` (all of the environment), `rlimits`
  (`open_files`, `file_size`, `processes`; 0 leaves one as it is), `ahead` if no context has it yet. Answered
  by `CONFIGURED`.
- `EXECUTE`: `code`, `env` (for this run alone), `execution_count`, `allow_input`. Answered by `BEGUN`,
  by what the run makes, and by one `FINISHED`.
- `INPUT_REPLY`: `number` of the request, `text`, `end_of_file`.
- `INTERRUPT`, to those whose `READY` asks for it: the run that goes on is to stop. It comes before the
  signal is sent, and again until that run has finished.
- `ASK`, between runs: `number`, `inspect`, `timeout` and the question. Answered by `ANSWER`.
- `FORK`, between runs; after it a packet with descriptors, see `Channel.receive_descriptors`. Answered by
  `FORKED`.

From the interpreter, JSON but where another content is named:
- `READY`, first and once: `pid`, of the process group that an interrupt sends SIGINT to, as the
  interpreter sees it; `told`, whether an interrupt comes as a message too; `signalled`, which is false if it
  comes as that alone; `lowers`, which is false if it can't set `rlimits` itself.
- `CONFIGURED`: nothing, or `cwd_error`, why it can't work there, or `failure`, why there is no interpreter.
- `BEGUN`, empty: from here on an interrupt finds the run.
- `STDOUT`, `STDERR`, raw bytes. What is written to descriptors 1 and 2 comes by pipes of their own, which the
  server reads to the end before the run does.
- `DISPLAY`, a record, see `display_records`: `kind` (`result`, `display`, `update`), `metadata`, `display_id`,
  `omitted` (bytes that were left out).
- `CLEAR`: `wait`.
- `ERROR`: `name`, `value`, `traceback` (lines), `line_number` (0: none).
- `INPUT_REQUEST`: `number`, `prompt`, `password`.
- `FINISHED`: `raised`, `interrupted`, `cpu` (seconds), `peak` (bytes of memory).
- `ANSWER`: `number`, and `failure`, or `data` (texts by MIME type), or `matches`, `cursor_start` and
  `cursor_end`.
- `FORKED`, and `EXITED` of a process that was forked so.

An interpreter ends when its channel is closed. How it ended is told by its exit status, and by nothing else.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

MAX_CONTENT = 64 * 1024
"""The most content that a packet may have, in bytes. A larger packet is a breach of the protocol."""

MIN_PACKET, MAX_PACKET = 2, MAX_CONTENT + 2
"""The least and the most bytes of a packet."""

FRAME_HEADER = struct.Struct("<I")
"""What comes before each packet on a SOCK_STREAM socket: its length."""

MAX_JSON = 8 << 20
"""The most bytes that a JSON message may have."""

MAX_NAME = 1000
"""The most characters of a name: of an exception's class, of a display."""

MAX_PARTS, MAX_MIME_TYPE = 100, 256
"""The most parts that a display may have, and the most characters of a MIME type."""

MAX_MATCHES, MAX_ANSWER_TEXT = 10_000, 512 * 1024
"""The most matches of a completion, and the most characters of them all, or of one description."""

MAX_THREAD_NAMES, MAX_THREAD_NAME = 100, 200
"""The most threads that are named, and the most characters of a name."""

MAX_DESCRIPTORS = 16
"""The most descriptors that come with a packet."""

MAX_ANSWER_BYTES = 2 << 20
"""The most bytes that all descriptions of a name may have together."""

WHOLE, MORE, END, ABANDONED = b".", b"+", b"$", b"!"

CONFIGURE, EXECUTE, INPUT_REPLY, ASK, FORK, INTERRUPT = b"c", b"x", b"i", b"a", b"f", b"n"
READY, CONFIGURED, FINISHED, ERROR = b"R", b"C", b"F", b"E"
INPUT_REQUEST, CLEAR, ANSWER, FORKED, EXITED = b"I", b"L", b"A", b"K", b"X"
BEGUN, STDOUT, STDERR, DISPLAY = b"B", b"O", b"T", b"D"


class ProtocolError(Exception):
    """The other side sent something that is no message."""


_counter = itertools.count()


def next_number() -> bytes:
    """Returns a number for the packets of one message: four bytes, another one at each call."""
    return struct.pack(">I", next(_counter) & 0xFFFFFFFF)


def packets(kind: bytes, content: bytes, number: bytes | None = None) -> Iterator[bytes]:
    """Splits a message into its packets.

    Args:
        kind: The message's type.
        content: Its content.
        number: What its packets have in common, four bytes; by default the next of this process.

    Yields:
        Each packet.
    """
    if len(content) <= MAX_CONTENT:
        yield kind + WHOLE + content
        return
    number = number or next_number()
    size = MAX_CONTENT - len(number)
    for at in range(0, len(content), size):
        flag = MORE if at + size < len(content) else END
        yield kind + flag + number + content[at : at + size]


class Assembler:
    """Puts packets together into messages again."""

    def __init__(self, max_bytes: int) -> None:
        """Starts with nothing.

        Args:
            max_bytes: The most bytes that all unfinished messages may have together.
        """
        self._max_bytes = max_bytes
        self._bytes = 0
        self._parts: dict[bytes, list[bytes]] = {}

    def add(self, packet: bytes) -> tuple[bytes, bytes] | None:
        """Takes the next packet.

        Returns:
            The type and content of the message that it ends; None when it ends none.

        Raises:
            ProtocolError: It is no packet, or its message is too large.
        """
        kind, flag, content = packet[:1], packet[1:2], packet[2:]
        if len(content) > MAX_CONTENT:
            raise ProtocolError("an oversized packet")
        if flag == WHOLE:
            return kind, content
        if flag not in (MORE, END, ABANDONED) or len(content) < 4:
            raise ProtocolError("a malformed packet")
        number, piece = kind + content[:4], content[4:]
        parts = self._parts.setdefault(number, [])
        parts.append(piece)
        self._bytes += len(piece)
        if self._bytes > self._max_bytes:
            raise ProtocolError("a message that is too large")
        if flag == MORE:
            return None
        del self._parts[number]
        message = b"".join(parts)
        self._bytes -= len(message)
        return (kind, message) if flag == END else None


_encode = json.JSONEncoder(separators=(",", ":")).encode
"""What `json.dumps` would make anew for each message."""


def to_json(value: object) -> bytes:
    """Encodes a JSON message; lone surrogates are escaped."""
    return _encode(value).encode("ascii")


def from_json(content: bytes) -> dict[str, Any]:
    """Decodes a JSON message.

    Raises:
        ProtocolError: It is no JSON object, or too large.
    """
    if len(content) > MAX_JSON:
        raise ProtocolError("an oversized message")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a message that is no JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError("a message that is no JSON object")
    return value


def pack_finished(*, raised: bool, interrupted: bool, cpu_time_s: float, peak_bytes: int) -> bytes:
    """Encodes a `FINISHED` message, as `to_json` would, at the least cost.

    Args:
        raised: Whether the code has raised an exception.
        interrupted: Whether an interrupt has come.
        cpu_time_s: CPU time of the run, in seconds.
        peak_bytes: The most memory that the interpreter has had.

    Returns:
        The message.
    """
    return b'{"raised":%s,"interrupted":%s,"cpu":%.6f,"peak":%d}' % (
        b"true" if raised else b"false",
        b"true" if interrupted else b"false",
        cpu_time_s,
        peak_bytes,
    )


class Channel:
    """An interpreter's blocking end of its channel. Sends may come from any thread."""

    def __init__(self, end: socket.socket) -> None:
        """Takes over the socket."""
        self._socket = end
        self._assembler = Assembler(max_bytes=1 << 30)

    def send(self, kind: bytes, content: bytes) -> None:
        """Sends a message.

        An exception that a signal handler raises leaves the message sent whole or not at all.

        Raises:
            OSError: The channel is closed.
        """
        if len(content) <= MAX_CONTENT:
            self._socket.send(kind + WHOLE + content)
            return
        number = next_number()
        try:
            for packet in packets(kind, content, number):
                self._socket.send(packet)
        except BaseException:
            with contextlib.suppress(OSError):
                self._socket.send(kind + ABANDONED + number)
            raise

    def stream(self, kind: bytes, on_closed: Callable[[], None]) -> Callable[[bytes], None]:
        """Returns a function that sends raw bytes as messages of one type, at the least cost.

        Args:
            kind: Their type.
            on_closed: Is called where the channel is closed.
        """
        send, prefix = self._socket.send, kind + WHOLE

        def send_stream(content: bytes) -> None:
            try:
                if len(content) <= MAX_CONTENT:
                    send(prefix + content)
                else:
                    for at in range(0, len(content), MAX_CONTENT):
                        send(prefix + content[at : at + MAX_CONTENT])
            except OSError:
                on_closed()

        return send_stream

    def wait(self, timeout_s: float) -> bool:
        """Waits for a limited time until there is something to receive, or the server is gone.

        Args:
            timeout_s: How long, in seconds.

        Returns:
            Whether there is.
        """
        return bool(select.select([self._socket], [], [], timeout_s)[0])

    def receive(self) -> tuple[bytes, dict[str, Any]]:
        """Waits for the next message.

        Returns:
            Its type and its JSON content.

        Raises:
            EOFError: The server is gone.
            ProtocolError: What came is no message.
        """
        while True:
            packet = self._socket.recv(MAX_CONTENT + 3)
            if not packet:
                raise EOFError
            if message := self._assembler.add(packet):
                return message[0], from_json(message[1])

    def receive_descriptors(self) -> list[int]:
        """Waits for a packet that has nothing but descriptors, which are now the caller's to close.

        Raises:
            EOFError: The server is gone.
        """
        packet, descriptors, _, _ = socket.recv_fds(self._socket, 1, MAX_DESCRIPTORS)
        if not packet:
            raise EOFError
        for fd in descriptors:
            os.set_inheritable(fd, False)
        return descriptors

    def fileno(self) -> int:
        """Returns the descriptor of this end."""
        return self._socket.fileno()

    def detach(self) -> int:
        """Gives the descriptor of this end away, which stays open; nothing can be sent any more."""
        return self._socket.detach()

    def close(self) -> None:
        """Closes this end."""
        self._socket.close()

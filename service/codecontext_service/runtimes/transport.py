"""The server's end of an interpreter's channel: whole packets, and what waits until there is room for it."""

from __future__ import annotations

import asyncio
import functools
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence

from codecontext_service.workers import channel
from codecontext_service.workers.channel import FRAME_HEADER, MAX_PACKET, MIN_PACKET, ProtocolError

_CHUNK = 256 * 1024


class Transport(ABC):
    """A socket on the event loop that carries packets, see `workers.channel`."""

    def __init__(self, end: socket.socket) -> None:
        """Takes over a socket, which must not block."""
        self._loop = asyncio.get_running_loop()
        self._end = end
        self._outbox: deque[bytes] = deque()
        self._waits_for_room = False

    @abstractmethod
    def receive(self) -> bytes:
        """Returns the next packet; empty once the other side has closed.

        Raises:
            BlockingIOError: None has come whole.
            ProtocolError: What came is none.
            OSError: The other side is gone.
        """

    @property
    @abstractmethod
    def holds_packet(self) -> bool:
        """Whether a packet can be received although the socket may have nothing to read."""

    @abstractmethod
    def frame(self, packet: bytes) -> bytes:
        """Returns a packet as it goes over the socket."""

    def fileno(self) -> int:
        """Returns the descriptor, which can be waited for."""
        return self._end.fileno()

    @property
    def waiting(self) -> bool:
        """Whether anything that was sent has not gone yet."""
        return bool(self._outbox)

    def send(self, packets: Iterable[bytes]) -> None:
        """Sends packets, as soon as the other side has room for them; none if it is gone."""
        waiting = self.waiting
        self._outbox.extend(map(self.frame, packets))
        if not waiting:
            self._write()

    def send_descriptors(self, descriptors: Sequence[int]) -> None:
        """Sends a packet of descriptors right behind what was sent.

        Raises:
            OSError: The other side is gone, or does not read.
        """
        if self.waiting:
            raise BrokenPipeError("it does not read")
        socket.send_fds(self._end, [channel.WHOLE], descriptors)

    def close(self) -> None:
        """Closes this end."""
        self._loop.remove_writer(self._end)
        self._end.close()

    def _write(self) -> None:
        try:
            while self._outbox:
                sent = self._end.send(self._outbox[0])
                rest = self._outbox.popleft()[sent:]
                if rest:
                    self._outbox.appendleft(rest)
        except BlockingIOError:
            self._loop.add_writer(self._end, self._write)
            self._waits_for_room = True
            return
        except OSError:  # it has ended, which is told elsewhere
            self._outbox.clear()
        if self._waits_for_room:
            self._loop.remove_writer(self._end)
            self._waits_for_room = False


class PacketTransport(Transport):
    """A SOCK_SEQPACKET socket: the kernel keeps packets whole."""

    holds_packet = False

    def __init__(self, end: socket.socket) -> None:
        """Takes over a socket, which must not block."""
        super().__init__(end)
        # Of the instance: it is called for each packet.
        self.receive = functools.partial(end.recv, MAX_PACKET + 1)  # type: ignore[method-assign]

    def receive(self) -> bytes:
        """Returns the next packet; see `Transport`."""
        raise NotImplementedError

    def frame(self, packet: bytes) -> bytes:
        """Returns a packet as it goes over the socket."""
        return packet


class StreamTransport(Transport):
    """A SOCK_STREAM socket: each packet comes behind its length."""

    def __init__(self, end: socket.socket) -> None:
        """Takes over a socket, which must not block."""
        super().__init__(end)
        self._buffer = b""
        self._at = 0

    @property
    def holds_packet(self) -> bool:
        """Whether a packet can be received although the socket may have nothing to read."""
        left = len(self._buffer) - self._at
        if left < FRAME_HEADER.size:
            return False
        size: int = FRAME_HEADER.unpack_from(self._buffer, self._at)[0]
        return left >= FRAME_HEADER.size + size or not MIN_PACKET <= size <= MAX_PACKET

    def receive(self) -> bytes:
        """Returns the next packet; see `Transport`."""
        while not self.holds_packet:
            data = self._end.recv(_CHUNK)
            if not data:
                return b""  # what is cut here was being sent when the other side ended
            self._buffer = self._buffer[self._at :] + data
            self._at = 0
        begin = self._at + FRAME_HEADER.size
        size = FRAME_HEADER.unpack_from(self._buffer, self._at)[0]
        if not MIN_PACKET <= size <= MAX_PACKET:
            raise ProtocolError(f"a frame of {size} bytes")
        self._at = begin + size
        return self._buffer[begin : self._at]

    def frame(self, packet: bytes) -> bytes:
        """Returns a packet as it goes over the socket."""
        return FRAME_HEADER.pack(len(packet)) + packet

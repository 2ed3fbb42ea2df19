"""The server's end of a channel, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from codecontext_service.runtimes.transport import PacketTransport, StreamTransport, Transport
from codecontext_service.workers.channel import FRAME_HEADER, MAX_PACKET, ProtocolError

STREAM, PACKETS = (StreamTransport, socket.SOCK_STREAM), (PacketTransport, socket.SOCK_SEQPACKET)


@contextmanager
def connected(kind: tuple[type[Transport], int]) -> Iterator[tuple[Transport, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind[1])
    ours.setblocking(False)
    transport = kind[0](ours)
    with theirs:
        theirs.settimeout(10)
        yield transport, theirs
        transport.close()


def framed(*packets: bytes) -> bytes:
    return b"".join(FRAME_HEADER.pack(len(packet)) + packet for packet in packets)


@pytest.mark.parametrize("cut", range(1, 24, 5))
async def test_a_stream_gives_whole_packets_however_it_is_cut(cut: int) -> None:
    """Packets come whole and in order, wherever the kernel cuts the stream."""
    packets = [b"O.one", b"T.", b"O." + b"x" * 40]
    stream, received = framed(*packets), []
    with connected(STREAM) as (transport, theirs):
        for at in range(0, len(stream), cut):
            theirs.sendall(stream[at : at + cut])
            while True:
                try:
                    received.append(transport.receive())
                except BlockingIOError:
                    break
        assert received == packets
        assert not transport.holds_packet


async def test_a_stream_tells_that_it_holds_more_packets() -> None:
    """What has come with an earlier packet is not forgotten, though the socket has nothing to read."""
    with connected(STREAM) as (transport, theirs):
        theirs.sendall(framed(b"O.one", b"O.two"))
        assert transport.receive() == b"O.one"
        assert transport.holds_packet
        assert transport.receive() == b"O.two"
        assert not transport.holds_packet


@pytest.mark.parametrize("size", [0, 1, MAX_PACKET + 1, 0xFFFFFFFF])
async def test_a_frame_of_an_impossible_length_is_a_breach(size: int) -> None:
    """A length that no packet has is an error at once, and nobody waits for so many bytes."""
    with connected(STREAM) as (transport, theirs):
        theirs.sendall(FRAME_HEADER.pack(size))
        with pytest.raises(ProtocolError, match=str(size)):
            transport.receive()


async def test_a_stream_that_ends_in_a_packet_has_ended() -> None:
    """An interpreter that dies while it sends has ended; that is no breach of the protocol."""
    with connected(STREAM) as (transport, theirs):
        theirs.sendall(framed(b"O.one") + framed(b"O.two")[:-1])
        theirs.shutdown(socket.SHUT_WR)
        assert transport.receive() == b"O.one"
        assert transport.receive() == b""


@pytest.mark.parametrize("kind", [STREAM, PACKETS])
async def test_what_has_no_room_is_sent_later(kind: tuple[type[Transport], int]) -> None:
    """Nothing is lost and nothing changes places when the other side reads slowly."""
    packets = [b"x." + bytes([number]) * 60_000 for number in range(50)]
    with connected(kind) as (transport, theirs):
        transport.send(packets)
        assert transport.waiting
        wanted = framed(*packets) if kind is STREAM else b"".join(packets)
        received = b""
        while len(received) < len(wanted):
            received += await asyncio.to_thread(theirs.recv, MAX_PACKET)
        assert received == wanted
        assert not transport.waiting


@pytest.mark.parametrize("kind", [STREAM, PACKETS])
async def test_nothing_waits_for_one_who_is_gone(kind: tuple[type[Transport], int]) -> None:
    """What is sent to an interpreter that has ended is dropped without an error."""
    with connected(kind) as (transport, theirs):
        theirs.close()
        transport.send([b"x.code"])
        assert not transport.waiting

"""A socket to another process on the event loop: messages and orders go, messages and answers come."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Sequence
from typing import Any

from codecontext_service.workers.descriptors import close_all, receive_message, send_message

OnMessage = Callable[[dict[str, Any], list[int]], None]


class OrderError(Exception):
    """The other side could not do what it was told; the text says why."""


class Peer:
    """One end of a pair of SOCK_SEQPACKET sockets."""

    def __init__(
        self, end: socket.socket, on_message: OnMessage, on_closed: Callable[[], None]
    ) -> None:
        """Takes over the socket, and reads from it.

        Args:
            end: The socket.
            on_message: Takes each message that answers no order, with its descriptors, which are now
                its own to close.
            on_closed: Is called once when the other side has closed its end.
        """
        self._loop = asyncio.get_running_loop()
        self._end = end
        self._on_message = on_message
        self._on_closed = on_closed
        self._numbers = itertools.count(1)
        self._orders: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        end.setblocking(False)
        self._loop.add_reader(end, self._on_readable)

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

    async def order(
        self, verb: str, message: dict[str, Any] | None = None, descriptors: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        """Tells the other side to do something, and waits for its answer.

        An answer that comes when nobody waits any more is dropped, with its descriptors.

        Args:
            verb: What to do; the number of the order is its value.
            message: What else it must know.
            descriptors: What it gets.

        Returns:
            The answer, and its descriptors, which are now the caller's to close.

        Raises:
            OSError: The other side is gone, or does not read.
            OrderError: It could not do it.
        """
        number = next(self._numbers)
        answered = self._orders[number] = self._loop.create_future()
        try:
            self.send({verb: number, **(message or {})}, descriptors)
            answer, received = await answered
        except BaseException:
            if answered.done() and not answered.cancelled() and not answered.exception():
                close_all(answered.result()[1])
            raise
        finally:
            self._orders.pop(number, None)
        if "error" in answer:
            raise OrderError(answer["error"])
        return answer, received

    def close(self) -> None:
        """Closes this end; `on_closed` is not called."""
        if self._end.fileno() >= 0:
            self._loop.remove_reader(self._end)
            self._end.close()
        for answered in self._orders.values():
            if not answered.done():
                answered.set_exception(BrokenPipeError("the process is gone"))

    def read(self) -> None:
        """Takes all that has come by now, for whoever can't wait until the event loop does."""
        while self._take() is not None:
            pass

    def _on_readable(self) -> None:
        # Whoever has asked hears the answer before what comes behind it, such as the end of what was started.
        while self._take() is False:
            pass

    def _take(self) -> bool | None:
        """Takes a message; returns whether it was an answer that somebody waits for, None if there is none."""
        if self._end.fileno() < 0:
            return None
        try:
            message, descriptors = receive_message(self._end)
        except BlockingIOError:
            return None
        except (EOFError, OSError, ValueError):
            self.close()
            self._on_closed()
            return None
        if "answer" not in message:
            self._on_message(message, descriptors)
        elif (answered := self._orders.get(message["answer"])) and not answered.done():
            answered.set_result((message, descriptors))
            return True
        else:
            close_all(descriptors)
        return False

"""A TCP proxy between a client and a server, to cut connections as a network does."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from types import TracebackType


class _Link:
    """A connection through the proxy, which ends once it has carried its share of bytes."""

    def __init__(self, near: socket.socket, far: socket.socket, share: int | None) -> None:
        self.ends = (near, far)
        self._share = share
        self._lock = threading.Lock()

    def forward(self, source: socket.socket, sink: socket.socket) -> None:
        """Forwards one direction until either end or the share is at its end."""
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                with self._lock:
                    if self._share is not None:
                        content, more = content[: self._share], len(content) > self._share
                        self._share -= len(content)
                    else:
                        more = False
                sink.sendall(content)
                if more:
                    break
        self.cut()

    def cut(self) -> None:
        """Ends both ends."""
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class CuttableProxy:
    """Forwards connections to a target until they are cut."""

    def __init__(self, target: str) -> None:
        """Listens on a free port of loopback.

        Args:
            target: `host:port` of the server.
        """
        host, _, port = target.rpartition(":")
        self._to = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        """What a client connects to."""
        self.count = 0
        """How many connections there have been."""
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._uncut = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _share(self) -> int | None:
        """How many bytes the next connection carries; None for any number."""
        return None

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
            except OSError:
                return
            link = _Link(near, far, self._share())
            with self._lock:
                self.count += 1
                self._links.append(link)
                for source, sink in ((near, far), (far, near)):
                    thread = threading.Thread(target=link.forward, args=(source, sink))
                    self._threads.append(thread)
                    thread.start()

    def cut(self) -> None:
        """Ends all connections that there are; new ones may be made."""
        with self._lock:
            links = self._links[self._uncut :]
            self._uncut = len(self._links)
        for link in links:
            link.cut()

    def __enter__(self) -> CuttableProxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)
        for link in self._links:
            for end in link.ends:
                end.close()


class UnreliableProxy(CuttableProxy):
    """Cuts each connection after a random number of bytes, wherever in a message that is."""

    def __init__(self, target: str, chances: random.Random, most_bytes: int) -> None:
        """Listens.

        Args:
            target: `host:port` of the server.
            chances: Decides.
            most_bytes: How many bytes a connection carries at most, both ways together.
        """
        self._chances = chances
        self._most_bytes = most_bytes
        super().__init__(target)

    def _share(self) -> int | None:
        # Few bytes end within the handshake or the request, many within the answer.
        return int(self._most_bytes ** self._chances.uniform(0.5, 1.0))

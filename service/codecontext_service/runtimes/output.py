"""What an interpreter writes: text that is put together, and the two pipes of its descriptors 1 and 2."""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import termios
from collections.abc import Callable

OnText = Callable[[bool, bytes], None]
"""Takes text: whether it is that of standard error, and the bytes."""

_PIPE_CHUNK = 64 * 1024
_WAIT_S = 0.005
"""How long text waits for more of it, after text that has just been passed on. The first never waits."""


class TextBuffer:
    """Puts small texts together: an event for each line would cost far more than the line."""

    def __init__(self, on_text: OnText) -> None:
        """Starts with nothing.

        Args:
            on_text: Takes what was put together.
        """
        self._loop = asyncio.get_running_loop()
        self._on_text = on_text
        self._parts: list[bytes] = []
        self._size = 0
        self._stderr = False
        self._time = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, stderr: bool, content: bytes) -> None:
        """Takes text; `settle` must follow before others get their turn."""
        if stderr != self._stderr or self._size + len(content) > _PIPE_CHUNK:
            self.flush()
            self._stderr = stderr
        self._parts.append(content)
        self._size += len(content)

    def settle(self) -> None:
        """Passes on what it has, now or soon."""
        if self._parts and self._timer is None:
            due = self._time + _WAIT_S
            if self._loop.time() >= due:
                self.flush()
            else:
                self._timer = self._loop.call_at(due, self.flush)

    def flush(self) -> None:
        """Passes on what it has."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._parts:
            self._time = self._loop.time()
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts, self._size = [], 0
            self._on_text(self._stderr, data)

    def hurry(self) -> None:
        """Has the next text wait for nothing: it is the first one of a run."""
        self._time = 0.0

    def close(self) -> None:
        """Drops what it has."""
        if self._timer is not None:
            self._timer.cancel()


class Pipes:
    """The read ends of an interpreter's standard output and error, which its children write to as well."""

    def __init__(self, stdout: int, stderr: int, on_text: OnText) -> None:
        """Takes over the descriptors.

        Args:
            stdout: The read end of standard output.
            stderr: The read end of standard error.
            on_text: Takes what comes.
        """
        self._loop = asyncio.get_running_loop()
        self._fds = {stdout: False, stderr: True}
        self._on_text = on_text
        for fd in self._fds:
            os.set_blocking(fd, False)

    def start(self) -> None:
        """Begins to read, or goes on."""
        for fd in self._fds:
            self._loop.add_reader(fd, self._read, fd)

    def stop(self) -> None:
        """Stops reading, so that who writes must wait."""
        for fd in self._fds:
            self._loop.remove_reader(fd)

    def drain(self) -> None:
        """Reads what is in them at this moment, and no more: somebody may write for ever."""
        for fd, stderr in self._fds.items():
            waiting = array.array("i", [0])
            fcntl.ioctl(fd, termios.FIONREAD, waiting)
            left = waiting[0]
            while left > 0:
                data = os.read(fd, min(left, _PIPE_CHUNK))
                left -= len(data)
                self._on_text(stderr, data)

    def close(self) -> None:
        """Closes them."""
        self.stop()
        for fd in self._fds:
            os.close(fd)
        self._fds = {}

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, _PIPE_CHUNK)
        except BlockingIOError:
            return
        if data:
            self._on_text(self._fds[fd], data)
        else:  # every process has closed it
            self._loop.remove_reader(fd)
            del self._fds[fd]
            os.close(fd)

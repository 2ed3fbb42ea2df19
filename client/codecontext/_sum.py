"""The sum of content that comes or goes in pieces, made beside what else is done with them."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor

from codecontext._content import Content

_LARGE = 256 * 1024
"""Of how many bytes a sum takes long enough to be made in a thread."""


class Sum:
    """A SHA-256, of large pieces in a thread: each must stay as it is until the next one comes."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = None
        self._at_work: Future[None] | None = None

    def update(self, data: Content) -> None:
        """Takes the next piece."""
        self._wait()
        if len(data) < _LARGE:
            self._sum.update(data)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "codecontext-sum")
        self._at_work = self._thread.submit(self._sum.update, data)

    def digest(self) -> bytes:
        """Returns the sum, after the last piece."""
        self._wait()
        self.close()
        return self._sum.digest()

    def close(self) -> None:
        """Ends the thread, if there is one. May be repeated."""
        if self._thread is not None:
            self._thread.shutdown()

    def _wait(self) -> None:
        if self._at_work is not None:
            self._at_work.result()

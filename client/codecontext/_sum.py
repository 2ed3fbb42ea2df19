"""The sum of content that comes or goes in pieces, made beside what else is done with them."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor

from codecontext._content import Content

_LARGE = 256 * 1024
"""Of how many bytes a sum takes long enough to be made in a thread."""


class Sum:
    """A SHA-256, of large pieces in a thread: each must stay as it is until the next one comes."""

    def __init__(self, threads: ThreadPoolExecutor | None = None) -> None:
        """Starts with nothing.

        Args:
            threads: Where the sums of many are made; by default in a thread of this one's own.
        """
        self._sum = hashlib.sha256()
        self._threads = threads
        self._own: ThreadPoolExecutor | None = None
        self._at_work: Future[None] | None = None

    def update(self, data: Content) -> None:
        """Takes the next piece."""
        self._wait()
        if len(data) < _LARGE:
            self._sum.update(data)
            return
        if self._threads is None:
            self._threads = self._own = ThreadPoolExecutor(1, "codecontext-sum")
        self._at_work = self._threads.submit(self._sum.update, data)

    def digest(self) -> bytes:
        """Returns the sum, after the last piece."""
        self._wait()
        if self._own is not None:
            self._own.shutdown(wait=False)
        return self._sum.digest()

    def _wait(self) -> None:
        if self._at_work is not None:
            self._at_work.result()

"""At most once: what was answered to calls that have a request id, for callers who ask again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from codecontext_service.config import Config
from codecontext_service.domain.errors import RequestIdReused

T = TypeVar("T")


class RequestKey(NamedTuple):
    """Which call is meant: ids of different methods and owners have nothing to do with each other."""

    method: str
    request_id: str
    owner: str = ""
    """Whose call it is; empty as long as there are no credentials."""


@dataclass(slots=True)
class _First:
    """The first call with a request id."""

    payload: bytes
    """A digest of what it asked for."""
    answer: Any
    """While it goes on: the task that makes the answer, or an answer that is known before the end."""
    size: int = 0
    ended_at: float = 0.0


class FirstAnswers:
    """The first calls with their request ids: those that go on, and for a time those that have ended.

    Memory is bounded by the options: the calls that ended first are forgotten first. A call that
    goes on is never forgotten, and one that failed is forgotten at once: it has done nothing that
    may not be done again.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts without any.

        Args:
            config: How much is remembered, and for how long.
            clock: Tells the time in seconds.
        """
        self._config = config
        self._clock = clock
        self._going: dict[RequestKey, _First] = {}
        self._ended: dict[RequestKey, _First] = {}
        """In the order of their ends."""
        self._bytes = 0

    def __len__(self) -> int:
        """How many calls are remembered."""
        return len(self._going) + len(self._ended)

    def answer_of(self, key: RequestKey) -> Any:
        """Returns what is known as a call's answer; None if the call is not known."""
        first = self._find(key)
        return None if first is None else first.answer

    def repeated(self, key: RequestKey, payload: bytes) -> Any:
        """Returns the answer of the first call, if this is not the first.

        Raises:
            RequestIdReused: The first call asked for something else.
        """
        first = self._find(key)
        if first is None:
            return None
        if first.payload != payload:
            raise RequestIdReused(key.request_id)
        return first.answer

    def remember(
        self, key: RequestKey, payload: bytes, answer: Any, end: asyncio.Future[Any]
    ) -> None:
        """Takes the first call with a request id, whose answer is known before its end.

        Args:
            key: The call.
            payload: A digest of what it asks for.
            answer: What those who ask again get.
            end: Is done when the call has ended.
        """
        first = self._going[key] = _First(payload, answer)
        end.add_done_callback(lambda end: self._keep(key, first))

    async def once(
        self,
        key: RequestKey,
        payload: bytes,
        work: Callable[[], Coroutine[Any, Any, T]],
        size_of: Callable[[T], int],
    ) -> T:
        """Does a call's work unless it was done or is being done, and waits for the answer.

        The work goes on when its callers have gone: the answer is there for the one who asks again.

        Args:
            key: The call.
            payload: A digest of what it asks for.
            work: Does it.
            size_of: Says how many bytes an answer takes.

        Returns:
            The first call's answer.

        Raises:
            RequestIdReused: The first call asked for something else.
            ServiceError: The first call failed while this one waited for it.
        """
        answer = self.repeated(key, payload)
        if answer is None:
            answer = asyncio.create_task(work())
            first = self._going[key] = _First(payload, answer)
            answer.add_done_callback(lambda task: self._on_done(key, first, task, size_of))
        if isinstance(answer, asyncio.Task):
            await asyncio.wait([answer])  # unlike awaiting it, does not cancel it with this caller
            answer = answer.result()
        result: T = answer
        return result

    def _on_done(
        self, key: RequestKey, first: _First, task: asyncio.Task[T], size_of: Callable[[T], int]
    ) -> None:
        if task.cancelled() or task.exception() is not None:
            del self._going[key]
            return
        first.answer = task.result()
        first.size = size_of(task.result())
        self._keep(key, first)

    def _keep(self, key: RequestKey, first: _First) -> None:
        """Takes note that a call has ended: from now on it is remembered for a time."""
        del self._going[key]
        first.ended_at = self._clock()
        self._ended[key] = first
        self._bytes += first.size
        self._forget()

    def _find(self, key: RequestKey) -> _First | None:
        self._forget()
        return self._going.get(key) or self._ended.get(key)

    def _forget(self) -> None:
        config = self._config
        oldest = self._clock() - config.request_ids_s
        while self._ended:
            key, first = next(iter(self._ended.items()))
            if (
                first.ended_at >= oldest
                and len(self._ended) <= config.request_ids
                and self._bytes <= config.request_ids_bytes
            ):
                return
            del self._ended[key]
            self._bytes -= first.size

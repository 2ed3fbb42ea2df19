"""Questions to an interpreter about its names, and their answers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from codecontext_service.domain.questions import AnswerT, Inspection, Question
from codecontext_service.workers.channel import ProtocolError

from .base import UnansweredError
from .decoding import decode_answer

_GRACE_S = 2.0
"""How long an answer may take beyond the time that the interpreter was given for it."""


class Questions:
    """What one interpreter is asked."""

    def __init__(self, send: Callable[[dict[str, object]], None]) -> None:
        """Starts without any.

        Args:
            send: Sends a question; raises InterpreterError.
        """
        self._send = send
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[type, asyncio.Future[Any]]] = {}

    @property
    def waiting(self) -> list[asyncio.Future[Any]]:
        """Those who wait for an answer."""
        return [answer for _, answer in self._waiting.values()]

    async def ask(self, question: Question[AnswerT], timeout_s: float) -> AnswerT:
        """Asks; see `Interpreter.ask`."""
        number = next(self._numbers)
        answer: asyncio.Future[AnswerT] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (question.answer_type, answer)
        try:
            self._send(
                {
                    "number": number,
                    "inspect": isinstance(question, Inspection),
                    "timeout": timeout_s,
                    **asdict(question),
                }
            )
            async with asyncio.timeout(timeout_s + _GRACE_S):
                return await answer
        finally:
            del self._waiting[number]

    def take(self, content: bytes) -> None:
        """Takes an answer.

        Raises:
            ProtocolError: It is none, or one to another question.
        """
        number, answer = decode_answer(content)
        answer_type, waiting = self._waiting.get(number, (object, None))
        if waiting is None or waiting.done():
            return  # nobody waits for it any more
        if isinstance(answer, UnansweredError):
            waiting.set_exception(answer)
        elif isinstance(answer, answer_type):
            waiting.set_result(answer)
        else:
            raise ProtocolError("an answer to another question")

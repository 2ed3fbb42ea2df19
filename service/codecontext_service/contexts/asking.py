"""What an idle interpreter is asked to do beside running code: one thing at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from codecontext_service.domain.questions import AnswerT, Question
from codecontext_service.runtimes.base import Interpreter

_ResultT = TypeVar("_ResultT")


class Asking:
    """The question, or the fork, that an interpreter works on, if there is one."""

    def __init__(self, on_answered: Callable[[], None]) -> None:
        """Starts without one.

        Args:
            on_answered: Is called when the interpreter is done with it.
        """
        self._on_answered = on_answered
        self._task: asyncio.Task[Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether the interpreter works on one."""
        return self._task is not None

    async def turn(self) -> None:
        """Waits until the interpreter works on none."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def ask(
        self, interpreter: Interpreter, question: Question[AnswerT], timeout_s: float
    ) -> AnswerT:
        """Asks, when it is this question's turn.

        Args:
            interpreter: Whom.
            question: What is asked.
            timeout_s: How long it may work on the answer, in seconds.

        Raises:
            UnansweredError: There is no answer.
            TimeoutError: The interpreter does not answer at all.
            InterpreterError: It has ended.
        """
        return await self.do(interpreter.ask(question, timeout_s))

    async def do(self, work: Coroutine[Any, Any, _ResultT]) -> _ResultT:
        """Has the interpreter do something else, when its turn has come; raises what that raises.

        Args:
            work: What waits for the interpreter's answer.
        """
        # Goes on when its caller has gone: the interpreter works on it all the same.
        self._task = task = asyncio.create_task(work)
        task.add_done_callback(self._on_done)
        return await asyncio.shield(task)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        task.cancelled() or task.exception()  # for those who wait, and nobody may
        self._task = None
        self._on_answered()

"""All executions that can still be read, in bounded memory and for a bounded time."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

from codecontext_service.config import Config
from codecontext_service.domain.errors import ExecutionNotFound

from .execution import Execution


class ExecutionStore:
    """Running executions, and finished ones as long as the options allow."""

    def __init__(self, config: Config) -> None:
        """Starts without any."""
        self._config = config
        self._executions: dict[str, Execution] = {}
        self._finished: dict[str, int] = {}
        """The ids of finished executions, oldest first, with the bytes that their journals held then."""
        self._finished_of: defaultdict[str, deque[str]] = defaultdict(deque)
        self._bytes = 0
        self._sweep: asyncio.TimerHandle | None = None

    def add(self, execution: Execution) -> None:
        """Takes an execution that was accepted."""
        self._executions[execution.id] = execution
        execution.done.add_done_callback(lambda done: self._on_done(execution))

    def get(self, execution_id: str) -> Execution:
        """Returns an execution.

        Raises:
            ExecutionNotFound: There is none any more, or never was.
        """
        execution = self._executions.get(execution_id)
        if execution is None:
            raise ExecutionNotFound(
                f"there is no execution {execution_id[:100]!r}, or its journal was dropped",
                execution_id=execution_id[:100],
            )
        return execution

    @property
    def running_count(self) -> int:
        """How many executions have been accepted and not ended."""
        return len(self._executions) - len(self._finished)

    def _on_done(self, execution: Execution) -> None:
        self._finished[execution.id] = execution.journal.bytes
        self._bytes += execution.journal.bytes
        of_context = self._finished_of[execution.context_id]
        of_context.append(execution.id)
        if len(of_context) > self._config.finished_executions:
            self._drop(of_context[0])
        while self._bytes > self._config.journals_bytes and self._finished:
            self._drop(next(iter(self._finished)))
        if self._sweep is None:
            self._schedule_sweep(self._config.finished_execution_s)

    def _schedule_sweep(self, delay_s: float) -> None:
        self._sweep = asyncio.get_running_loop().call_later(delay_s, self._drop_old)

    def _drop_old(self) -> None:
        """Drops what was kept long enough, and looks again when the next one is due."""
        self._sweep = None
        loop_time = asyncio.get_running_loop().time()
        while self._finished:
            oldest = self._executions[next(iter(self._finished))]
            due = oldest.done_at + self._config.finished_execution_s
            if due > loop_time:
                self._schedule_sweep(due - loop_time)
                return
            self._drop(oldest.id)

    def _drop(self, execution_id: str) -> None:
        execution = self._executions.pop(execution_id)
        self._bytes -= self._finished.pop(execution_id)
        of_context = self._finished_of[execution.context_id]
        of_context.remove(execution_id)
        if not of_context:
            del self._finished_of[execution.context_id]

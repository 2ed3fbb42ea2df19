"""What a context needs of an interpreter, and what a kind of interpreter is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from codecontext_service.domain.events import Event
from codecontext_service.domain.limits import Limits
from codecontext_service.domain.questions import AnswerT, Question
from codecontext_service.processes.cells import Home
from codecontext_service.processes.members import Usage
from codecontext_service.processes.process import ProcessExit
from codecontext_service.runtime_config import RuntimeConfig


@dataclass(frozen=True)
class Finished:
    """What an interpreter says at the end of a run."""

    raised: bool
    interrupted: bool
    """Whether an interrupt stopped the run."""
    cpu_time_s: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Setup:
    """What an interpreter is configured with before its first run."""

    cwd: str
    env: Mapping[str, str]
    limits: Limits


class Listener(Protocol):
    """Who hears of what an interpreter does: its context."""

    def on_event(self, event: Event) -> None:
        """Takes what the run, or a leftover of an earlier one, has made."""

    def on_finished(self, finished: Finished) -> None:
        """Takes the end of the run; all its events came before."""

    def on_ended(self, exit_: ProcessExit, failure: str | None) -> None:
        """Takes the end of the interpreter; all its events came before.

        Args:
            exit_: How its process ended.
            failure: Why the server had to end it, if it did so by itself.
        """

    def on_interrupts_sent(self) -> None:
        """Hears that every interrupt that was asked for has been sent: the next run is safe from it."""


class InterpreterError(Exception):
    """An interpreter could not be started, or could not be configured."""


class WorkingDirectoryError(InterpreterError):
    """The interpreter can't work in the directory; the text says why."""


class ThreadsError(InterpreterError):
    """A fork of the interpreter would lose threads."""

    def __init__(self, threads: Sequence[str]) -> None:
        """Names them.

        Args:
            threads: Their names.
        """
        super().__init__(f"it has threads that a copy would not have: {', '.join(threads)}")
        self.threads = threads


class UnansweredError(Exception):
    """The interpreter lives, and has no answer to a question; the text says why."""


class Interpreter(Protocol):
    """A live interpreter of any language."""

    listener: Listener
    gone: asyncio.Future[None]
    """Done once every process of the interpreter is gone, and its cell."""
    vacated: asyncio.Future[None]
    """Done once every process of the interpreter is gone; its cell may be left."""

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""

    @property
    def pid(self) -> int:
        """Its pid as this server sees it; 0 or less if it has none."""

    @property
    def interrupts_pending(self) -> bool:
        """Whether an interrupt that was asked for is still to be sent."""

    async def configure(self, setup: Setup) -> None:
        """Gives it its working directory, environment and limits, before its first run.

        May be repeated with the same or more variables, and limits that are not wider.

        Raises:
            WorkingDirectoryError: It can't work there.
            InterpreterError: It has ended.
        """

    def execute(
        self, code: str, *, env: Mapping[str, str], execution_count: int, allow_input: bool
    ) -> None:
        """Begins a run."""

    def read_now(self) -> None:
        """Takes what it has said by now, and keeps no text back."""

    def reply_input(self, number: int, text: str, *, end_of_file: bool) -> None:
        """Answers a request for input."""

    async def ask(self, question: Question[AnswerT], timeout_s: float) -> AnswerT:
        """Asks about its names, between runs; the state stays as it is.

        Args:
            question: What is asked.
            timeout_s: How long it may work on the answer, in seconds.

        Raises:
            UnansweredError: There is no answer: it took too long, or the code's own methods failed.
            TimeoutError: The interpreter does not answer at all.
            InterpreterError: It has ended.
        """

    def interrupt(self) -> None:
        """Asks the run to stop."""

    def pause(self) -> None:
        """Stops reading what it writes, so that it must wait."""

    def resume(self) -> None:
        """Reads what it writes again."""

    def end(self) -> None:
        """Ends all its processes, and leaves its cell; `vacated` tells when it is done. May be repeated."""

    def kill(self) -> None:
        """Ends all its processes, and its cell; `gone` tells when it is done. May be repeated."""

    async def usage(self) -> Usage:
        """Measures what its processes use.

        Raises:
            OSError: Nobody can tell: it has ended, or it is stopped.
        """

    def close(self) -> None:
        """Closes what the server holds of it, once it is gone or vacated; of its cell in the first case."""


class Copy(NamedTuple):
    """An interpreter that was forked from another one."""

    interpreter: Interpreter
    lost_threads: Sequence[str]
    """The names of the threads that it has not."""


@runtime_checkable
class ForkingRuntime(Protocol):
    """A kind of interpreter that can be copied with all its state."""

    async def copy(
        self, interpreter: Interpreter, home: Home, limits: Limits, *, allow_threads: bool
    ) -> Copy:
        """Forks an idle interpreter.

        Args:
            interpreter: One of this kind.
            home: Where the copy is to live: beside it, in the same cell if there are cells.
            limits: Those of the copy.
            allow_threads: Whether to fork although it has threads, which the copy will not have.

        Returns:
            The copy, ready to run. A caller that is cancelled leaves none behind.

        Raises:
            ThreadsError: It has threads.
            InterpreterError: There could be no copy; the text says why.
        """


class Runtime(Protocol):
    """A kind of interpreter."""

    config: RuntimeConfig
    version: str
    """The version of its interpreter; empty while it is not known."""
    failure: str
    """Why no interpreter can be started now; empty if one can."""
    capabilities: tuple[str, ...]
    """What its interpreters can do, by the names of the API; see `RuntimeInfo.capabilities`."""
    usual: Setup | None
    """What the interpreters of its pool are configured with ahead, if that is known before they are used."""

    @property
    def pool_size(self) -> int:
        """How many interpreters its pool holds; 0 where none can start before its sandbox is known."""

    @property
    def ready_count(self) -> int:
        """How many interpreters are ready in the pool."""

    async def start(self) -> None:
        """Gets ready to start interpreters.

        Raises:
            InterpreterError: It can't.
        """

    def begin_filling(self) -> None:
        """Begins to keep the pool full; once it is started."""

    async def acquire(self, home: Home, setup: Setup) -> Interpreter:
        """Returns a fresh interpreter, from the pool if there is one that fits.

        Args:
            home: Where it is to live. It gets a cell if it has none, and keeps that if this fails.
            setup: What it will be configured with.

        Raises:
            InterpreterError: None could be started.
        """

    async def stop(self) -> None:
        """Ends the interpreters of the pool."""

"""Runtimes whose interpreters are programs of their own, each started for its context."""

from __future__ import annotations

import asyncio
from typing import Protocol

from codecontext_service.processes.cells import Cells
from codecontext_service.processes.forking import Forked
from codecontext_service.processes.keeper import KeeperLost
from codecontext_service.processes.launcher import Launcher, LauncherLost
from codecontext_service.processes.members import Member
from codecontext_service.processes.peer import OrderError
from codecontext_service.processes.programs import Module, Program, ProgramForker
from codecontext_service.runtime_config import RuntimeConfig
from codecontext_service.workers.containment import Place

from .base import InterpreterError
from .pooled import PooledRuntime


class Language(Protocol):
    """What is to be known of a language whose interpreters are programs."""

    def capabilities(self, config: RuntimeConfig) -> tuple[str, ...]:
        """Returns what they can do, by the names of the API; see `RuntimeInfo.capabilities`.

        Raises:
            ConfigError: The options don't do; the text says why.
        """

    def shown(self, config: RuntimeConfig) -> tuple[str, ...]:
        """Returns the directories and files that they read, beside those of the system."""

    async def program(self, config: RuntimeConfig) -> Program | Module:
        """Returns how one is started.

        Raises:
            InterpreterError: The options don't do; the text says why.
        """

    async def version(self, config: RuntimeConfig) -> str:
        """Returns the interpreter's version.

        Raises:
            InterpreterError: It can't be run; the text says why.
        """


class ProgramRuntime(PooledRuntime):
    """A program that is an interpreter."""

    interrupts_again = True

    def __init__(
        self, config: RuntimeConfig, language: Language, launcher: Launcher, cells: Cells
    ) -> None:
        """Makes a runtime that is not started yet.

        Args:
            config: Its options.
            language: How its interpreters are started, and what they can do.
            launcher: What starts them.
            cells: Where they live, if the machine allows cells.
        """
        super().__init__(config, cells)
        self.capabilities = language.capabilities(config)
        self._language = language
        self._launcher = launcher
        self._forker: ProgramForker | None = None

    async def start(self) -> None:
        """Looks whether the program works.

        Raises:
            InterpreterError: It does not; the text says why.
        """
        try:
            program = await self._language.program(self.config)
            self.version = await self._language.version(self.config)
        except InterpreterError as error:
            raise InterpreterError(f"runtime {self.config.name}: {error}") from error
        self._forker = ProgramForker(self._launcher, program)
        self.failure = ""

    async def fork(self, cell: Member | None, place: Place | None = None) -> Forked:
        """Starts an interpreter; see `PooledRuntime`."""
        if self._forker is None:
            raise InterpreterError(f"runtime {self.config.name}: {self.failure}")
        try:
            await self._launcher.revive()
            return await self._forker.fork(cell, place)
        except (OrderError, KeeperLost, LauncherLost, OSError) as error:
            raise InterpreterError(f"no interpreter could be started: {error}") from error


async def output_of(argv: list[str], timeout_s: float = 30.0) -> str:
    """Runs a command, and returns what it writes to standard output, such as its version.

    Raises:
        InterpreterError: It can't be run, or fails; the text says why.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
        )
    except OSError as error:
        raise InterpreterError(f"{argv[0]} can't be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(timeout_s):
            said, complaint = await process.communicate()
    except BaseException as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise InterpreterError(f"{argv[0]} does not answer") from None
        raise
    if process.returncode:
        text = complaint.decode(errors="replace")[-500:].strip()
        raise InterpreterError(f"{argv[0]} fails: {text}")
    return said.decode(errors="replace").strip()

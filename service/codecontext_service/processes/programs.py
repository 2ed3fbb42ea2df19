"""Interpreters that are programs of their own, which the launcher starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .bootstrap import clean_environment
from .forking import Forker
from .launcher import Launcher


@dataclass(frozen=True)
class Program:
    """How an interpreter is started. It finds its channel as descriptor 3, see `workers.channel`."""

    argv: tuple[str, ...]
    """Its command; the first word is the path of the executable."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Its environment, beside what each process below the server has. The code's own comes later."""

    framed: bool = False
    """Whether its channel is a stream, see `workers.channel`."""

    @property
    def order(self) -> dict[str, Any]:
        """What the launcher is told."""
        return {"argv": self.argv, "env": clean_environment(self.argv[0]) | dict(self.env)}


@dataclass(frozen=True)
class Module:
    """A module of `workers` that is an interpreter: the launcher has it loaded, and forks it."""

    name: str
    """Its name below `workers`; it has a function `run`."""

    options: Mapping[str, Any]
    """What that is told, as JSON."""

    framed = False
    """Its channel has packets."""

    @property
    def order(self) -> dict[str, Any]:
        """What the launcher is told."""
        return {"module": self.name, "options": dict(self.options)}


class ProgramForker(Forker):
    """Has the launcher start a program, confined as every interpreter is."""

    def __init__(self, launcher: Launcher, program: Program | Module) -> None:
        """Knows what to start.

        Args:
            launcher: What starts it.
            program: How.
        """
        super().__init__(launcher)
        self.framed = program.framed
        self._command = program.order

    async def order(self, descriptors: list[int], where: dict[str, Any]) -> tuple[int, int]:
        """Has it started; see `Forker`."""
        return await self._launcher.exec({**self._command, **where}, descriptors)

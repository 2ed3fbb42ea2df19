"""Bash: a resident shell, see `workers.bash`."""

from __future__ import annotations

import sys

from codecontext_service.config import RuntimeConfig
from codecontext_service.processes.bootstrap import command
from codecontext_service.processes.programs import Program

from .programs import output_of

_CHANNEL_FD = 3


class Bash:
    """What is to be known of Bash."""

    capabilities: tuple[str, ...] = ("interrupt", "input")

    def shown(self, config: RuntimeConfig) -> tuple[str, ...]:
        """Returns what it reads beside the system's own: the shell."""
        return (config.interpreter,)

    async def program(self, config: RuntimeConfig) -> Program:
        """Returns how its worker is started, which starts the shell."""
        options = {"fd": _CHANNEL_FD, "bash": config.interpreter, "raises": config.status_raises}
        return Program(tuple(command(sys.executable, "bash.worker", options, "-S")))

    async def version(self, config: RuntimeConfig) -> str:
        """Returns its version."""
        return await output_of([config.interpreter, "-c", 'echo "$BASH_VERSION"'])

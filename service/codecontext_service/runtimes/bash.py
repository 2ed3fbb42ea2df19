"""Bash: a resident shell, see `workers.bash`."""

from __future__ import annotations

from codecontext_service.processes.programs import Module
from codecontext_service.runtime_config import RuntimeConfig

from .programs import output_of


class Bash:
    """What is to be known of Bash."""

    def capabilities(self, config: RuntimeConfig) -> tuple[str, ...]:
        """Returns what its contexts can do."""
        return ("interrupt", "input", "environment")

    def shown(self, config: RuntimeConfig) -> tuple[str, ...]:
        """Returns what it reads beside the system's own: the shell."""
        return (config.interpreter,)

    async def program(self, config: RuntimeConfig) -> Module:
        """Returns its worker, which starts the shell."""
        return Module("bash.worker", {"bash": config.interpreter, "raises": config.status_raises})

    async def version(self, config: RuntimeConfig) -> str:
        """Returns its version."""
        return await output_of([config.interpreter, "-c", 'echo "$BASH_VERSION"'])

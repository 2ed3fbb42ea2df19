"""JavaScript and TypeScript: a resident Node, see `workers/node`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from codecontext_service.processes.programs import Program
from codecontext_service.runtime_config import RuntimeConfig

from .base import InterpreterError
from .programs import output_of

_WORKER = Path(__file__).parent.parent / "workers" / "node" / "worker.js"

_FLAGS = (
    # Code that is terminated in a timer's callback leaves the stack of async hooks as it was.
    "--no-force-async-hooks-checks",
    "--disable-warning=ExperimentalWarning",  # of the type stripping
    # As much as the machine has, in MiB: what counts is the limit of the context. At its own one V8 aborts, of
    # which nobody could tell why.
    f"--max-old-space-size={os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // (1 << 20)}",
)


_VERSION = re.compile(r"v\d+\.\d+\..*")
_OLDEST = {"javascript": (20,), "typescript": (22, 13)}
"""The first versions that will do: Node strips types since 22.13."""


class Node:
    """What is to be known of the languages that Node runs."""

    def capabilities(self, config: RuntimeConfig) -> tuple[str, ...]:
        """Returns what its contexts can do."""
        return ("interrupt", "input", "environment")

    def shown(self, config: RuntimeConfig) -> tuple[str, ...]:
        """Returns what it reads beside the system's own: Node, and the worker's code."""
        return (str(Path(config.interpreter).resolve()), config.interpreter, str(_WORKER.parent))

    async def program(self, config: RuntimeConfig) -> Program:
        """Returns how its worker is started."""
        argv = (config.interpreter, *_FLAGS, str(_WORKER), config.language)
        return Program(argv, framed=True)

    async def version(self, config: RuntimeConfig) -> str:
        """Returns its version.

        Raises:
            InterpreterError: It can't be run, or it is too old; the text says which it is and which is needed.
        """
        said = await output_of([config.interpreter, "--version"])
        version, oldest = said.removeprefix("v"), _OLDEST[config.language]
        if not _VERSION.fullmatch(said):
            raise InterpreterError(
                f"{config.interpreter} is not Node: its version is {said[:80]!r}"
            )
        if tuple(map(int, version.split(".")[:2])) < oldest:
            needed = ".".join(map(str, oldest))
            raise InterpreterError(
                f"{config.interpreter} is Node {version}, and {config.language} needs {needed} or newer; "
                "pip install 'codecontext[javascript]' brings one"
            )
        return version

"""The languages that this server knows, and how runtimes of each are made."""

from __future__ import annotations

from pathlib import Path

from codecontext_service.processes.cells import Cells
from codecontext_service.processes.launcher import Launcher
from codecontext_service.runtime_config import RuntimeConfig

from .base import Runtime
from .bash import Bash
from .jupyter import Jupyter
from .node import Node
from .programs import Language, ProgramRuntime
from .python import PythonRuntime

PROGRAMS: dict[str, Language] = {"javascript": Node(), "typescript": Node(), "bash": Bash()}
"""Those whose interpreters are programs. Python's are forked from a zygote."""

_JUPYTER = Jupyter()


def program_of(config: RuntimeConfig) -> Language | None:
    """Returns what is to be known of a runtime whose interpreters are programs; None for Python."""
    return _JUPYTER if config.kernelspec else PROGRAMS.get(config.language)


def make_runtime(
    config: RuntimeConfig, launcher: Launcher, cells: Cells, state_dir: Path
) -> Runtime:
    """Makes a runtime that is not started yet.

    Args:
        config: Its options.
        launcher: What starts its processes.
        cells: Where its interpreters live, if the machine allows cells.
        state_dir: A directory of its own.
    """
    if (language := program_of(config)) is not None:
        return ProgramRuntime(config, language, launcher, cells)
    return PythonRuntime(config, launcher, cells, state_dir)

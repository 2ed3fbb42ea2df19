"""Jupyter kernels: each driven by a bridge of its own in its cell, see `workers/jupyter`."""

from __future__ import annotations

import sys
from pathlib import Path

from codecontext_service.config_error import ConfigError
from codecontext_service.processes.bootstrap import command
from codecontext_service.processes.programs import Program
from codecontext_service.runtime_config import RuntimeConfig

from .base import InterpreterError
from .kernelspecs import Kernelspec, available, installation
from .programs import output_of

_CHANNEL_FD = 3

_READY_S = 25.0
"""How long a kernel may need until it is ready: a bit less than a create may take by default."""

_LOOK = "import importlib.util; print(importlib.util.find_spec('jupyter_client') is not None)"


class Jupyter:
    """What is to be known of kernels, whatever their language."""

    def capabilities(self, config: RuntimeConfig) -> tuple[str, ...]:
        """Returns what they can do, as far as the kernelspec tells.

        Raises:
            ConfigError: The kernelspec can't be used.
        """
        common = ("input", "complete", "inspect")
        if Kernelspec.read(Path(config.kernelspec)).survives_interrupts:
            return ("interrupt", *common)
        return common

    def shown(self, config: RuntimeConfig) -> tuple[str, ...]:
        """Returns what they read beside the system's own: the kernelspec, and what it starts.

        Raises:
            ConfigError: The kernelspec can't be used.
        """
        spec = Kernelspec.read(Path(config.kernelspec))
        return (*spec.shown(config.interpreter), *installation(Path(config.interpreter)))

    async def program(self, config: RuntimeConfig) -> Program:
        """Returns how the bridge is started.

        Raises:
            InterpreterError: The interpreter that is to run it has no jupyter_client.
        """
        if config.interpreter == sys.executable:
            there = available()  # no Python has to start for that
        else:
            there = await output_of([config.interpreter, "-I", "-c", _LOOK]) == "True"
        if not there:
            raise InterpreterError(
                f"{config.interpreter} has no jupyter_client; pip install 'codecontext[jupyter]'"
            )
        options = {
            "fd": _CHANNEL_FD,
            "kernelspec": config.kernelspec,
            "transport": config.kernel_transport,
            "timeout": _READY_S,
        }
        return Program(tuple(command(config.interpreter, "jupyter.bridge", options)))

    async def version(self, config: RuntimeConfig) -> str:
        """Returns nothing: a kernel tells its version once it runs, and none is started for that."""
        try:
            Kernelspec.read(Path(config.kernelspec))
        except ConfigError as error:
            raise InterpreterError(str(error)) from error
        return ""

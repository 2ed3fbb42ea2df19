"""Jupyter's kernelspecs: which there are, by their files alone, and what their kernels need of the machine."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codecontext_service.config import Config
from codecontext_service.config_error import ConfigError
from codecontext_service.processes.bootstrap import clean_environment
from codecontext_service.runtime_config import RuntimeConfig

logger = logging.getLogger(__name__)

PREFIX = "jupyter-"
"""What the names of runtimes begin with that are made of the kernelspecs found."""

_MAX_BYTES = 1 << 20
_PYTHON = re.compile(r"python(3(\.\d+)?)?")


@dataclass(frozen=True)
class Kernelspec:
    """How a kernel is started, as its `kernel.json` says."""

    folder: Path
    language: str
    program: str
    """The first word of its command."""
    by_message: bool
    """Whether it is interrupted by a message, and not by SIGINT."""

    @classmethod
    def read(cls, folder: Path) -> Kernelspec:
        """Reads the kernelspec in a folder.

        Raises:
            ConfigError: There is none, or it is none; the text says why.
        """
        path = folder / "kernel.json"
        try:
            with path.open("rb") as file:
                spec: Any = json.loads(file.read(_MAX_BYTES))
        except OSError as error:
            raise ConfigError(f"{path} can't be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise ConfigError(f"{path} is no JSON") from None
        match spec:
            case {"argv": [str(program), *_], "language": str(language)} if program and language:
                by_message = spec.get("interrupt_mode") == "message"
                return cls(folder, language.lower(), program, by_message)
        raise ConfigError(f"{path} is no kernelspec: it names no argv, or no language")

    @property
    def survives_interrupts(self) -> bool:
        """Whether it is known that an interrupt ends its run and nothing else.

        SIGINT ends a process that does not care for it, and no kernelspec tells whether its kernel does; what
        runs under Python does.
        """
        return self.by_message or _PYTHON.fullmatch(Path(self.program).name) is not None

    def shown(self, interpreter: str) -> set[str]:
        """Returns what its kernel reads of the machine: its own folder, and where its program is installed.

        Args:
            interpreter: That of the bridge, which stands for `python`, as in Jupyter.

        Raises:
            ConfigError: There is no such program.
        """
        found = {str(self.folder)}
        if _PYTHON.fullmatch(self.program):
            return found
        path = clean_environment(interpreter)["PATH"]
        program = shutil.which(self.program, path=path)
        if program is None:
            raise ConfigError(f"{self.folder}/kernel.json: there is no program {self.program!r}")
        for each in (Path(program).absolute(), Path(program).resolve()):
            found |= installation(each)
        return found


def installation(program: Path) -> set[str]:
    """Returns where a program's own files are, by the habit that it is in `bin` beside `lib` and `share`."""
    prefix = program.parent.parent
    if program.parent.name != "bin" or prefix in (Path("/"), Path.home()):
        return {str(program)}
    found = {str(prefix)}
    try:  # a virtual environment has its standard library elsewhere
        lines = (prefix / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for key, _, value in (line.partition("=") for line in lines):
        if key.strip() == "home" and Path(value.strip()).name == "bin":
            found.add(str(Path(value.strip()).parent))
    return found


def available() -> bool:
    """Returns whether the server's environment has what drives kernels; nothing is imported for that."""
    return importlib.util.find_spec("jupyter_client") is not None


def search_path(config: Config) -> list[Path]:
    """Returns where kernelspecs are looked for: the configured directories, then the usual ones of Jupyter."""
    data = os.environ.get("JUPYTER_DATA_DIR")
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    usual = (
        *filter(None, os.environ.get("JUPYTER_PATH", "").split(os.pathsep)),
        data or Path(home) / "jupyter",
        Path(sys.prefix) / "share" / "jupyter",
        "/usr/local/share/jupyter",
        "/usr/share/jupyter",
    )
    return [Path(each) / "kernels" for each in (*config.jupyter_paths, *usual)]


def _folders(config: Config) -> Iterator[Path]:
    for kernels in search_path(config):
        try:
            yield from sorted(each for each in kernels.iterdir() if each.is_dir())
        except OSError:  # it is not there, or not for us
            continue


def with_kernels(config: Config) -> Config:
    """Completes the runtimes: those that name a kernelspec, and one for each other that is found.

    Args:
        config: The options.

    Returns:
        The options, in which every runtime of a kernelspec has that one's folder and language. Those
        found come last, so that a language of its own takes another runtime by default.

    Raises:
        ConfigError: A kernelspec that is named can't be used.
    """
    runtimes = [
        _complete(config, runtime) if runtime.kernelspec else runtime for runtime in config.runtimes
    ]
    taken = {runtime.name for runtime in runtimes}
    taken_folders = {runtime.kernelspec for runtime in runtimes}
    for folder in _folders(config) if config.jupyter_kernels and available() else ():
        name = PREFIX + re.sub(r"[^a-z0-9._-]+", "-", folder.name.lower())
        if name in taken or str(folder) in taken_folders:
            continue
        try:
            spec = Kernelspec.read(folder)
            runtime = _of(spec, RuntimeConfig(name=name, pool_size=0, preload=()))
            runtime.check()
        except ConfigError as error:
            logger.warning("a kernelspec is left out: %s", error)
            continue
        taken.add(name)
        runtimes.append(runtime)
    return replace(config, runtimes=tuple(runtimes))


def _complete(config: Config, runtime: RuntimeConfig) -> RuntimeConfig:
    try:
        if "/" in runtime.kernelspec:
            folder = Path(runtime.kernelspec)
        else:
            there = list(_folders(config))
            named = [each for each in there if each.name.lower() == runtime.kernelspec.lower()]
            if not named:
                known = ", ".join(sorted({each.name for each in there})) or "none"
                raise ConfigError(f"there is no {runtime.kernelspec!r}; known ones: {known}")
            folder = named[0]
        return _of(Kernelspec.read(folder), runtime)
    except ConfigError as error:
        raise ConfigError(f"runtimes.{runtime.name}.kernelspec: {error}") from None


def _of(spec: Kernelspec, runtime: RuntimeConfig) -> RuntimeConfig:
    spec.shown(runtime.interpreter)  # whether it can be started at all
    return replace(runtime, kernelspec=str(spec.folder), language=spec.language)

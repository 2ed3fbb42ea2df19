"""How a process of `workers` is started: isolated from the environment, with nothing to import but its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import codecontext_service

ROOT = str(Path(codecontext_service.__file__).parent.parent)
"""The directory that the processes below the server import this package from."""

_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from codecontext_service.workers.{module} import main; "
    "del sys.path[0], sys.argv[1]; main()"
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def command(interpreter: str, module: str, options: dict[str, Any], *flags: str) -> list[str]:
    """Returns the command that runs `main()` of a module of `workers`.

    Args:
        interpreter: The Python executable.
        module: The module's name.
        options: What `main()` finds in `sys.argv[1]`, as JSON.
        *flags: More flags for the interpreter.
    """
    code = _CODE.format(module=module)
    return [interpreter, "-I", *flags, "-c", code, ROOT, json.dumps(options)]


def clean_environment(interpreter: str) -> dict[str, str]:
    """Returns the environment that every process below the server starts from.

    Args:
        interpreter: The executable whose folder comes first in `PATH`.
    """
    folder = Path(interpreter).parent
    return {"PATH": f"{folder}:{_PATH}", "LANG": "C.UTF-8"}

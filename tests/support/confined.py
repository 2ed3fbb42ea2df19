"""Runs a function in a fresh process, confined or not: what is denied there can't be had back.

The process has one thread and the standard library alone, like the ones that are confined in earnest.
"""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import codecontext_service

_ROOTS = [str(Path(codecontext_service.__file__).parent.parent), str(Path(__file__).parent.parent)]
_CODE = (
    "import pickle, sys; request = pickle.load(sys.stdin.buffer); sys.path[:0] = request['roots']; "
    "from support.confined import main; main(request)"
)
NOBODY = 65534


@dataclass(frozen=True)
class Ended:
    """How a function ended."""

    value: Any = None
    error: str = ""
    """The errno's name, if it raised OSError, or `EAGAIN` and so on; empty if it returned."""
    signal: str = ""
    """The signal that ended its process."""

    @property
    def outcome(self) -> str:
        """`ok`, the errno's name, or the signal's."""
        return self.signal or self.error or "ok"


def run(
    function: Callable[..., Any],
    *arguments: Any,
    confinement: Any = None,
    uid: int | None = None,
    user_namespace: bool = False,
    timeout_s: float = 60,
) -> Ended:
    """Runs a function of a module of `tests` in a fresh process.

    Args:
        function: The function, of a module that imports nothing that is not in the standard library.
        *arguments: What it gets; they are pickled.
        confinement: What is applied before it is called.
        uid: Whom the process becomes first.
        user_namespace: Whether it then enters a user namespace.
        timeout_s: How long it may take.

    Raises:
        AssertionError: It raised anything but OSError.
    """
    request = {
        "roots": _ROOTS,
        "function": (function.__module__, function.__qualname__),
        "uid": uid,
        "user_namespace": user_namespace,
        "payload": pickle.dumps((arguments, confinement)),
    }
    read, write = os.pipe()
    command = [sys.executable, "-I", "-S", "-c", _CODE]
    with os.fdopen(read, "rb") as answer:
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            pass_fds=[write],
            start_new_session=True,
        ) as process:
            os.close(write)
            request["answer"] = write
            process.communicate(pickle.dumps(request), timeout=timeout_s)
        said = answer.read()
    if process.returncode < 0:
        return Ended(signal=signal.Signals(-process.returncode).name)
    assert said, f"the process ended with {process.returncode} and said nothing"
    ended = pickle.loads(said)
    assert isinstance(ended, Ended), ended
    return ended


def main(request: dict[str, Any]) -> None:
    """Is the fresh process."""
    answer = request["answer"]
    os.set_inheritable(answer, False)
    try:
        said: Ended | str = _obey(request)
    except BaseException:
        said = traceback.format_exc()
    os.write(answer, pickle.dumps(said))
    os._exit(0)


def _obey(request: dict[str, Any]) -> Ended:
    import importlib

    from codecontext_service.workers import syscalls
    from codecontext_service.workers.confinement import User, confine

    module, name = request["function"]
    function = getattr(importlib.import_module(module), name)
    arguments, confinement = pickle.loads(request["payload"])
    if request["uid"] is not None:
        User(request["uid"], request["uid"]).become()
        syscalls.set_dumpable(True)
    if request["user_namespace"]:
        syscalls.new_user_namespace()
    if confinement is not None:
        confine(confinement)
    try:
        return Ended(value=function(*arguments))
    except OSError as error:
        return Ended(error=errno.errorcode.get(error.errno or 0, str(error)))

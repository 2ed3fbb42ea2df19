"""Runs a function in a process of its own, confined or not: what is denied there can't be had back.

The processes are forked from a fresh one, which has one thread and the standard library alone, like those
that are confined in earnest.
"""

from __future__ import annotations

import atexit
import errno
import functools
import importlib
import os
import pickle
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import codecontext_service

_ROOTS = [str(Path(codecontext_service.__file__).parent.parent), str(Path(__file__).parent.parent)]
_CODE = "import sys; sys.path[:0] = sys.argv[1:]; from support.confined import main; main()"
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


class _Forks:
    """The fresh process: takes requests on standard input, and answers on standard output."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", _CODE, *_ROOTS]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        atexit.register(self.close)

    def run(self, request: dict[str, Any], timeout_s: float) -> object:
        """Returns what the forked process said, or its exit status if it said nothing."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        pickle.dump(request, stdin)
        stdin.flush()
        if not select.select([stdout], [], [], timeout_s)[0]:
            self.close()
            raise AssertionError(f"{request['function']} took longer than {timeout_s} s")
        return pickle.load(stdout)

    def close(self) -> None:
        """Ends it, and what runs in it."""
        atexit.unregister(self.close)
        with self._process as process:
            process.terminate()  # its child has a parent-death signal
        _fresh_process.cache_clear()


@functools.cache
def _fresh_process() -> _Forks:
    return _Forks()


def run(
    function: Callable[..., Any],
    *arguments: Any,
    confinement: Any = None,
    uid: int | None = None,
    user_namespace: bool = False,
    timeout_s: float = 60,
) -> Ended:
    """Runs a function of a module of `tests` in a process of its own.

    Args:
        function: The function, of a module that imports nothing that is not in the standard library.
        *arguments: What it gets; they are pickled.
        confinement: What is applied before it is called.
        uid: Whom the process becomes first.
        user_namespace: Whether it then enters a user namespace.
        timeout_s: How long it may take.

    Raises:
        AssertionError: It raised anything but OSError, or took too long.
    """
    request = {
        "function": (function.__module__, function.__qualname__),
        "uid": uid,
        "user_namespace": user_namespace,
        "payload": pickle.dumps((arguments, confinement)),
    }
    said = _fresh_process().run(request, timeout_s)
    if isinstance(said, int):
        assert said < 0, f"the process ended with {said} and said nothing"
        return Ended(signal=signal.Signals(-said).name)
    assert isinstance(said, Ended), said
    return said


def main() -> None:
    """Is the fresh process."""
    for name in ("attempts", "rights", "uses"):
        importlib.import_module(f"support.{name}")  # ahead of the forks

    requests, answers = sys.stdin.buffer, os.dup(1)
    os.dup2(2, 1)  # what a test prints is no answer
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        read, write = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(answers)
            os.close(read)
            _answer(request, parent, write)
        os.close(write)
        with os.fdopen(read, "rb") as end:
            said = end.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(answers, said or pickle.dumps(status))


def _answer(request: dict[str, Any], parent: int, write: int) -> NoReturn:
    """Is a forked process."""
    said: Ended | str = "nothing"
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        said = _obey(request, parent)
    except BaseException:
        said = traceback.format_exc()
    finally:
        os.write(write, pickle.dumps(said))
        os._exit(0)


def _obey(request: dict[str, Any], parent: int) -> Ended:
    from codecontext_service.workers import syscalls
    from codecontext_service.workers.confinement import User, confine

    module, name = request["function"]
    function = getattr(importlib.import_module(module), name)
    arguments, confinement = pickle.loads(request["payload"])
    if request["uid"] is not None:
        User(request["uid"], request["uid"]).become()
        syscalls.set_dumpable(True)
    syscalls.die_with_parent(parent)
    if request["user_namespace"]:
        syscalls.new_user_namespace()
    if confinement is not None:
        confine(confinement)
    try:
        return Ended(value=function(*arguments))
    except OSError as error:
        return Ended(error=errno.errorcode.get(error.errno or 0, str(error)))

"""The zygote of a Python runtime: has everything loaded, and forks contexts from itself.

It is exec'd under the runtime's own interpreter, stays single-threaded, and talks to the server over
descriptor 3. From the server: `{"fork": number, …}`, see `placing`. To the server: `{"ready": …}` once or
`{"failed": …}`, `{"answer": number, …}` to each order, with the `pid` and a pidfd of the interpreter (without
cells: of the keeper above it) or the `error` that prevented it, and `{"exited": pid, …}` for each child that
it has reaped.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import select
import signal
import socket
import sys
from typing import Any

from . import huge_pages, mappings, syscalls
from .cells import Nursery
from .channel import Channel
from .children import ChildWatch
from .containment import Tier
from .descriptors import close_all, receive_message, send_message
from .placing import Placing

CHANNEL_FD = 700
"""Where an interpreter's channel is: out of the way of what the code opens and closes."""


class Zygote:
    """The zygote's state: its socket, and what to load."""

    def __init__(self, end: socket.socket, options: dict[str, Any]) -> None:
        """Starts with nothing loaded."""
        self._end = end
        self._options = options

    def run(self) -> None:
        """Loads everything, then forks contexts until the server is gone."""
        try:
            from .python.interpreter import Interpreter  # imports IPython, which may be missing

            with huge_pages.room_for_objects():
                interpreter = Interpreter(self._options["preload"])
            threads = len(os.listdir("/proc/self/task"))
            if threads != 1:
                raise RuntimeError(
                    f"the preloaded modules started {threads - 1} threads; leave them out"
                )
        except Exception as error:
            send_message(self._end, {"failed": f"{type(error).__name__}: {error}"})
            return
        gc.collect()
        gc.freeze()
        huge_pages.collapse()
        mappings.join()
        with contextlib.suppress(EOFError, OSError):
            send_message(
                self._end, {"ready": platform.python_version(), "missing": interpreter.missing}
            )
            self._serve(interpreter)

    def _serve(self, interpreter: Any) -> None:
        cells = self._options["cells"]
        tier = Tier(**self._options["tier"])
        self._placing = Placing(Nursery() if cells else None, tier, CHANNEL_FD, self._leave)
        if tier.name != "none" or cells:
            syscalls.set_dumpable(False)
            syscalls.set_no_new_privs()
            with contextlib.suppress(PermissionError):  # then no_new_privs says the same
                syscalls.drop_bounding_set()
        self._watch = ChildWatch()
        while True:
            ready = select.select([self._end.fileno(), self._watch.fileno()], [], [])[0]
            if self._watch.fileno() in ready:
                # At once: the end of a pid namespace waits for it.
                for child in self._watch.reap():
                    send_message(self._end, child.report())
            if self._end.fileno() in ready:
                message, descriptors = receive_message(self._end)
                self._answer(message, interpreter, descriptors)
                close_all(descriptors)

    def _answer(self, message: dict[str, Any], interpreter: Any, descriptors: list[int]) -> None:
        number = message["fork"]
        try:
            pid = self._placing.fork(
                message, descriptors, lambda: interpreter.run(_channel_of_interpreter())
            )
        except OSError as error:
            send_message(self._end, {"answer": number, "error": str(error)})
            return
        pidfd = os.pidfd_open(pid)
        send_message(self._end, {"answer": number, "pid": pid}, [pidfd])
        os.close(pidfd)

    def _leave(self) -> None:
        """Lets go of what is the zygote's, in a process that was just forked from it."""
        self._watch.close()
        self._end.close()


def _channel_of_interpreter() -> Channel:
    return Channel(socket.socket(fileno=CHANNEL_FD))


def main() -> None:
    """Is a zygote; the options are the first argument, as JSON."""
    options = json.loads(sys.argv[1])
    sys.argv[:] = [""]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.makedirs(os.environ["HOME"], exist_ok=True)
    Zygote(socket.socket(fileno=options["fd"]), options).run()

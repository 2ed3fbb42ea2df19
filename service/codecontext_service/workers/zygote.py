"""The zygote of a Python runtime: has everything loaded, and forks contexts from itself.

It is exec'd under the runtime's own interpreter, stays single-threaded, and talks to the server over
descriptor 3. From the server: `{"fork": number}` with the channel, the keeper's socket, and the write
ends of standard output and error. To the server: `{"ready": …}` once or `{"failed": …}`, `{"forked":
number, "pid": …}` with the keeper's pidfd, and `{"exited": pid, "code": …}` when it has reaped one.
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
from typing import Any, NoReturn

from . import syscalls
from .channel import Channel
from .children import ChildWatch
from .descriptors import close_all, close_all_but, receive_message, send_message
from .keeper import run_keeper

CHANNEL_FD = 700
"""Where an interpreter's channel is: out of the way of what the code opens and closes."""


class Zygote:
    """The zygote's state: what is loaded, and whether each context gets a pid namespace."""

    def __init__(self, end: socket.socket, options: dict[str, Any]) -> None:
        """Starts with nothing loaded."""
        self._end = end
        self._options = options
        self._own_namespaces: bool = options["pid_namespaces"]

    def run(self) -> None:
        """Loads everything, then forks contexts until the server is gone."""
        try:
            from .python.interpreter import Interpreter  # imports IPython, which may be missing

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
        with contextlib.suppress(EOFError, OSError):
            send_message(
                self._end, {"ready": platform.python_version(), "missing": interpreter.missing}
            )
            self._serve(interpreter)

    def _serve(self, interpreter: Any) -> None:
        home = (
            os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if self._own_namespaces else -1
        )
        watch = ChildWatch()
        while True:
            ready = select.select([self._end.fileno(), watch.fileno()], [], [])[0]
            if watch.fileno() in ready:
                # At once: the end of a pid namespace waits for it.
                for child in watch.reap():
                    send_message(self._end, {"exited": child.pid, "code": child.exit_code})
            if self._end.fileno() not in ready:
                continue
            message, descriptors = receive_message(self._end)
            if self._own_namespaces:
                syscalls.unshare(syscalls.CLONE_NEWPID)
            pid = os.fork()
            if pid == 0:
                watch.close()
                _become_context(
                    interpreter, self._end, descriptors, own_namespace=self._own_namespaces
                )
            if self._own_namespaces:
                syscalls.setns(home, syscalls.CLONE_NEWPID)
            pidfd = os.pidfd_open(pid)
            send_message(self._end, {"forked": message["fork"], "pid": pid}, [pidfd])
            close_all([pidfd, *descriptors])


def _become_context(
    interpreter: Any, zygote_end: socket.socket, descriptors: list[int], *, own_namespace: bool
) -> NoReturn:
    """Turns the forked process into a keeper, and its child into the interpreter."""
    status = 1
    try:
        zygote_end.close()
        channel, keeper, stdout, stderr = descriptors

        def run_interpreter() -> None:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGHUP):
                # The launcher ignores them, which children inherit: theirs could not be terminated.
                signal.signal(number, signal.SIG_DFL)
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (stdout, 1), (stderr, 2), (channel, CHANNEL_FD)):
                os.dup2(source, target, inheritable=target <= 2)
            close_all_but([CHANNEL_FD])
            if own_namespace:
                syscalls.drop_privileges()
            interpreter.run(Channel(socket.socket(fileno=CHANNEL_FD)))

        run_keeper(
            socket.socket(fileno=keeper),
            own_namespace=own_namespace,
            run_interpreter=run_interpreter,
        )
    except BaseException as error:
        os.write(2, f"codecontext: a context could not start: {error!r}\n".encode())
    finally:
        os._exit(status)


def main() -> None:
    """Is a zygote; the options are the first argument, as JSON."""
    options = json.loads(sys.argv[1])
    sys.argv[:] = [""]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Zygote(socket.socket(fileno=options["fd"]), options).run()

"""The launcher: the root of all processes below the server, and their reaper of last resort.

It is exec'd with a clean environment, before the server holds any secret, and talks to the server over
descriptor 3. Where the machine allows it, it is pid 1 of a pid namespace, so that its end is the end
of all; else it is a subreaper, which ends all when the server is gone.

From the server: `{"spawn": number, "argv": […], "env": {…}}` with the descriptors that become 3 and 2,
`{"keep": pid}` for each keeper, `{"sweep": number}`. To the server: `{"ready": …}` once,
`{"spawned": number, "pid": …}`, `{"exited": pid, "code": …}`, `{"swept": number}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from . import syscalls
from .children import ChildWatch, end_all_children
from .descriptors import close_all, close_all_but, receive_message, send_message


def _works(attempt: Callable[[], None]) -> bool:
    """Tries something in a child process, since there is no way back from a namespace."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            attempt()
            status = 0
        except OSError:
            pass
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def _make_pid_namespace() -> None:
    """Enters a new pid namespace with its own /proc, in a child of this process.

    Returns in that child, its pid 1. The process itself waits for it and exits as it does.
    """
    if os.geteuid() != 0:
        syscalls.enter_user_namespace()
    syscalls.unshare(syscalls.CLONE_NEWPID)
    pid = os.fork()
    if pid:
        close_all_but([])
        os._exit(abs(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    syscalls.die_with_parent(0)
    syscalls.mount_own_proc()


class Launcher:
    """The launcher's state: its children that are meant to be there."""

    def __init__(self, end: socket.socket, *, pid_namespaces: bool) -> None:
        """Starts with no children."""
        self._end = end
        self._pid_namespaces = pid_namespaces
        self._known: set[int] = set()
        self._watch = ChildWatch()

    def run(self) -> None:
        """Takes orders until the server is gone."""
        send_message(self._end, {"ready": True, "pid_namespaces": self._pid_namespaces})
        while True:
            ready = select.select([self._end.fileno(), self._watch.fileno()], [], [])[0]
            if self._watch.fileno() in ready:
                self._reap()
            if self._end.fileno() in ready:
                message, descriptors = receive_message(self._end)
                self._obey(message, descriptors)
                close_all(descriptors)

    def _reap(self) -> None:
        for child in self._watch.reap():
            self._known.discard(child.pid)
            send_message(self._end, {"exited": child.pid, "code": child.exit_code})

    def _obey(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "spawn" in message:
            pid = self._spawn(message["argv"], message["env"], descriptors)
            self._known.add(pid)
            send_message(self._end, {"spawned": message["spawn"], "pid": pid})
        elif "keep" in message:
            self._known.add(message["keep"])
        elif "sweep" in message:
            end_all_children(spare=frozenset(self._known))
            send_message(self._end, {"swept": message["sweep"]})

    def _spawn(self, argv: list[str], env: dict[str, str], descriptors: list[int]) -> int:
        launcher = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            syscalls.die_with_parent(launcher)
            self._watch.close()
            end, log = descriptors
            os.dup2(log, 2)
            os.dup2(end, 3)
            close_all_but([3])
            os.execve(argv[0], argv, env)
        except BaseException as error:
            os.write(2, f"{argv[0]}: {error}\n".encode())
        finally:
            os._exit(127)


def main() -> None:
    """Is the launcher; the options are the first argument, as JSON."""
    options = json.loads(sys.argv[1])
    end = socket.socket(fileno=options["fd"])
    end.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the server decides, over the socket
    allowed = options["pid_namespaces"] and _works(_make_pid_namespace)
    if allowed:
        syscalls.die_with_parent(options["server_pid"])
        _make_pid_namespace()
    else:
        syscalls.become_subreaper()
    with contextlib.suppress(EOFError, OSError):
        Launcher(end, pid_namespaces=allowed).run()
    if not allowed:
        end_all_children()


if __name__ == "__main__":
    main()

"""The keeper: holds one context's processes together, and ends them all.

It is pid 1 of the context's pid namespace where there is one, else a subreaper. It watches its socket:
when the server is gone, it ends everything. It never outlives its interpreter.

From the server: one byte each, `INTERRUPT` or `KILL`. To the server: JSON, first `{"pid"}` with a
pidfd of the interpreter, then `{"interrupted"}` for each `INTERRUPT`, and `{"exit": …}` when the
interpreter has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from . import syscalls
from .children import ChildWatch, end_all_children
from .descriptors import close_all_but, send_message

INTERRUPT, KILL = b"i", b"k"


def run_keeper(
    end: socket.socket, *, own_namespace: bool, run_interpreter: Callable[[], None]
) -> NoReturn:
    """Is the keeper, in a process that was just forked for it.

    Args:
        end: Its socket.
        own_namespace: Whether this process is pid 1 of a pid namespace.
        run_interpreter: What the interpreter's process does; it must close what is not its own.
    """
    if own_namespace:
        syscalls.mount_own_proc()
    else:
        syscalls.become_subreaper()
    os.setsid()
    watch = ChildWatch()
    interpreter = os.fork()
    if interpreter == 0:
        watch.close()
        end.close()
        run_interpreter()
        os._exit(0)
    close_all_but([end.fileno(), *watch.descriptors])
    pidfd = os.pidfd_open(interpreter)
    send_message(end, {"pid": interpreter}, [pidfd])
    os.close(pidfd)
    with contextlib.suppress(OSError):  # the server is gone
        _keep(end, watch, interpreter)
    if not own_namespace:
        end_all_children()
    os._exit(0)  # as pid 1, this ends all that is left


def _keep(end: socket.socket, watch: ChildWatch, interpreter: int) -> None:
    while True:
        ready = select.select([end.fileno(), watch.fileno()], [], [])[0]
        if watch.fileno() in ready:
            for child in watch.reap():
                if child.pid == interpreter:
                    exit_ = {
                        "code": child.exit_code,
                        "cpu": child.cpu_time_s,
                        "peak": child.peak_memory_bytes,
                    }
                    send_message(end, {"exit": exit_})
                    return
        if end.fileno() in ready:
            order = end.recv(16)
            if order == INTERRUPT:
                # The group has the interpreter and what it runs in the foreground, as on a terminal.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(interpreter, signal.SIGINT)
                send_message(end, {"interrupted": True})
            else:
                return

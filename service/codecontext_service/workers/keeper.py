"""The keeper: holds one context's processes together, and ends them all.

In a cell it is pid 1, forked ahead by the launcher: its end is the end of all. Without pid namespaces it
is a subreaper, forked by the zygote as the interpreter's parent, and kills until no child is left.
Either watches its socket: when the server is gone, it ends everything.

From the server, as JSON: `{"interrupt": group}`, `{"kill": true}`, `{"usage": number}`,
`{"limit": {"memory_bytes": …, "cpu_time_s": …}}`.
To the server: first `{"ready": true}` from a cell, or `{"pid": …}` with a pidfd of the interpreter; then
`{"interrupted": group}`, `{"answer": number, …}`, `{"exceeded": what}` before it ends all, and from a
subreaper `{"exited": pid, …}` when the interpreter has ended.
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
from .children import ChildWatch, all_others, descendants, end_all_children
from .descriptors import close_all_but, receive_message, send_message
from .usage import measure
from .watchdog import Watchdog


def run_cell_keeper(end: socket.socket) -> NoReturn:
    """Is the keeper of a cell, in its pid 1.

    Args:
        end: Its socket.
    """
    os.setsid()
    watch = ChildWatch()
    close_all_but([end.fileno(), *watch.descriptors])
    with contextlib.suppress(EOFError, OSError):  # the server is gone
        send_message(end, {"ready": True})
        _keep(end, watch, interpreter=None)
    os._exit(0)  # this ends all that is left


def run_subreaper_keeper(end: socket.socket, run_interpreter: Callable[[], None]) -> NoReturn:
    """Is the keeper of a context without a pid namespace, in a process that was just forked for it.

    Args:
        end: Its socket.
        run_interpreter: What the interpreter's process does; it must close what is not its own.
    """
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
    with contextlib.suppress(EOFError, OSError):
        pidfd = os.pidfd_open(interpreter)
        send_message(end, {"pid": interpreter}, [pidfd])
        os.close(pidfd)
        _keep(end, watch, interpreter)
    end_all_children()
    os._exit(0)


def _keep(end: socket.socket, watch: ChildWatch, interpreter: int | None) -> None:
    """Reaps, and obeys the server, until it is told to end or the interpreter, if it is its own, has ended."""
    held = all_others if interpreter is None else descendants
    watchdog = Watchdog(held)
    while True:
        ready = select.select([end.fileno(), watch.fileno()], [], [], watchdog.wait_s)[0]
        if watch.fileno() in ready:
            for child in watch.reap():
                if child.pid == interpreter:
                    send_message(end, child.report())
                    return
        if end.fileno() in ready:
            order, _ = receive_message(end)
            if "kill" in order:
                return
            if "limit" in order:
                watchdog.limit(**order["limit"])
            elif "interrupt" in order:
                # The group has the interpreter and what it runs in the foreground, as on a terminal.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(order["interrupt"], signal.SIGINT)
                send_message(end, {"interrupted": order["interrupt"]})
            else:
                send_message(end, {"answer": order["usage"], **measure(held())})
        if exceeded := watchdog.look():
            send_message(end, {"exceeded": exceeded})
            return

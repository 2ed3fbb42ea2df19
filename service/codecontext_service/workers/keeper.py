"""The keeper: holds one context's processes together, and ends them all.

In a cell it is pid 1, forked ahead by the launcher: its end is the end of all. Without pid namespaces it
is a subreaper, forked by the zygote as the interpreter's parent, and kills until no child is left.
Either watches its socket: when the server is gone, it ends everything.

From the server, as JSON: `{"interrupt": group}`, `{"kill": true}`, `{"empty": number}`, `{"usage": number}`,
`{"limit": {"memory_bytes": …, "cpu_time_s": …}}`.
To the server: first `{"ready": true}` from a cell, with a descriptor of the workspace if it has one, or
`{"pid": …}` with a pidfd of the interpreter; then `{"interrupted": group}`, `{"answer": number, …}`,
`{"exceeded": what}` before it ends all, and from a subreaper `{"exited": pid, …}` when the interpreter has
ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from . import syscalls
from .children import ChildWatch, EndedChild, all_others, descendants, end_all_children
from .descriptors import close_all, close_all_but, receive_message, send_message
from .usage import measure
from .watchdog import Watchdog

_EMPTYING_S = 0.002
"""How long it waits before it looks again whether all have ended."""


def run_cell_keeper(end: socket.socket, files: list[int]) -> NoReturn:
    """Is the keeper of a cell, in its pid 1.

    Args:
        end: Its socket.
        files: Descriptors that the server gets: of the workspace, where the cell has one.
    """
    os.setsid()
    watch = ChildWatch()
    close_all_but([end.fileno(), *files, *watch.descriptors])
    with contextlib.suppress(EOFError, OSError):  # the server is gone
        send_message(end, {"ready": True}, files)
        close_all(files)
        _CellKeeper(end, watch).run()
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
        _SubreaperKeeper(end, watch, interpreter).run()
    end_all_children()
    os._exit(0)


class _Keeper:
    """Reaps, obeys the server, and ends what uses too much."""

    def __init__(self, end: socket.socket, watch: ChildWatch) -> None:
        self._end = end
        self._watch = watch
        self._watchdog = Watchdog(self.held)
        self._goes_on = True

    def run(self) -> None:
        """Keeps until it is told to end, or has nothing to keep any more."""
        while self._goes_on:
            ends = [self._end.fileno(), self._watch.fileno()]
            ready = select.select(ends, [], [], self.wait_s())[0]
            if self._watch.fileno() in ready:
                for child in self._watch.reap():
                    self.on_reaped(child)
            if self._end.fileno() in ready:
                self._obey(receive_message(self._end)[0])
            if exceeded := self._watchdog.look():
                send_message(self._end, {"exceeded": exceeded})
                self.end_all()
            self.on_turn()

    def _obey(self, order: dict[str, Any]) -> None:
        if "interrupt" in order:
            # The group has the interpreter and what it runs in the foreground, as on a terminal.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(order["interrupt"], signal.SIGINT)
            send_message(self._end, {"interrupted": order["interrupt"]})
        elif "usage" in order:
            send_message(self._end, {"answer": order["usage"], **measure(self.held())})
        elif "limit" in order:
            self._watchdog.limit(**order["limit"])
        elif "empty" in order:
            self.on_empty(order["empty"])
        else:
            self._goes_on = False

    def wait_s(self) -> float | None:
        """How long it may wait for something to happen, in seconds; None for ever."""
        return self._watchdog.wait_s

    def held(self) -> set[int]:
        """The processes that it holds."""
        return descendants()

    def end_all(self) -> None:
        """Ends them."""
        self._goes_on = False

    def on_reaped(self, child: EndedChild) -> None:
        """Hears that a child has ended."""

    def on_empty(self, number: int) -> None:
        """Hears that it is to end all that it holds, and to stay."""

    def on_turn(self) -> None:
        """Does what is left to do before it waits."""


class _CellKeeper(_Keeper):
    """Is pid 1, and stays when its interpreter has ended: the next one may come."""

    def __init__(self, end: socket.socket, watch: ChildWatch) -> None:
        super().__init__(end, watch)
        self._emptying: list[int] = []

    def held(self) -> set[int]:
        return all_others()

    def wait_s(self) -> float | None:
        # Of those that others reap, such as the interpreter, nothing tells it when they are gone.
        return _EMPTYING_S if self._emptying else super().wait_s()

    def end_all(self) -> None:
        self._watchdog.limit(memory_bytes=0, cpu_time_s=0)  # until the next one is told its own
        with contextlib.suppress(ProcessLookupError):  # there are none
            os.kill(-1, signal.SIGKILL)

    def on_empty(self, number: int) -> None:
        self._emptying.append(number)

    def on_turn(self) -> None:
        if not self._emptying:
            return
        if self.held():
            self.end_all()
            return
        for number in self._emptying:
            send_message(self._end, {"answer": number})
        self._emptying.clear()


class _SubreaperKeeper(_Keeper):
    """Is the parent of an interpreter, and ends with it."""

    def __init__(self, end: socket.socket, watch: ChildWatch, interpreter: int) -> None:
        super().__init__(end, watch)
        self._interpreter = interpreter

    def on_reaped(self, child: EndedChild) -> None:
        if child.pid == self._interpreter:
            send_message(self._end, child.report())
            self._goes_on = False

"""The launcher: the root of all processes below the server, and their reaper of last resort.

It is exec'd with a clean environment, before the server holds any secret, and talks to the server over
descriptor 3. Where the machine allows it, it is pid 1 of a pid namespace, so that its end is the end
of all; else it is a subreaper, which ends all when the server is gone.

From the server: `{"spawn": number, "argv": […], "env": {…}}` with the descriptors that become 3 and 2,
`{"cell": number, "spec": {…}}` with the socket of its keeper, and a pidfd of the keeper of another cell of
the same sandbox if there is one, `{"exec": number, …}` for an interpreter, which is a program (`argv`, `env`)
or a module of this package (`module`, `options`), see `placing` for the rest; without cells
`{"keep": pid}` for each keeper and `{"sweep": number}`.
To the server: `{"ready": …}` once, `{"answer": number, …}` to each order that has a number, with the `pid`
of what was started (and a pidfd of a keeper or an interpreter) or the `error` that prevented it, and
`{"exited": pid, …}` for each child that it has reaped.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from . import containment, placing, syscalls
from .cell_keeper import CellKeeper
from .cells import CellSpec, Nursery, check_bare_cells, fork, furnish_bare
from .children import ChildWatch, descendants, end_all_children
from .confinement import ConfinementError, prepare
from .containment import Tier
from .descriptors import close_all, close_all_but, receive_message, send_message
from .jail import WORKSPACE, Jail
from .prepared import Call

_PROGRAM_CHANNEL_FD = 3
"""Where an interpreter that is a program of its own finds its channel."""

_IGNORED = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)
"""What this process ignores, beside what `placing` gives back: a program inherits that from it."""

_LOOK_S = 0.1
"""How often it looks whether those that it waits for are stopped, in seconds."""


def _bare_cells_work() -> bool:
    """Tries it in a child process, since there is no way back from a namespace."""

    def attempt() -> None:
        _enter_pid_namespace(os.getppid(), as_root=os.geteuid() == 0)
        check_bare_cells()

    return os.waitpid(fork(attempt), 0)[1] == 0


def _enter_pid_namespace(parent: int, *, as_root: bool) -> None:
    """Enters a new pid namespace with its own /proc, in a child of this process.

    Returns in that child, its pid 1. The process itself waits for it and exits as it does.

    Args:
        parent: The parent's pid, with which both are to end.
        as_root: Whether this process has the rights for that outside of a user namespace.
    """
    if not as_root:
        syscalls.enter_user_namespace()
    syscalls.die_with_parent(parent)  # a new user namespace takes an earlier wish back
    syscalls.unshare(syscalls.CLONE_NEWPID)
    pid = os.fork()
    if pid:
        close_all_but([])
        os._exit(abs(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    syscalls.die_with_parent(0)
    syscalls.mount_own_proc()


class Launcher:
    """The launcher's state: its children that are meant to be there."""

    def __init__(self, end: socket.socket, cells: str, jail: Jail | None, tier: Tier) -> None:
        """Starts with no children.

        Args:
            end: Its socket.
            cells: `full`, `bare`, or empty where the machine allows none; with any, this process is
                pid 1 of a namespace.
            jail: Where it is, if the cells are full.
            tier: How interpreters are contained.
        """
        self._end = end
        self._cells = cells
        self._jail = jail
        self._nursery = Nursery() if cells else None
        self._known: set[int] = set()
        self._keepers: set[int] = set()
        self._watch = ChildWatch()
        if cells:
            self._keeper = CellKeeper(self._watch)
            self._confining = prepare(containment.of_keeper("cell" if jail else "none"))
        self._placing = placing.Placing(self._nursery, tier, _PROGRAM_CHANNEL_FD, self._leave)

    def run(self) -> None:
        """Takes orders until the server is gone."""
        send_message(self._end, {"ready": True, "cells": self._cells})
        while True:
            ready = select.select([self._end.fileno(), self._watch.fileno()], [], [])[0]
            if self._watch.fileno() in ready:
                self._reap()
            if self._end.fileno() in ready:
                message, descriptors = receive_message(self._end)
                try:
                    self._obey(message, descriptors)
                finally:
                    close_all(descriptors)

    def end_all(self) -> None:
        """Ends all that is below it, as a subreaper.

        The keepers are waited for, which end when the server is gone: what forks and ends all the time
        is caught by the one who becomes its parent, and a keeper that is stopped would be in its place.
        """
        while kept := self._keepers & descendants():
            for pid in kept:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)  # the code may have stopped it
            select.select([self._watch.fileno()], [], [], _LOOK_S)
            for child in self._watch.reap():
                self._keepers.discard(child.pid)
        end_all_children()

    def _reap(self) -> None:
        for child in self._watch.reap():
            self._known.discard(child.pid)
            self._keepers.discard(child.pid)
            send_message(self._end, child.report())

    def _obey(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "spawn" in message:
            argv, env = message["argv"], message["env"]
            launcher = os.getpid()
            self._start(
                message["spawn"], lambda: fork(lambda: self._exec(argv, env, descriptors, launcher))
            )
        elif "cell" in message:
            spec = CellSpec(**message["spec"]) if self._jail else None
            self._start(
                message["cell"], lambda: self._fork_cell(spec, *descriptors), with_pidfd=True
            )
        elif "exec" in message:
            self._start(
                message["exec"],
                lambda: self._placing.fork(message, descriptors, _interpreter(message)),
                with_pidfd=True,
            )
        elif "keep" in message:
            self._known.add(message["keep"])
            self._keepers.add(message["keep"])
        elif "sweep" in message:
            end_all_children(spare=frozenset(self._known))
            send_message(self._end, {"answer": message["sweep"]})

    def _start(self, number: int, start: Callable[[], int], *, with_pidfd: bool = False) -> None:
        try:
            pid = start()
        except (OSError, ImportError) as error:
            send_message(self._end, {"answer": number, "error": str(error)})
            return
        self._known.add(pid)
        pidfds = [os.pidfd_open(pid)] if with_pidfd else []
        send_message(self._end, {"answer": number, "pid": pid}, pidfds)
        close_all(pidfds)

    def _exec(
        self, argv: list[str], env: dict[str, str], descriptors: list[int], launcher: int
    ) -> None:
        syscalls.die_with_parent(launcher)
        self._watch.close()
        end, log = descriptors
        os.dup2(log, 2)
        os.dup2(end, 3)
        close_all_but([3])
        os.execve(argv[0], argv, env)

    def _fork_cell(self, spec: CellSpec | None, end: int, sibling: int | None = None) -> int:
        if self._nursery is None:
            raise OSError("this machine allows no cells")
        # What is done here takes fewer pages of the keeper's than if it did it itself.
        furnish, confine, opened = self._cell(spec, sibling)

        def run() -> None:
            self._watch.renew()
            theirs = socket.socket(fileno=end)
            try:
                furnish()
                files = [
                    os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for path in opened
                ]
                confine()
            except (OSError, ConfinementError) as error:
                send_message(theirs, {"failed": str(error)})
                return
            self._keeper.run(theirs, files)

        return self._nursery.fork_cell(run)

    def _leave(self) -> None:
        """Lets go of what is the launcher's, in a process that was just forked from it."""
        self._watch.close()
        self._end.close()

    def _cell(self, spec: CellSpec | None, sibling: int | None) -> tuple[Call, Call, list[str]]:
        """Returns what makes a cell, what confines its keeper, and which folders that opens in between."""
        if spec is None or self._jail is None:
            return furnish_bare, self._confining.of(None), []
        made = spec.furnishing(self._jail.shown) if sibling is None else spec.sharing(sibling)
        return made, self._confining.of(containment.user(spec.uid)), [WORKSPACE]


def _interpreter(order: dict[str, Any]) -> Callable[[], None]:
    """Returns what an interpreter's process does."""
    if "module" not in order:
        return lambda: _exec_interpreter(order["argv"], order["env"])
    # Imported here once, and shared by all that are forked.
    module = importlib.import_module(f"{__package__}.{order['module']}")

    def run() -> None:
        module.run(socket.socket(fileno=_PROGRAM_CHANNEL_FD), order["options"])

    return run


def _exec_interpreter(argv: list[str], env: dict[str, str]) -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_DFL)
    os.set_inheritable(_PROGRAM_CHANNEL_FD, True)
    os.execve(argv[0], argv, env)


def main() -> None:
    """Is the launcher; the options are the first argument, as JSON."""
    options = json.loads(sys.argv[1])
    end = socket.socket(fileno=options["fd"])
    end.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the server decides, over the socket
    cells, jail = options["cells"], None
    if cells == "bare" and not _bare_cells_work():
        cells = ""
    if cells:
        as_root = options["own_uids"] if cells == "full" else os.geteuid() == 0
        _enter_pid_namespace(options["server_pid"], as_root=as_root)
    else:
        syscalls.become_subreaper()
    if cells == "full":
        jail = Jail(options["jail"]["folder"], tuple(options["jail"]["shown"]))
        jail.enter()
    launcher = Launcher(end, cells, jail, Tier(**options["tier"]))
    with contextlib.suppress(EOFError, OSError):
        launcher.run()
    if not cells:
        launcher.end_all()


if __name__ == "__main__":
    main()

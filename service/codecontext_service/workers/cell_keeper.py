"""The keeper of a cell, which the launcher forks ahead: see `keeper` for what it obeys and tells."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import Any, NoReturn

from .children import ChildWatch, all_others
from .descriptors import close_all, close_all_but, send_message
from .keeper import Keeper

_REHEARSALS = 12
"""How often it does what it will do before it is forked: Python is done with its notes after about eight."""


class CellKeeper(Keeper):
    """Is pid 1 of a cell, and stays when its interpreter has ended: the next one may come.

    It is made before the fork, as all that can be: each page that a keeper writes to is then its own alone.
    """

    def __init__(self, watch: ChildWatch) -> None:
        """Makes it, in the process that will be forked, once for all cells.

        Args:
            watch: That process's own, which has no children yet.
        """
        super().__init__(watch)
        self._rehearse()

    def _rehearse(self) -> None:
        """Does what it does in a cell.

        Python notes in what it runs and looks up how to do that faster, and not at the first time. What is
        noted before the fork is shared.
        """
        no_limits = {"memory_bytes": 0, "cpu_time_s": 0}
        orders: list[dict[str, Any]] = [{"limit": no_limits}, {"usage": 0}, {"kill": True}]
        for _ in range(_REHEARSALS):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                for order in orders:
                    send_message(ours, order)
                send_message(theirs, {"ready": True}, [theirs.fileno()])
                self.keep(theirs)
            self._goes_on = True

    def run(self, end: socket.socket, files: list[int]) -> NoReturn:
        """Is the keeper, in a process that was forked for it, and has renewed the watch.

        Args:
            end: Its socket.
            files: Descriptors that the server gets: of the workspace, where the cell has one.
        """
        os.setsid()
        close_all_but([end.fileno(), *files, *self._watch.descriptors])
        try:  # `suppress` would take more pages
            send_message(end, {"ready": True}, files)
            close_all(files)
            self.keep(end)
        except (EOFError, OSError):  # the server is gone
            pass
        os._exit(0)  # this ends all that is left

    def all(self) -> set[int]:
        """Returns the processes of all members."""
        return all_others()

    def keeps(self, pid: int) -> bool:
        """Returns whether a process is one of a member's."""
        return pid != os.getpid()  # no others have a pid here

    def end_all(self) -> None:
        """Ends all that it holds."""
        with contextlib.suppress(ProcessLookupError):  # there are none
            os.kill(-1, signal.SIGKILL)

"""Where the process of a new interpreter begins: in a cell, or below a keeper of its own."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from . import containment
from .cells import Nursery, fork
from .confinement import confine, prepare
from .containment import Place, Tier
from .descriptors import close_all_but
from .keeper import run_subreaper_keeper


class Placing:
    """Forks interpreters from a process that is single-threaded and reaps its children.

    An order comes with these descriptors: the channel, the write ends of standard output and error, then
    a pidfd of the cell's keeper and what leads into the cell's control groups; without cells the keeper's
    socket in place of the last two. It has `joins` and `uid` for a cell, else `place`, see `Place`.
    """

    def __init__(
        self, nursery: Nursery | None, tier: Tier, channel_fd: int, leave: Callable[[], None]
    ) -> None:
        """Knows where interpreters go.

        Args:
            nursery: What forks into cells; None where there are none.
            tier: How they are contained.
            channel_fd: The descriptor that their channel gets.
            leave: Lets go of what is the parent's, in a process that was just forked from it.
        """
        self._nursery = nursery
        self._tier = tier
        self._channel_fd = channel_fd
        self._leave = leave
        if nursery is not None or tier.name != "none":
            self._confining = prepare(containment.of_interpreter(tier))

    def fork(self, order: dict[str, Any], descriptors: list[int], run: Callable[[], object]) -> int:
        """Forks an interpreter, or without cells a keeper that forks it.

        Args:
            order: Where to.
            descriptors: What it gets.
            run: What it does there.

        Returns:
            The pid of the child.

        Raises:
            OSError: The kernel refused.
        """
        channel, stdout, stderr, cell, *groups = descriptors

        def run_keeper() -> None:
            self._leave()
            run_subreaper_keeper(socket.socket(fileno=cell), run_below_keeper)

        def run_below_keeper() -> None:
            self._settle(channel, stdout, stderr)
            place = Place(**order["place"])
            if self._tier.name != "none":
                confine(containment.of_placed_interpreter(self._tier, place))
            os.environ["TMPDIR"] = place.temporary
            run()

        if self._nursery is None:
            return fork(run_keeper)
        confine_in_cell = self._confining.of(containment.user(order["uid"]))

        def run_in_cell() -> None:
            self._leave()
            for entry in groups:
                os.write(entry, b"0")
            self._settle(channel, stdout, stderr)
            confine_in_cell()
            run()

        return self._nursery.fork_into(cell, order["joins"], run_in_cell)

    def _settle(self, channel: int, stdout: int, stderr: int) -> None:
        """Puts descriptors and signals of a new interpreter's process in order."""
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            # The launcher ignores them, or whoever started the server did, which children inherit: theirs
            # could not be terminated.
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (stdout, 1), (stderr, 2), (channel, self._channel_fd)):
            os.dup2(source, target, inheritable=target <= 2)
        close_all_but([self._channel_fd])

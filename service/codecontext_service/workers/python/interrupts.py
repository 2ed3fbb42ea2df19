"""When SIGINT stops a run."""

from __future__ import annotations

import enum
from typing import Any


class _Phase(enum.Enum):
    IDLE = enum.auto()
    PREPARING = enum.auto()
    RUNNING = enum.auto()


class Interrupts:
    """Turns SIGINT into a KeyboardInterrupt of the run that it is meant for.

    Between runs it is ignored: it comes too late, and must not hit what runs next. While IPython
    prepares the code it is kept until the code begins: IPython swallows it in some places there, and
    in others leaves half of its work behind.
    """

    def __init__(self) -> None:
        """Starts between runs."""
        self.stopped = False
        """Whether an interrupt was raised in this run."""
        self._phase = _Phase.IDLE
        self._wanted = False

    def on_signal(self, number: int, frame: Any) -> None:
        """Is the signal's handler.

        Raises:
            KeyboardInterrupt: The code runs.
        """
        if self._phase is _Phase.PREPARING:
            self._wanted = True
        elif self._phase is _Phase.RUNNING:
            self._stop()

    def begin(self) -> None:
        """Takes note that a run is being prepared."""
        self.stopped = self._wanted = False
        self._phase = _Phase.PREPARING

    def code_begins(self) -> None:
        """Takes note that the code itself is about to run; in its later parts it changes nothing.

        Raises:
            KeyboardInterrupt: An interrupt came before.
        """
        if self._phase is _Phase.PREPARING:
            self._phase = _Phase.RUNNING
            if self._wanted:
                self._stop()

    def end(self) -> None:
        """Takes note that the run has ended."""
        self._phase = _Phase.IDLE

    def _stop(self) -> None:
        self.stopped = True
        raise KeyboardInterrupt

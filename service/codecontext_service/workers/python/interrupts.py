"""When SIGINT stops a run."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import selectors
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

_LOOP_CODE = (os.path.dirname(asyncio.__file__) + os.sep, selectors.__file__)
"""Where the code of an event loop is, as its frames name it."""


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
        self._task: asyncio.Task[Any] | None = None

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Is the signal's handler.

        Raises:
            KeyboardInterrupt: The code runs.
        """
        if self._phase is _Phase.PREPARING:
            self._wanted = True
        elif self._phase is _Phase.RUNNING:
            self._stop(frame)

    @contextlib.contextmanager
    def cancelling(self, task: asyncio.Task[Any]) -> Iterator[None]:
        """Has an interrupt cancel a task where an exception would come between it and its event loop.

        The loop would lose what it was about to do, and the task might never end.

        Args:
            task: The cell's, which its loop runs meanwhile.
        """
        self._task = task
        try:
            yield
        finally:
            self._task = None

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

    def _stop(self, frame: FrameType | None = None) -> None:
        self.stopped = True
        if (
            self._task is not None
            and frame is not None
            and frame.f_code.co_filename.startswith(_LOOP_CODE)
        ):
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)  # it may sleep
            return
        raise KeyboardInterrupt


def cut_handler(tb: TracebackType | None) -> None:
    """Cuts the handler's frames off the end of a traceback: they are none of the code's.

    Args:
        tb: The traceback of the exception that ended a run.
    """
    while tb is not None:
        if tb.tb_next is not None and tb.tb_next.tb_frame.f_code is Interrupts.on_signal.__code__:
            tb.tb_next = None
        tb = tb.tb_next

"""Ctrl-C and termination while code runs: the code is stopped first, this program second."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Turns the first Ctrl-C into a call and a second one into `KeyboardInterrupt`.

    The first does not break what the main thread waits for: the run goes on until the service says
    how it ended. For use in the main thread, with `with`.

    Args:
        stop: Called in a thread of its own at the first Ctrl-C.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._before: object = None
        self.count = 0
        """How often Ctrl-C was pressed."""
        self.immediate = False
        """Whether Ctrl-C raises at once: set while a person is asked for input."""

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]  # what signal() gave

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.immediate or self.count > 1:
            raise KeyboardInterrupt
        self.stop()

    def stop(self) -> None:
        """Stops the run without waiting for it."""
        threading.Thread(target=self._stop, name="interrupt", daemon=True).start()


@contextmanager
def cleanup_on_termination() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP leave the block by `SystemExit`, so that its cleanup runs."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup
            signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

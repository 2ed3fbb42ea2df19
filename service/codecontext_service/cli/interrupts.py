"""Ctrl-C and termination while code runs: the code is stopped first, this program second.

What a signal raises inside of gRPC would leave its locks held, and the next call would wait for them forever.
So while this program waits for a call the call is ended first, by another thread, and then it is raised.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class _Wait:
    """A wait for a call of gRPC."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.end = end
        self.put_off: BaseException | None = None
        """What is raised after it."""


_waits: list[_Wait] = []
"""What the main thread waits for, if it does; the innermost is the last."""


@contextmanager
def ended_by(end: Callable[[], None]) -> Iterator[None]:
    """Has a signal end the block, which waits for a call of gRPC, before anything is raised.

    For use in the main thread.

    Args:
        end: Called in a thread of its own; the block must come to its end by it, by an error or without.
    """
    wait = _Wait(end)
    _waits.append(wait)
    try:
        yield
    except Exception:
        if wait.put_off is None:
            raise
    finally:
        _waits.remove(wait)
    if wait.put_off is not None:
        raise wait.put_off


@contextmanager
def put_off() -> Iterator[None]:
    """Has what a signal raises wait for the end of the block: one call, which its deadline ends at last."""
    with ended_by(lambda: None):
        yield


def _raise(error: BaseException) -> None:
    """Raises what a signal stands for: at once, or once a call that is waited for has ended."""
    if not _waits:
        raise error
    wait = _waits[-1]
    if wait.put_off is None:
        wait.put_off = error
        threading.Thread(target=wait.end, name="end of a wait", daemon=True).start()


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
            _raise(KeyboardInterrupt())
        else:
            self.stop()

    def stop(self) -> None:
        """Stops the run without waiting for it."""
        threading.Thread(target=self._stop, name="interrupt", daemon=True).start()


@contextmanager
def cleanup_on_termination() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP leave the block by `SystemExit`, so that its cleanup runs."""

    def leave(number: int, frame: FrameType | None) -> None:
        _raise(SystemExit(128 + number))

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup
            signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""An interpreter's process, as its pidfd and its reaper tell of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REPORT_WAIT_S = 1.0
"""How long a process may have ended before its reaper tells how."""


@dataclass(frozen=True)
class ProcessExit:
    """How a process ended."""

    code: int | None
    """Its exit status, or the negative number of the signal that killed it; None if nobody could tell."""

    cpu_time_s: float = 0.0
    peak_memory_bytes: int = 0
    exceeded: str = ""
    """The limit for which it was ended, see `Keeper.exceeded`; empty if for none."""

    @classmethod
    def from_report(cls, report: dict[str, Any]) -> ProcessExit:
        """Reads what its reaper says, see `workers.children.EndedChild.report`."""
        return cls(report["code"], report["cpu"], report["peak"])

    def __str__(self) -> str:
        """Says it in words."""
        if self.code is None:
            return "the interpreter was killed"
        if self.code < 0:
            try:
                name = signal.Signals(-self.code).name
            except ValueError:
                name = f"signal {-self.code}"
            return f"the interpreter was killed by {name}"
        return f"the interpreter exited with status {self.code}"


class Process:
    """A process that another one of ours reaps, and tells of."""

    def __init__(self, pid: int, pidfd: int) -> None:
        """Takes over the pidfd.

        Args:
            pid: Its pid as its reaper sees it.
            pidfd: Its pidfd.
        """
        self.pid = pid
        self.own_pid = _own_pid(pidfd)
        """Its pid as this server sees it: 0 if it had ended at once, and -1 if it can't be seen from here."""
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[None] = self._loop.create_future()
        """Done once its pidfd tells that it has ended."""
        self._report_wait_s = _REPORT_WAIT_S
        self._timer: asyncio.TimerHandle | None = None
        self._hearsay: ProcessExit | None = None
        self.ended: asyncio.Future[ProcessExit] = self._loop.create_future()
        """Done once it has ended, and it is known how, or that nobody will tell."""
        self._loop.add_reader(pidfd, self._on_exit)

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet, as far as its pidfd tells."""
        return not self.exited.done()

    def kill(self) -> None:
        """Kills it, if it lives."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Stops it where it is, until `go_on`, if this server may."""
        with contextlib.suppress(PermissionError):
            self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Has it go on."""
        with contextlib.suppress(PermissionError):
            self._signal(signal.SIGCONT)

    def on_report(self, report: dict[str, Any]) -> None:
        """Takes what its reaper tells of its end."""
        self._end(ProcessExit.from_report(report))

    def on_hearsay(self, report: dict[str, Any]) -> None:
        """Takes what its parent tells of its end, which is believed once it has ended."""
        self._hearsay = ProcessExit.from_report(report)
        if not self.alive:
            self._end(self._hearsay)

    def expect_no_report(self) -> None:
        """Hears that its reaper is gone: its end is all that can be known."""
        self._report_wait_s = 0.0
        if self._timer is not None:
            self._end(ProcessExit(None))

    def close(self) -> None:
        """Closes what the server holds of it."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._timer is not None:
            self._timer.cancel()

    def _signal(self, number: int) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _on_exit(self) -> None:
        self.exited.set_result(None)
        self._loop.remove_reader(self._pidfd)
        if self._hearsay is not None:
            self._end(self._hearsay)
        elif not self.ended.done():
            self._timer = self._loop.call_later(self._report_wait_s, self._end, ProcessExit(None))

    def _end(self, exit_: ProcessExit) -> None:
        if not self.ended.done():
            self.ended.set_result(exit_)


def _own_pid(pidfd: int) -> int:
    with Path(f"/proc/self/fdinfo/{pidfd}").open() as lines:
        return next((int(line[4:]) for line in lines if line.startswith("Pid:")), -1)

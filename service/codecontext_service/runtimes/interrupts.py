"""Interrupts of an interpreter's runs, each of which reaches the run that it is for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from codecontext_service.processes.members import Member

_AGAIN_S = 0.25
"""After what time a program that goes on is interrupted once more."""


class Interrupts:
    """Interrupts what an interpreter runs: by a message, by a signal that its keeper sends, or by both."""

    def __init__(self, member: Member, tell: Callable[[], None], *, again: bool) -> None:
        """Starts before any run.

        Args:
            member: Whose process group gets the signal.
            tell: Sends the message.
            again: Whether a run that goes on is interrupted again: a child that was about to start heard of
                nothing.
        """
        self._member = member
        self._tell = tell
        self._again = again
        self._group = 0
        self._told = False
        self._signalled = True
        self._begun = False
        self._wanted = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> bool:
        """Whether one that was asked for is still to be sent."""
        return self._member.pending_interrupts > 0

    def on_ready(self, group: int, ready: Mapping[str, Any]) -> None:
        """Hears how the interpreter wants them.

        Args:
            group: Its process group, as its keeper sees it.
            ready: What it says of itself: `told` and `signalled`.
        """
        self._group = group
        self._told = bool(ready.get("told", False))
        self._signalled = bool(ready.get("signalled", True))

    def on_ordered(self) -> None:
        """Hears that a run was sent, which has not begun."""
        self._begun = self._wanted = False

    def on_begun(self) -> None:
        """Hears that the run has begun: one that came too early for it is sent now."""
        self._begun = True
        if self._wanted:
            self.interrupt()

    def on_finished(self) -> None:
        """Hears that the run has ended."""
        self._begun = self._wanted = False
        self.stop()

    def interrupt(self) -> None:
        """Asks the run to stop."""
        if not self._begun:  # the interpreter would not know which run is meant
            self._wanted = True
            return
        if self._told:  # first, since the signal may end a child before the interpreter hears
            self._tell()
        if self._signalled:
            self._member.interrupt(self._group)
        self.stop()
        if self._again:
            self._timer = asyncio.get_running_loop().call_later(_AGAIN_S, self.interrupt)

    def stop(self) -> None:
        """Interrupts no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""The run that a kernel works on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from . import messages
from .kernel import Message


@dataclass
class Run:
    """What is known of it."""

    identifier: str
    """The id of its message."""
    allow_input: bool
    cpu_time_s: float
    """What the kernel had used before."""
    begun: bool = False
    reply: Message | None = None
    idle: bool = False
    error: Message | None = None
    interrupt_after: float = 0.0
    """When the kernel may be interrupted; 0 until it was for the first time."""
    unanswered: set[str] = field(default_factory=set)
    """Interrupts that the kernel has not answered yet."""
    patience_s: float | None = None
    """How long something is waited for that is still to come; None: as long as it takes."""
    deadline: float | None = None
    """When it is waited for no longer, and the run goes on without it."""

    def wait(self, patience_s: float | None) -> None:
        """Waits from now on; a kernel that can't go on, or does go on, is given the time anew."""
        self.patience_s = patience_s
        self.deadline = None if patience_s is None else time.monotonic() + patience_s

    def error_with(self, reply: Message) -> Message:
        """Returns the content of its `ERROR`, with what the kernel replied, which did not succeed."""
        if self.error is not None:
            return messages.error(self.error)
        if reply.get("status") == "error" or not self.interrupt_after:
            return messages.error({"ename": "Aborted", "evalue": "the run was aborted", **reply})
        return messages.error({"ename": "KeyboardInterrupt"})

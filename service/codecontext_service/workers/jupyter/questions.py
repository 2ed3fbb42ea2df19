"""Questions about names, which a kernel answers between runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from codecontext_service.workers import channel

from . import messages
from .kernel import Kernel, Message
from .outbox import Outbox


@dataclass(frozen=True)
class _Question:
    number: int
    inspect: bool
    deadline: float


class Questions:
    """Those that a kernel has not answered yet."""

    def __init__(self, outbox: Outbox) -> None:
        """Starts with none.

        Args:
            outbox: Where answers go.
        """
        self._outbox = outbox
        self._asked: dict[str, _Question] = {}
        """By the ids of their messages."""

    def ask(self, kernel: Kernel, order: dict[str, Any]) -> None:
        """Passes a question on, an `ASK` of the channel."""
        content = {"code": order["code"], "cursor_pos": order["cursor"]}
        if order["inspect"]:
            content["detail_level"] = int(order["with_source"])
        kind = "inspect_request" if order["inspect"] else "complete_request"
        identifier = kernel.send(kernel.shell, kind, content)
        deadline = time.monotonic() + order["timeout"]
        self._asked[identifier] = _Question(order["number"], order["inspect"], deadline)

    def deadlines(self) -> list[float]:
        """Returns until when each is waited for."""
        return [each.deadline for each in self._asked.values()]

    def give_up(self, now: float) -> None:
        """Answers those that the kernel has not answered in time."""
        for identifier, question in list(self._asked.items()):
            if question.deadline <= now:
                del self._asked[identifier]
                self._answer(question, {"failure": "the kernel has not answered in time"})

    def on_reply(self, parent: str, reply: Message) -> None:
        """Takes a reply of the kernel, which may be to none of them."""
        question = self._asked.pop(parent, None)
        if question is None:
            return
        if reply.get("status") != "ok":
            name = str(reply.get("ename") or "an error")
            self._answer(question, {"failure": f"the kernel answered with {name[:200]}"})
        else:
            translate = messages.description if question.inspect else messages.completions
            self._answer(question, translate(reply))

    def _answer(self, question: _Question, answer: dict[str, Any]) -> None:
        message = {"number": question.number, **answer}
        self._outbox.send(channel.ANSWER, channel.to_json(message))

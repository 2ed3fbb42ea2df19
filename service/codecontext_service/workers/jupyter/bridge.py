"""The bridge: drives a Jupyter kernel, and speaks the protocol of `workers.channel` to the server.

It is started under an interpreter that has jupyter_client, in the context's cell, and starts the kernel
there once it is told the context's environment. It ends as its kernel ends, with the same status or by the
same signal.

What a kernel publishes is read at once, always: a kernel drops what nobody reads, in silence. When it
makes more than this process, or the server, takes, it is stopped (SIGSTOP) until that is taken.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from typing import Any, NoReturn

import zmq

from codecontext_service.workers import channel
from codecontext_service.workers.python.streams import clean

from . import kernel as kernels
from . import messages
from .kernel import Kernel, KernelError, Message
from .outbox import Outbox
from .questions import Questions
from .run import Run

_BATCH = 64
"""How many messages of a socket are taken before others get their turn."""

_BEHIND_TURNS = 16
"""After how many turns that have not taken all that the kernel has published it is stopped until one has."""

_CHUNK = 64 * 1024

_IDLE_S = 10.0
"""How long nothing may come of a run after its reply, where the kernel does not say that it is idle again."""

_AGAIN_S = 2.0
"""How long a kernel may take to obey an interrupt until the next one is passed on, in seconds."""

_SETTLE_S = 5.0
"""How long a kernel that does something else may take to say whether its run has left anything."""

_QUIET_ROUNDS = 4
"""How many requests must bring nothing else, until a run has left nothing."""

_REPLY_S = 1.0
"""How long its reply is waited for once the kernel is idle again: one that was interrupted may send none."""

_QUIET_S, _MAX_QUIET_S = 0.02, 0.5
"""How long nothing must come, after a request for input or the kernel's end, until all has come; and how long
that is waited for, since a thread of the kernel's may write without end."""

_UNSAID_S = 0.5
"""How long a kernel may be busy before it counts as begun, where it does not say so."""

_MAX_PROMPT = 16 * 1024
"""The most characters of a prompt that are sent."""

_END_OF_FILE = "\x04"
"""What Jupyter's clients send for the end of input."""


class Bridge:
    """The bridge's state: the channel, the kernel, and the run that it works on."""

    def __init__(self, outbox: Outbox, options: dict[str, Any]) -> None:
        """Starts without a kernel.

        Args:
            outbox: The channel.
            options: `kernelspec` (its folder), `transport` (see `kernel.start`) and `timeout`: how many
                seconds a kernel may need until it is ready.
        """
        self._outbox, self._options = outbox, options
        self._kernel: Kernel = None  # type: ignore[assignment]  # until it is configured
        self._configured = False
        self._run: Run | None = None
        self._questions = Questions(outbox)
        self._inputs = 0
        self._input: Message | None = None
        self._published = self._turns_behind = 0
        self._idle_of = ""  # the id of the last request that the kernel has done with

    def run(self) -> NoReturn:
        """Serves until the server or the kernel has ended."""
        greeting = {"pid": os.getpid(), "told": True, "signalled": False}
        self._outbox.send(channel.READY, channel.to_json(greeting))
        while True:
            ready = self._poll(self._wait_s())
            if self._outbox.fileno() in ready:
                self._outbox.flush()
                while (order := self._outbox.receive()) is not None:
                    self._obey(*order)
            if self._configured:
                self._turn(ready)

    def _turn(self, ready: dict[Any, int]) -> None:
        """Takes what the kernel has said."""
        self._turns_behind = 0 if self._take_iopub() else self._turns_behind + 1
        while (message := self._kernel.receive(self._kernel.shell)) is not None:
            self._on_reply(message)
        while (message := self._kernel.receive(self._kernel.control)) is not None:
            if self._run is not None:
                self._run.unanswered.discard(messages.parent(message))
                self._finish_if_done()
        while (message := self._kernel.receive(self._kernel.stdin)) is not None:
            self._on_input_request(message)
        if not self._outbox.full:  # else it may wait in its write
            self._take_pipes(ready)
        if self._kernel.pidfd in ready:
            self._end_as_kernel()
        self._watch_time()
        if self._outbox.full or self._turns_behind >= _BEHIND_TURNS:
            self._kernel.hold()
        elif self._outbox.has_room and not self._turns_behind:
            self._kernel.release()

    def _poll(self, timeout_s: float | None) -> dict[Any, int]:
        poller = zmq.Poller()
        events = zmq.POLLIN | (zmq.POLLOUT if self._outbox.waiting else 0)
        poller.register(self._outbox.fileno(), events)
        if self._configured:
            for each in self._kernel.sockets:
                poller.register(each, zmq.POLLIN)
            poller.register(self._kernel.pidfd, zmq.POLLIN)
            for fd in () if self._outbox.full else self._kernel.pipes:
                poller.register(fd, zmq.POLLIN)
        return dict(poller.poll(None if timeout_s is None else timeout_s * 1000))

    # Orders

    def _obey(self, kind: bytes, order: dict[str, Any]) -> None:
        if kind == channel.CONFIGURE:
            self._outbox.send(channel.CONFIGURED, channel.to_json(self._configure(order)))
        elif not self._configured:
            raise channel.ProtocolError("an order before the context was configured")
        elif kind == channel.EXECUTE:
            self._execute(order)
        elif kind == channel.INPUT_REPLY:
            self._reply_input(order)
        elif kind == channel.INTERRUPT:
            self._interrupt()
        elif kind == channel.ASK:
            self._questions.ask(self._kernel, order)

    def _configure(self, order: dict[str, Any]) -> dict[str, Any]:
        if self._configured:  # ahead, and otherwise: its directory and environment can't be changed
            self._configured = False
            self._kernel.end()
        os.environ.clear()
        os.environ.update(order["env"])
        try:
            os.chdir(order["cwd"])
        except OSError as error:
            return {"cwd_error": error.strerror}
        for limit, name in (
            (resource.RLIMIT_NOFILE, "open_files"),
            (resource.RLIMIT_FSIZE, "file_size"),
            (resource.RLIMIT_NPROC, "processes"),
        ):
            if value := order["rlimits"][name]:
                resource.setrlimit(limit, (value, value))
        folder, transport = self._options["kernelspec"], self._options["transport"]
        try:
            kernel = kernels.start(folder, transport, os.environ, self._options["timeout"])
        except KernelError as error:
            return {"failure": f"the kernel can't be started: {error}"}
        self._kernel, self._configured = kernel, True
        return {}

    def _execute(self, order: dict[str, Any]) -> None:
        used = self._kernel.cpu_time_s()
        content = {
            "code": order["code"],
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": order["allow_input"],
            "stop_on_error": False,
        }
        identifier = self._kernel.send(self._kernel.shell, "execute_request", content)
        self._run = Run(identifier, order["allow_input"], used)

    def _reply_input(self, order: dict[str, Any]) -> None:
        if self._input is None or order["number"] != self._inputs:
            return  # it answers an earlier, interrupted request
        self._answer_input(_END_OF_FILE if order["end_of_file"] else order["text"])

    def _answer_input(self, value: str) -> None:
        kernel, self._input = self._kernel, None
        kernel.send(kernel.stdin, "input_reply", {"value": value})

    def _interrupt(self) -> None:
        """Passes an interrupt on, which comes again until the run has finished: a kernel may be cleaning up."""
        run, now = self._run, time.monotonic()
        if run is None or now < run.interrupt_after:
            return
        run.interrupt_after = now + _AGAIN_S
        run.unanswered |= {self._kernel.interrupt()} - {""}
        self._input = None

    # What the kernel says

    def _take_iopub(self) -> bool:
        """Takes what it has published by now, and returns whether that is all."""
        for _ in range(_BATCH):
            message = self._kernel.receive(self._kernel.iopub)
            if message is None:
                return True
            self._on_published(message["msg_type"], message["content"], messages.parent(message))
        return not self._kernel.has_message(self._kernel.iopub)

    def _settle(self) -> None:
        """Takes what the kernel publishes of a run after it has said that it is idle.

        Some have a queue for output, Deno's for one, from which other messages go in turn with others. So it is
        empty once a request has brought nothing but the word that it was begun, and is done.
        """
        self._kernel.release()
        deadline = time.monotonic() + _IDLE_S
        quiet = 0
        while quiet < _QUIET_ROUNDS:
            self._published = 0
            request = self._kernel.send(self._kernel.shell, "kernel_info_request", {})
            while self._idle_of != request:
                left = min(_SETTLE_S, deadline - time.monotonic())
                if left <= 0 or not self._kernel.iopub.poll(left * 1000):
                    return
                self._take_iopub()
            quiet = 0 if self._published else quiet + 1

    def _take_all_published(self) -> None:
        """Takes what it has published, until nothing has come for a moment, or for too long."""
        deadline = time.monotonic() + _MAX_QUIET_S
        while time.monotonic() < deadline and self._kernel.iopub.poll(_QUIET_S * 1000):
            self._take_iopub()

    def _on_published(self, kind: str, content: Message, parent: str) -> None:
        run = self._run if self._run is not None and self._run.identifier == parent else None
        if run is not None and run.reply is not None and not run.idle:
            run.wait(_IDLE_S)  # it replies while much of what the run has made is still on its way
        if kind == "status":
            self._on_status(run, content.get("execution_state"), parent)
        elif kind == "execute_input":
            self._on_begun(run)
        elif kind == "error":
            self._on_error(run, content)
        elif (message := messages.encode(kind, content)) is not None:
            self._published += 1
            self._on_begun(run)
            self._outbox.send(*message)

    def _on_status(self, run: Run | None, state: object, parent: str) -> None:
        if state == "idle":
            self._idle_of = parent
        if run is not None and state == "busy":
            run.wait(_UNSAID_S)
        elif run is not None and state == "idle":
            run.idle = True
            run.wait(_REPLY_S)
            self._finish_if_done()

    def _on_begun(self, run: Run | None) -> None:
        if run is not None and not run.begun:
            run.begun = True
            if run.reply is None:
                run.wait(None)
            self._outbox.send(channel.BEGUN, b"")

    def _on_error(self, run: Run | None, content: Message) -> None:
        """Keeps an error, which may be the run's; one before it was shown, and the code went on."""
        shown = content if run is None else run.error
        if run is not None:
            run.error = content
        if shown is not None:
            self._show_error(shown)

    def _show_error(self, content: Message) -> None:
        text = "\n".join((*messages.error(content)["traceback"], ""))
        self._outbox.send(channel.STDERR, text.encode())

    def _on_reply(self, message: Message) -> None:
        parent, content = messages.parent(message), message["content"]
        self._questions.on_reply(parent, content)
        if self._run is not None and self._run.identifier == parent:
            for payload in content.get("payload") or ():
                if payload.get("source") == "page":  # what a terminal would show in a pager
                    self._take_all_published()
                    self._on_begun(self._run)
                    self._outbox.send(*messages.page(payload))
            self._run.reply = content
            if not self._run.idle:
                self._run.wait(_IDLE_S)
            self._finish_if_done()

    def _on_input_request(self, message: Message) -> None:
        run = self._run
        self._take_all_published()  # what the code wrote before it asked
        self._input = message
        if run is None or not run.allow_input:  # it was told that nobody can be asked
            self._answer_input(_END_OF_FILE)
            return
        self._on_begun(run)
        self._inputs += 1
        request = {
            "number": self._inputs,
            "prompt": clean(str(message["content"].get("prompt") or ""), _MAX_PROMPT),
            "password": bool(message["content"].get("password")),
        }
        self._outbox.send(channel.INPUT_REQUEST, channel.to_json(request))

    def _take_pipes(self, ready: dict[Any, int] | None = None) -> None:
        """Takes what the kernel, and what it has started, have written to descriptors 1 and 2."""
        for fd, is_stderr in list(self._kernel.pipes.items()):
            if ready is not None and fd not in ready:
                continue
            with contextlib.suppress(BlockingIOError):
                data = os.read(fd, _CHUNK)
                if data and fd not in self._kernel.echoing:
                    self._outbox.send(channel.STDERR if is_stderr else channel.STDOUT, data)
                elif not data:  # every process has closed it
                    os.close(fd)
                    del self._kernel.pipes[fd]

    # The end

    def _wait_s(self) -> float | None:
        deadlines = self._questions.deadlines()
        if self._run is not None and self._run.deadline is not None:
            deadlines.append(self._run.deadline)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _watch_time(self) -> None:
        now = time.monotonic()
        self._questions.give_up(now)
        run = self._run
        if run is None or run.deadline is None:
            return
        if self._kernel.held or self._turns_behind:
            run.wait(run.patience_s)
        elif run.deadline <= now:
            if run.reply is None and not run.idle:
                self._on_begun(run)
            else:
                self._finish(run, run.reply or {"status": "aborted"})

    def _finish_if_done(self) -> None:
        run = self._run
        if run is not None and run.idle and run.reply is not None and not run.unanswered:
            self._finish(run, run.reply)

    def _finish(self, run: Run, reply: Message) -> None:
        if not self._kernel.orderly:
            self._settle()
        self._run = self._input = None
        self._on_begun(run)
        self._take_pipes()
        raised = reply.get("status") != "ok"
        if raised:
            self._outbox.send(channel.ERROR, channel.to_json(run.error_with(reply)))
        elif run.error is not None:
            self._show_error(run.error)
        finished = {
            "raised": raised,
            "interrupted": raised and run.interrupt_after > 0,
            "cpu": max(0.0, self._kernel.cpu_time_s() - run.cpu_time_s),
            "peak": self._kernel.peak_memory_bytes(),
        }
        self._outbox.send(channel.FINISHED, channel.to_json(finished))

    def _end_as_kernel(self) -> NoReturn:
        status = self._kernel.wait()
        self._take_all_published()
        self._take_pipes()
        self._outbox.send_rest()
        if status < 0:
            with contextlib.suppress(OSError):
                signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        os._exit(status if status >= 0 else 1)


def main() -> None:
    """Is a bridge; the options are the first argument, as JSON, with the channel's descriptor as `fd`."""
    options = json.loads(sys.argv[1])
    outbox = Outbox(socket.socket(fileno=options["fd"]))
    try:
        Bridge(outbox, options).run()
    except (EOFError, OSError):  # the server is gone
        os._exit(0)

"""The worker of a Bash context: takes runs from its channel, and has its shell do them."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import signal
import socket
from typing import Any, NoReturn

from codecontext_service.workers import syscalls
from codecontext_service.workers.channel import (
    BEGUN,
    CONFIGURE,
    CONFIGURED,
    DISPLAY,
    ERROR,
    EXECUTE,
    FINISHED,
    INPUT_REPLY,
    INPUT_REQUEST,
    INTERRUPT,
    READY,
    Channel,
    to_json,
)
from codecontext_service.workers.display_records import pack_display

from .shell import Breach, Shell, check_syntax

_BREACH = b"?"
"""No message: tells the server that this context can't be trusted any more."""

_SYNTAX = 2  # Bash's status of code that it can't parse; others use it too
_LINE = re.compile(r": line (\d+): ")
_MESSAGE = re.compile(
    rb"(?:C|Q|B (?P<begun>\d+)|D (?P<ended>\d+) (?P<status>\d+) (?P<options>\w*))"
)
_TICKS = os.sysconf("SC_CLK_TCK")


class Worker:
    """Speaks for a shell."""

    def __init__(self, channel: Channel, executable: str, *, raises: bool) -> None:
        """Starts the shell.

        Args:
            channel: To the server.
            executable: The path of Bash.
            raises: Whether a status other than 0 is an error.
        """
        self._channel = channel
        self._executable = executable
        self._raises = raises
        self._shell = Shell(executable)
        self._run = 0
        self._running = False
        self._interrupted = False
        self._ended = False
        self._code = b""
        self._status = 0
        self._options = ""
        self._allow_input = False
        self._asked = 0
        self._waiting = False
        self._answer = b""
        self._cpu_s = 0.0

    def serve(self) -> NoReturn:
        """Takes orders until the server is gone, or the shell."""
        shell = self._shell
        self._channel.send(READY, to_json({"pid": shell.pid, "told": True, "signalled": False}))
        poll = select.poll()
        for fd in (self._channel.fileno(), shell.socket.fileno(), shell.pidfd):
            poll.register(fd, select.POLLIN)
        try:
            while True:
                ready = {fd for fd, _ in poll.poll()}
                if shell.socket.fileno() in ready:
                    self._listen()
                if shell.pidfd in ready:
                    self._end_as_shell()
                if shell.input_end in ready:
                    self._answer = shell.answer(self._answer)
                if self._channel.fileno() in ready:
                    self._on_server(*self._channel.receive())
                if self._answer:
                    poll.register(shell.input_end, select.POLLOUT)
                else:
                    with contextlib.suppress(KeyError):
                        poll.unregister(shell.input_end)
        except Breach:
            self._channel.send(_BREACH, b"")
        except (EOFError, OSError):  # the server is gone
            pass
        os._exit(1)

    def _on_server(self, kind: bytes, message: dict[str, Any]) -> None:
        if kind == EXECUTE:
            self._execute(message)
        elif kind == INTERRUPT:
            self._interrupt()
        elif kind == CONFIGURE:
            self._configure(message)
        elif kind == INPUT_REPLY and self._waiting and message["number"] == self._asked:
            self._waiting = False
            text = message["text"].encode("utf-8", "replace") + b"\n"
            self._answer = self._shell.answer(b"E" if message["end_of_file"] else b"A" + text)

    def _configure(self, message: dict[str, Any]) -> None:
        try:
            os.chdir(message["cwd"])  # it sees what the shell sees
        except OSError as error:
            self._channel.send(CONFIGURED, to_json({"cwd_error": error.strerror}))
            return
        self._shell.configure(message["cwd"], message["env"], message["rlimits"])

    def _interrupt(self) -> None:
        self._listen()
        if self._running and not self._ended:  # else it comes too late
            self._shell.interrupt(again=self._interrupted)
            self._interrupted = True

    def _execute(self, message: dict[str, Any]) -> None:
        self._run += 1
        self._running = True
        self._interrupted = self._ended = False
        self._allow_input = message["allow_input"]
        self._code = message["code"].encode("utf-8", "replace")
        if b"\0" in self._code:
            self._channel.send(BEGUN, b"")
            self._finish(1, "the code holds a NUL character, which no shell can read")
            return
        self._shell.run(self._run, self._code, message["env"], self._options, self._status)

    def _listen(self) -> None:
        for message in self._shell.hear():
            self._on_shell(message)

    def _on_shell(self, message: bytes) -> None:
        if message.startswith(b"I "):
            self._ask(message)
            return
        said = _MESSAGE.fullmatch(message)
        if said is None:
            raise Breach
        if said["ended"] is not None and int(said["ended"]) <= self._run:
            self._on_end(int(said["ended"]), int(said["status"]), said["options"])
        elif message == b"Q":
            if self._running and self._ended:
                self._finish(self._status)
        elif message == b"C":
            self._channel.send(CONFIGURED, to_json({}))
        elif self._running and said["begun"] == b"%d" % self._run:
            self._channel.send(BEGUN, b"")
        else:
            raise Breach

    def _on_end(self, run: int, status: int, options: bytes) -> None:
        if not self._running:
            return  # it was said before
        if run == self._run and not self._ended:
            self._ended = True
            self._status = status
            self._options = "".join(each for each in "xv" if each.encode() in options)
            if not self._interrupted:
                self._finish(status)
                return
        if self._ended:  # the next run must not begin before every interrupt has hit the shell
            self._shell.ask_for_quiet()

    def _ask(self, message: bytes) -> None:
        _, password, prompt = message.split(b" ", 2)
        if not self._running or self._waiting:
            raise Breach
        if not self._allow_input:
            self._shell.answer(b"N")
            return
        self._asked += 1
        self._waiting = True
        request = {
            "number": self._asked,
            "prompt": prompt.decode(errors="replace"),
            "password": password == b"1",
        }
        self._channel.send(INPUT_REQUEST, to_json(request))

    def _finish(self, status: int, syntax_error: str = "") -> None:
        self._running = self._waiting = False
        self._answer = b""
        if self._asked:
            self._shell.forget_input()
        if status:
            if not self._shell.intact:
                raise Breach
            if status == _SYNTAX:
                syntax_error = check_syntax(self._executable, self._code)
            self._send_error(status, syntax_error)
        cpu_s, peak = self._usage()
        finished = {
            "raised": bool(syntax_error) or (bool(status) and self._raises),
            # Whatever it failed of: perhaps of what the interrupt did to a child.
            "interrupted": bool(status) and self._interrupted,
            "cpu": max(0.0, cpu_s - self._cpu_s),
            "peak": peak,
        }
        self._cpu_s = cpu_s
        self._channel.send(FINISHED, to_json(finished))

    def _send_error(self, status: int, syntax_error: str) -> None:
        if syntax_error:
            found = _LINE.search(syntax_error)
            lines = syntax_error.splitlines()
            error = {
                "name": "SyntaxError",
                "value": lines[0].removeprefix("bash: "),
                "traceback": lines,
                "line_number": int(found[1]) if found else 0,
            }
            self._channel.send(ERROR, to_json(error))
            return
        value = _describe(status)
        if self._raises:
            error = {"name": "ExitStatus", "value": value, "traceback": [f"ExitStatus: {value}"]}
            self._channel.send(ERROR, to_json(error))
            return
        parts = [
            ("text/plain", True, f"exit status {value}".encode()),
            ("application/json", True, to_json({"exit_status": status})),
        ]
        self._channel.send(DISPLAY, pack_display({"kind": "result", "metadata": {}}, parts))

    def _usage(self) -> tuple[float, int]:
        """Returns the CPU time of the shell and of what it has waited for, and its peak memory."""
        with open(f"/proc/{self._shell.pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        peak = 0
        with open(f"/proc/{self._shell.pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    peak = int(line.split()[1]) * 1024
                    break
        return sum(map(int, fields[11:15])) / _TICKS, peak

    def _end_as_shell(self) -> NoReturn:
        """Ends as the shell has ended, so that the server hears the truth of it."""
        code = os.waitstatus_to_exitcode(os.waitpid(self._shell.pid, 0)[1])
        if code < 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if -code not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code if code >= 0 else 1)


def _describe(status: int) -> str:
    if status > 128:  # as it is for a command that a signal has ended
        with contextlib.suppress(ValueError):
            return f"{status} ({signal.Signals(status - 128).name})"
    return str(status)


def run(end: socket.socket, options: dict[str, Any]) -> NoReturn:
    """Is the worker, in a process that the launcher has forked; see `placing`.

    Args:
        end: Its end of the channel.
        options: `bash`: the path of the shell; `raises`: whether a status other than 0 is an error.
    """
    syscalls.set_dumpable(False)  # the code has the same user, and nothing to look for here
    Worker(Channel(end), options["bash"], raises=options["raises"]).serve()

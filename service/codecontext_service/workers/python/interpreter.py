"""The interpreter of a Python context: takes runs from its channel, one at a time."""

from __future__ import annotations

import builtins
import contextlib
import functools
import getpass
import importlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, NoReturn

from IPython.core.error import StdinNotImplementedError

from codecontext_service.workers import syscalls
from codecontext_service.workers.channel import (
    ANSWER,
    ASK,
    BEGUN,
    CONFIGURE,
    CONFIGURED,
    ERROR,
    EXECUTE,
    EXITED,
    FINISHED,
    FORK,
    FORKED,
    INPUT_REPLY,
    INPUT_REQUEST,
    MAX_THREAD_NAME,
    MAX_THREAD_NAMES,
    READY,
    STDERR,
    STDOUT,
    Channel,
    pack_finished,
    to_json,
)
from codecontext_service.workers.display_records import pack_display

from . import charts, forking, introspection, packages, publishing, raised
from .bundles import encode_bundle
from .printing import print_line
from .shell import Shell
from .streams import ERRORS, OutputStream, clean

_IDLE_S = 0.01
"""How long nobody has to want an interpreter of the pool until it rehearses."""

_MOMENT_S = 0.0005
"""How long it leaves its processor to whom it has woken with an answer: Linux likes to have that run there."""

_MAX_PROMPT = 16 * 1024
"""The most characters of a prompt that are sent."""


_REHEARSALS = 10
"""How often the zygote rehearses a run: CPython has adapted its bytecode then, and no child does it again,
in pages of its own."""


class Interpreter:
    """One interpreter: made in the zygote, run in the processes that are forked from it."""

    def __init__(self, preload: list[str]) -> None:
        """Loads IPython and the given modules.

        Args:
            preload: Names of modules; those that are not installed are left out, see `missing`.
        """
        self.missing: list[str] = []
        self._channel: Channel = None  # type: ignore[assignment]
        self._pid = 0
        self._allow_input = False
        self._asked = 0
        self._offspring = forking.Offspring()
        self._becomes_context = False
        self._shell: Shell = Shell.instance()
        self._published = publishing.provide(self._shell)
        sys.path.insert(0, "")
        for name in preload:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError:
                self.missing.append(name)
        if "matplotlib.pyplot" in sys.modules:
            self._shell.enable_matplotlib("inline")
            charts.load()
        self._shell.builtin_trap.__enter__()  # for good: each run would set and reset them
        self._warm_up()

    def _warm_up(self) -> None:
        """Loads what the first traceback and the first run would load."""
        try:
            raise RuntimeError
        except RuntimeError as error:
            self._shell.InteractiveTB.structured_traceback(RuntimeError, error, error.__traceback__)
        for _ in range(_REHEARSALS):
            self.rehearse()

    def run(self, channel: Channel) -> NoReturn:
        """Takes runs until the server is gone; in the process that was forked for this context."""
        self._channel = self._shell.output.channel = channel
        self._pid = os.getpid()
        self._inlet, self._outlets = forking.Outlets(channel.fileno()), forking.Outlets(1, 2)
        self._offspring.on_ended = self._tell_of_offspring
        self._stdout = OutputStream(channel.stream(STDOUT, _exit), 1, "<stdout>")
        self._stderr = OutputStream(channel.stream(STDERR, _exit), 2, "<stderr>")
        sys.stdout, sys.stderr = self._stdout, self._stderr
        sys.__stdout__, sys.__stderr__ = self._stdout, self._stderr  # type: ignore[misc,assignment]
        stdin = open(0, encoding="utf-8", errors=ERRORS)  # noqa: SIM115  # for ever
        sys.stdin = sys.__stdin__ = stdin  # type: ignore[misc]
        builtins.input = self._input
        builtins.print = print_line
        getpass.getpass = self._getpass
        signal.signal(signal.SIGINT, self._shell.interrupts.on_signal)
        os.system = _system
        os.register_at_fork(after_in_child=self._leave_channel)
        tempfile.tempdir = None  # that of the zygote is not the context's
        try:
            self._channel.send(READY, to_json({"pid": self._pid}))
            rehearsed = False
            while True:
                if not rehearsed and not self._channel.wait(_IDLE_S):
                    self.rehearse()
                    rehearsed = True
                kind, message = self._channel.receive()
                if kind == EXECUTE:
                    rehearsed = True
                    self._execute(message)
                elif kind == CONFIGURE:
                    rehearsed = rehearsed or not message["ahead"]
                    self._configure(message)
                elif kind == FORK:
                    self._fork(message)
                elif kind == ASK:
                    answer = introspection.answer(self._shell, message)
                    self._channel.send(ANSWER, to_json({"number": message["number"], **answer}))
        except (EOFError, OSError):
            os._exit(0)
        except BaseException as error:  # the code has changed what this program itself stands on
            os.write(2, f"codecontext: the interpreter failed: {error!r}\n".encode())
            os._exit(1)

    def rehearse(self) -> None:
        """Does what a run does, without a trace, while nobody waits.

        What a process touches first after its fork is copied page by page, which takes milliseconds: the
        first run of a context that comes from the pool finds that done.
        """
        self._shell.run("None", silent=True)
        data, metadata = self._shell.display_formatter.format(0)
        header, parts = encode_bundle(data, metadata)
        pack_display(header, parts)
        to_json({"parts": len(parts)})
        syscalls.flush_c_stdio()

    def _fork(self, message: dict[str, Any]) -> None:
        """Makes a copy of this process that is a context of its own."""
        descriptors = self._channel.receive_descriptors()
        try:
            syscalls.flush_c_stdio()
            answer, is_child = self._try_to_fork(message)
            if is_child:
                self._begin_as_child(message, descriptors)
                answer = None
        finally:
            for fd in descriptors:
                os.close(fd)
        if answer is None:
            self._channel.send(READY, to_json({"pid": self._pid}))
        else:
            self._channel.send(FORKED, to_json({"number": message["number"], **answer}))

    def _try_to_fork(self, message: dict[str, Any]) -> tuple[dict[str, Any] | None, bool]:
        allowed = message["allow_threads"]
        # A copy that may lose threads does not wait: where a library has some, it would wait each time.
        found = forking.other_threads() if allowed else forking.lasting_threads()
        threads = [clean(name, MAX_THREAD_NAME) for name in found[:MAX_THREAD_NAMES]]
        if threads and not allowed:
            return {"threads": threads}, False
        self._becomes_context = True
        try:
            pid = forking.fork()
        except OSError as error:
            return {"error": error.strerror}, False
        finally:
            self._becomes_context = False
        if pid == 0:
            return None, True
        self._offspring.add(pid)
        return {"pid": pid, "lost": threads}, False

    def _begin_as_child(self, message: dict[str, Any], descriptors: list[int]) -> None:
        try:
            channel, stdout, stderr, *groups = descriptors
            for entry in groups:
                os.write(entry, b"0")
            os.setsid()
            self._offspring.disown()
            self._pid = os.getpid()
            was_at = self._channel.detach()
            self._inlet.close()
            self._outlets.redirect(stdout, stderr)
            end = socket.socket(fileno=forking.move_up(channel, was_at))
            self._inlet = forking.Outlets(end.fileno())
            self._channel = self._shell.output.channel = Channel(end)
            self._stdout.send = self._channel.stream(STDOUT, _exit)
            self._stderr.send = self._channel.stream(STDERR, _exit)
            if message["apart"]:
                forking.keep_apart()
            forking.lower_limits(message["rlimits"])
            forking.renew_libraries()
            forking.reseed()
        except BaseException as error:  # half of a context must not go on
            os.write(2, f"codecontext: a fork could not begin: {error!r}\n".encode())
            os._exit(1)

    def _tell_of_offspring(self) -> None:
        while self._offspring.ended:
            self._channel.send(EXITED, to_json(self._offspring.ended.pop()))

    def _leave_channel(self) -> None:
        """In a process that the code forked: it is not the context, and speaks for itself alone."""
        if self._becomes_context:
            return
        self._offspring.disown()
        self._channel.close()
        self._shell.output.channel = None
        self._stdout.write_to_descriptor()
        self._stderr.write_to_descriptor()
        self._allow_input = False

    def _configure(self, message: dict[str, Any]) -> None:
        os.environ.clear()
        os.environ.update(message["env"])
        self._published.workspace = message["env"].get("CODECONTEXT_WORKSPACE", message["cwd"])
        forking.lower_limits(message["rlimits"])
        try:
            os.chdir(message["cwd"])
        except OSError as error:
            self._channel.send(CONFIGURED, to_json({"cwd_error": error.strerror}))
            return
        self._channel.send(CONFIGURED, to_json({}))
        self._channel.wait(_MOMENT_S)
        forking.reseed()

    def _execute(self, message: dict[str, Any]) -> None:
        before = self._cpu_time()
        self._allow_input = message["allow_input"]
        if self._shell.execution_count != message["execution_count"]:  # to set it takes longer
            self._shell.execution_count = message["execution_count"]
        self._shell.shown_error = None
        self._shell.compile.cell_name = ""
        error: BaseException | None = None
        packages.notice()
        with _environment(message["env"]) if message["env"] else contextlib.nullcontext():
            try:
                error = self._run_cell(message["code"])
            except (
                BaseException
            ) as beside:  # an interrupt, or what the code has hung into the shell
                error = beside
        self._allow_input = False
        if os.getpid() != self._pid:  # the code forked, and this child ran off its end
            self._finish_stray(error)
        if error is not None:
            self._send_error(error)
        self._shell.write_shown_error()
        syscalls.flush_c_stdio()
        self._offspring.reap()
        self._tell_of_offspring()
        finished = pack_finished(
            raised=error is not None,
            interrupted=self._shell.interrupts.stopped,
            cpu_time_s=self._cpu_time() - before,
            peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )
        self._channel.send(FINISHED, finished)
        self._shell.past_runs.end_of(message["execution_count"], message["code"])

    def _cpu_time(self) -> float:
        """Returns the CPU time of this process and its children, without those that are contexts."""
        own, children = (
            resource.getrusage(resource.RUSAGE_SELF),
            resource.getrusage(resource.RUSAGE_CHILDREN),
        )
        total = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        return total - self._offspring.cpu_time_s

    def _run_cell(self, code: str) -> BaseException | None:
        try:
            self._shell.interrupts.begin()
            self._channel.send(BEGUN, b"")  # from here on an interrupt finds the run
            result = self._shell.run(code)
        finally:
            self._shell.interrupts.end()
        return raised.error_of(result)

    def _finish_stray(self, error: BaseException | None) -> NoReturn:
        status = 0 if error is None else 1
        if isinstance(error, SystemExit):  # as in any other program
            status = error.code & 0xFF if isinstance(error.code, int) else int(bool(error.code))
            self._shell.shown_error = None
        self._shell.write_shown_error()
        syscalls.flush_c_stdio()
        os._exit(status)

    def _send_error(self, error: BaseException) -> None:
        shown, self._shell.shown_error = self._shell.shown_error, None
        lines = shown[1] if shown is not None and shown[0] is error else None
        message = raised.describe(error, lines, self._shell.compile.cell_name)
        self._channel.send(ERROR, to_json(message))

    def _input(self, prompt: object = "", /) -> str:
        """Is `input()` in a context."""
        return self._ask(str(prompt), password=False)

    def _getpass(self, prompt: str = "Password: ", stream: Any = None) -> str:
        """Is `getpass.getpass()` in a context."""
        return self._ask(prompt, password=True)

    def _ask(self, prompt: str, *, password: bool) -> str:
        if not self._allow_input:
            raise StdinNotImplementedError(
                "this run was started without allow_input: nobody can be asked"
            )
        self._asked += 1
        shown = clean(prompt, _MAX_PROMPT)
        request = {"number": self._asked, "prompt": shown, "password": password}
        self._channel.send(INPUT_REQUEST, to_json(request))
        kind, reply = self._channel.receive()
        # What answers an earlier, interrupted request is not for this one.
        while kind != INPUT_REPLY or reply["number"] != self._asked:
            kind, reply = self._channel.receive()
        if reply["end_of_file"]:
            raise EOFError
        text: str = reply["text"]
        return text


def _exit() -> NoReturn:
    """Ends the process where its channel is gone: nobody can hear it any more."""
    os._exit(1)


@functools.wraps(os.system)
def _system(command: Any) -> int:
    """Is `os.system()` in a context: that of the C library ignores SIGINT, so that a loop would go on."""
    code = subprocess.call(["/bin/sh", "-c", command], close_fds=False)
    return -code if code < 0 else code << 8


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets environment variables for a time."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

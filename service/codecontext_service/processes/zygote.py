"""The server's side of a zygote, and of the keepers that it forks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecontext_service.workers.keeper import INTERRUPT, KILL

from .bootstrap import clean_environment, command
from .launcher import Launcher
from .peer import Peer

logger = logging.getLogger(__name__)


class ZygoteLost(Exception):
    """The zygote ended, or could not start; the text says why."""


@dataclass(frozen=True)
class InterpreterExit:
    """How an interpreter ended."""

    code: int | None
    """Its exit status, or the negative number of the signal that killed it; None if its keeper was
    killed and could not tell."""

    cpu_time_s: float = 0.0
    peak_memory_bytes: int = 0

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


class Keeper:
    """The process that holds one context's processes together; see `workers/keeper.py`."""

    def __init__(self, launcher: Launcher, pid: int, pidfd: int, end: socket.socket) -> None:
        """Knows a keeper that was just forked."""
        self._launcher = launcher
        self._pid = pid
        self._pidfd = pidfd
        loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = loop.create_future()
        """Done once the keeper is reaped, and with it every process that it held is gone."""
        self.ended: asyncio.Future[InterpreterExit] = loop.create_future()
        """Done once the interpreter has ended."""
        self.pending_interrupts = 0
        """How many interrupts were ordered and not yet sent on."""
        self.on_interrupted: Callable[[], None] = lambda: None
        """Is called when an interrupt was sent on."""
        self.interpreter_pidfd = -1
        self._peer = Peer(end, self._on_message, self._on_closed)
        launcher.watch(pid, self.on_reaped)
        self._launcher_lost = launcher.lost
        self._launcher_lost.add_done_callback(self._on_launcher_lost)
        if not launcher.pid_namespaces:
            with contextlib.suppress(OSError):  # the launcher is gone, and this keeper soon
                launcher.keep(pid)

    def interrupt(self) -> None:
        """Has SIGINT sent to the interpreter and what it runs in the foreground."""
        with contextlib.suppress(OSError):
            self._peer.send_bytes(INTERRUPT)
            self.pending_interrupts += 1

    def kill(self) -> None:
        """Ends every process of the context; `gone` tells when it is done. May be repeated."""
        if self.gone.done():
            return
        with contextlib.suppress(ProcessLookupError):
            if self._launcher.pid_namespaces:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                # It would be killed next; so both give back their memory at the same time.
                if self.interpreter_pidfd >= 0:
                    signal.pidfd_send_signal(self.interpreter_pidfd, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)
                with contextlib.suppress(OSError):
                    self._peer.send_bytes(KILL)

    def close(self) -> None:
        """Closes what the server holds of it."""
        self._peer.close()
        self._launcher.unwatch(self._pid, self.on_reaped)
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
        self._launcher_lost.remove_done_callback(self._on_launcher_lost)
        for fd in (self._pidfd, self.interpreter_pidfd):
            if fd >= 0:
                os.close(fd)
        self._pidfd = self.interpreter_pidfd = -1

    def check_reaped(self) -> None:
        """Looks whether the keeper is reaped, where the process that would tell has died."""
        if not self.gone.done():
            try:
                signal.pidfd_send_signal(self._pidfd, 0)
            except ProcessLookupError:
                self.on_reaped(-signal.SIGKILL)  # nobody knows how: it may have left processes

    def on_reaped(self, code: int) -> None:
        """Takes note that the keeper is reaped, with its exit code."""
        if self.gone.done():
            return
        if code < 0 and not self._launcher.pid_namespaces:
            # It did not end its processes: they are the launcher's now.
            asyncio.ensure_future(self._launcher.sweep()).add_done_callback(self._on_gone)
        else:
            self._on_gone()

    def _on_gone(self, swept: asyncio.Future[None] | None = None) -> None:
        if swept is not None:
            swept.exception()  # without a launcher its processes are gone too
        if not self.gone.done():
            self.gone.set_result(None)

    def _on_message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "pid" in message:
            (self.interpreter_pidfd,) = descriptors
        elif "interrupted" in message:
            self.pending_interrupts -= 1
            self.on_interrupted()
        elif "exit" in message and not self.ended.done():
            exit_ = message["exit"]
            self.ended.set_result(InterpreterExit(exit_["code"], exit_["cpu"], exit_["peak"]))

    def _on_closed(self) -> None:
        if not self.ended.done():
            self.ended.set_result(InterpreterExit(None))

    def _on_launcher_lost(self, lost: asyncio.Future[None]) -> None:
        # It was pid 1 of the namespace that they all live in, or else their reaper of last resort,
        # without which they must not go on. Nobody is left who would tell of their end.
        self.kill()
        if not self.gone.done():
            loop = asyncio.get_running_loop()
            loop.add_reader(self._pidfd, self._on_ended_alone)

    def _on_ended_alone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._on_closed()
        self._on_gone()


@dataclass
class Forked:
    """A process that was forked for a context, with the server's ends of what leads to it."""

    keeper: Keeper
    channel: socket.socket
    stdout: int
    stderr: int


class Zygote:
    """A process that has a Python runtime loaded, and forks contexts from itself."""

    def __init__(
        self, launcher: Launcher, interpreter: str, preload: tuple[str, ...], state_dir: Path
    ) -> None:
        """Makes a zygote that is not started yet.

        Args:
            launcher: What starts it.
            interpreter: The Python executable.
            preload: Modules to load.
            state_dir: Where its log and the files of what it loads go.
        """
        self._launcher = launcher
        self._interpreter = interpreter
        self._preload = preload
        self._state_dir = state_dir
        self._numbers = itertools.count(1)
        self._forks: dict[int, asyncio.Future[tuple[int, int]]] = {}
        self._keepers: dict[int, Keeper] = {}
        self.version = ""
        self.missing: list[str] = []
        self.pid = 0

    async def start(self) -> None:
        """Starts the process and waits until everything is loaded.

        Raises:
            ZygoteLost: It could not start; the text says why.
            LauncherLost: The launcher ended.
        """
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        options = {
            "fd": 3,
            "preload": self._preload,
            "pid_namespaces": self._launcher.pid_namespaces,
        }
        env = clean_environment(self._interpreter) | {
            "HOME": str(self._state_dir),
            "IPYTHONDIR": str(self._state_dir / "ipython"),
            "MPLCONFIGDIR": str(self._state_dir / "matplotlib"),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            # A process with threads can't be forked: libraries start none of their own.
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        log_path = self._state_dir / "zygote.log"
        ours, theirs = Peer.pair()
        with theirs, log_path.open("wb") as log:
            argv = command(self._interpreter, "zygote", options)
            self.pid = await self._launcher.spawn(argv, env, theirs.fileno(), log.fileno())
        self._launcher.watch(self.pid, lambda code: self._on_reaped())
        self._peer = Peer(ours, self._on_message, self._on_closed)
        try:
            ready = await self._ready
        except ZygoteLost as error:
            log_end = log_path.read_text(errors="replace")[-2000:].strip()
            raise ZygoteLost(f"{error} {log_end}".strip()) from None
        self.version, self.missing = ready["ready"], ready["missing"]

    async def fork(self) -> Forked:
        """Forks a context's processes.

        Raises:
            ZygoteLost: The zygote ended.
        """
        channel, their_channel = Peer.pair()
        keeper, their_keeper = Peer.pair()
        stdout, their_stdout = os.pipe2(os.O_CLOEXEC)
        stderr, their_stderr = os.pipe2(os.O_CLOEXEC)
        number = next(self._numbers)
        answer = self._forks[number] = asyncio.get_running_loop().create_future()
        try:
            if self.lost.done():
                raise ZygoteLost("it has ended")
            fds = [their_channel.fileno(), their_keeper.fileno(), their_stdout, their_stderr]
            self._peer.send({"fork": number}, fds)
            pid, pidfd = await answer
        except BaseException as error:
            self._forks.pop(number, None)
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                os.close(answer.result()[1])  # it came when nobody waited any more
            for end in (channel, keeper):
                end.close()
            for fd in (stdout, stderr):
                os.close(fd)
            if isinstance(error, OSError):
                raise ZygoteLost("it does not read its orders") from error
            raise
        finally:
            for end in (their_channel, their_keeper):
                end.close()
            for fd in (their_stdout, their_stderr):
                os.close(fd)
        self._keepers[pid] = held = Keeper(self._launcher, pid, pidfd, keeper)
        held.gone.add_done_callback(lambda gone: self._keepers.pop(pid, None))
        channel.setblocking(False)
        return Forked(held, channel, stdout, stderr)

    def stop(self) -> None:
        """Has the zygote end; the contexts that it forked live on."""
        self._peer.close()

    def _on_message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "forked" in message:
            (pidfd,) = descriptors
            answer = self._forks.pop(message["forked"], None)
            if answer is not None and not answer.done():
                answer.set_result((message["pid"], pidfd))
            else:  # who asked has gone: so have its sockets, whose end the keeper sees
                os.close(pidfd)
        elif "exited" in message:
            if keeper := self._keepers.get(message["exited"]):
                keeper.on_reaped(message["code"])
        elif "ready" in message:
            self._ready.set_result(message)
        elif "failed" in message:
            self._ready.set_exception(ZygoteLost(message["failed"]))

    def _on_closed(self) -> None:
        error = ZygoteLost("the zygote has ended")
        futures: list[asyncio.Future[Any]] = [self._ready, *self._forks.values()]
        for future in futures:
            if not future.done():
                future.set_exception(error)
        self._forks.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def _on_reaped(self) -> None:
        # The launcher is now the parent of its keepers, and tells of their end, but not of those
        # that the zygote had reaped without having told.
        for keeper in list(self._keepers.values()):
            keeper.check_reaped()

"""The server's side of the launcher."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from codecontext_service.workers.cells import CellSpec

from .bootstrap import clean_environment, command
from .containment import Containment
from .peer import Peer

logger = logging.getLogger(__name__)

OnExit = Callable[[dict[str, Any]], None]


class LauncherLost(Exception):
    """The launcher ended, and everything below it with it."""


class Launcher:
    """The root of all processes below the server; see `workers/launcher.py`."""

    def __init__(self, state_dir: Path, containment: Containment) -> None:
        """Makes a launcher that is not started yet.

        Args:
            state_dir: Where its log goes.
            containment: What the machine is to do.
        """
        self.containment = containment
        self._jail = state_dir / "jail"
        self._log = state_dir / "launcher.log"
        self._exits: dict[int, OnExit] = {}
        self._reviving = asyncio.Lock()

    async def start(self) -> None:
        """Starts the process and waits until it is ready.

        Raises:
            LauncherLost: It could not start.
        """
        ours, theirs = Peer.pair()
        self._jail.mkdir(exist_ok=True)
        options = {
            "fd": theirs.fileno(),
            "cells": self.containment.cells,
            "jail": {"folder": str(self._jail), "shown": self.containment.shown},
            "server_pid": os.getpid(),
            "own_uids": self.containment.own_uids,
            "tier": self.containment.of_interpreters,
        }
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        # From the main thread: the launcher dies with the thread that started it.
        with theirs, self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220  # once, at the start
                command(sys.executable, "launcher", options, "-S"),
                env=clean_environment(sys.executable),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._peer = Peer(ours, self._on_message, self._on_closed)
        cells = (await self._ready)["cells"]
        self.containment = replace(self.containment, cells=cells)

    async def revive(self) -> None:
        """Starts it again if it was lost.

        Raises:
            LauncherLost: It could not start.
        """
        async with self._reviving:
            if self.lost.done():
                await self.start()

    async def spawn(self, argv: list[str], env: dict[str, str], end: int, log: int) -> int:
        """Starts a process.

        Args:
            argv: Its command.
            env: Its environment.
            end: What it has as descriptor 3.
            log: What it has as descriptor 2.

        Returns:
            Its pid as the launcher sees it.

        Raises:
            LauncherLost: The launcher ended.
            OSError: The launcher does not read.
            OrderError: The kernel refused.
        """
        answer, _ = await self._order("spawn", {"argv": argv, "env": env}, [end, log])
        pid: int = answer["pid"]
        return pid

    async def fork_cell(self, end: int, spec: CellSpec, sibling: int | None) -> tuple[int, int]:
        """Makes a cell.

        Args:
            end: The socket of its keeper.
            spec: What a full cell is like.
            sibling: A pidfd of the keeper of another cell of the same sandbox, if there is one.

        Returns:
            The keeper's pid as the launcher sees it, and a pidfd of it.

        Raises:
            LauncherLost: The launcher ended.
            OSError: The launcher does not read.
            OrderError: The kernel refused.
        """
        siblings = [] if sibling is None else [sibling]
        answer, (pidfd,) = await self._order("cell", {"spec": asdict(spec)}, [end, *siblings])
        return answer["pid"], pidfd

    async def exec(self, order: dict[str, Any], descriptors: Sequence[int]) -> tuple[int, int]:
        """Starts an interpreter that is a program of its own, or without cells a keeper of one.

        Args:
            order: What and where, see `workers.placing`.
            descriptors: What it gets.

        Returns:
            Its pid as the launcher sees it, and a pidfd of it.

        Raises:
            LauncherLost: The launcher ended.
            OSError: The launcher does not read.
            OrderError: The kernel refused.
        """
        answer, (pidfd,) = await self._order("exec", order, descriptors)
        return answer["pid"], pidfd

    def watch(self, pid: int, on_exit: OnExit) -> None:
        """Has a function called with what the launcher reports once it has reaped a child of its own.

        See `workers.children.EndedChild.report`.
        """
        self._exits[pid] = on_exit

    def unwatch(self, pid: int, on_exit: OnExit) -> None:
        """Forgets about a child that another process has reaped; its pid may be another's by now."""
        if self._exits.get(pid) == on_exit:
            del self._exits[pid]

    def keep(self, pid: int) -> None:
        """Tells that a process is a keeper, which stays when the launcher becomes its parent."""
        self._peer.send({"keep": pid})

    async def sweep(self) -> None:
        """Ends the processes that a dead keeper left to the launcher.

        Raises:
            LauncherLost: The launcher ended, and they with it.
            OSError: The launcher does not read.
        """
        await self._order("sweep")

    def stop(self) -> None:
        """Has the launcher end everything below it, and itself."""
        self._peer.close()

    async def wait(self) -> int:
        """Waits for the launcher's end and returns its exit code."""
        if self._process.poll() is None:
            # Not in a thread: the end of the event loop would wait for that, however long it takes.
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(self._process.pid)
                try:
                    await _readable(pidfd)
                finally:
                    os.close(pidfd)
        return self._process.wait()  # it has ended

    async def end(self, timeout_s: float) -> bool:
        """Has the launcher end everything below it, and itself.

        Args:
            timeout_s: How long that may take, in seconds.

        Returns:
            Whether all have ended. Without cells it goes on when the time has passed: to kill it would
            leave behind what it is about to end.
        """
        self.stop()
        try:
            async with asyncio.timeout(timeout_s):
                await self.wait()
        except TimeoutError:
            if not self.containment.cells:
                logger.error(
                    "processes of contexts do not end; the launcher goes on without the server"
                )
                return False
            logger.warning("the launcher does not end and is killed, and all with it")
            self._process.send_signal(signal.SIGKILL)
            await self.wait()
        return True

    async def _order(
        self, verb: str, message: dict[str, Any] | None = None, descriptors: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        if self.lost.done():
            raise LauncherLost
        try:
            return await self._peer.order(verb, message, descriptors)
        except OSError:
            if self.lost.done():
                raise LauncherLost from None
            raise

    def _on_message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "exited" in message:
            if on_exit := self._exits.pop(message["exited"], None):
                on_exit(message)
        elif self._ready.done():  # nobody waits for it any more
            pass
        elif "ready" in message:
            self._ready.set_result(message)

    def _on_closed(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop ends, and this process with it
            asyncio.get_running_loop().run_in_executor(None, self._process.wait)  # to reap it
        self._exits.clear()
        error = LauncherLost(self._log.read_text(errors="replace")[-2000:].strip())
        if not self._ready.done():
            self._ready.set_exception(error)
        if not self.lost.done():
            self.lost.set_result(None)


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(fd)

"""The server's side of a zygote, and what it forks."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from codecontext_service.workers.jail import CACHES

from .bootstrap import clean_environment, command
from .forking import Forker
from .keeper import SubreaperKeeper
from .launcher import Launcher, OnExit
from .peer import Peer


class ZygoteLost(Exception):
    """The zygote ended, or could not start; the text says why."""


class Zygote(Forker):
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
        super().__init__(launcher)
        self._interpreter = interpreter
        self._preload = preload
        self._state_dir = state_dir
        self._children: dict[int, OnExit] = {}
        self._keepers: set[SubreaperKeeper] = set()
        self.version = ""
        self.missing: list[str] = []
        self.pid = 0

    async def start(self) -> None:
        """Starts the process and waits until everything is loaded.

        Raises:
            ZygoteLost: It could not start; the text says why.
            LauncherLost: The launcher ended.
            OSError: The launcher does not read.
            OrderError: The kernel refused.
        """
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        options = {
            "fd": 3,
            "preload": self._preload,
            "cells": self._launcher.containment.cells,
            "tier": self._launcher.containment.of_interpreters,
        }
        full = self._launcher.containment.cells == "full"
        caches = Path(CACHES) / self._state_dir.name if full else self._state_dir
        env = clean_environment(self._interpreter) | {
            "HOME": str(caches),
            "TMPDIR": str(caches),
            "IPYTHONDIR": str(caches / "ipython"),
            "MPLCONFIGDIR": str(caches / "matplotlib"),
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
        self._launcher.watch(self.pid, lambda report: self._on_reaped())
        self._peer = Peer(ours, self._on_message, self._on_closed)
        try:
            ready = await self._ready
        except asyncio.CancelledError:
            self._peer.close()  # it would wait for orders for ever
            raise
        except ZygoteLost as error:
            log_end = log_path.read_text(errors="replace")[-2000:].strip()
            raise ZygoteLost(f"{error} {log_end}".strip()) from None
        self.version, self.missing = ready["ready"], ready["missing"]

    async def order(self, descriptors: list[int], where: dict[str, Any]) -> tuple[int, int]:
        """Has it fork; see `Forker`."""
        if self.lost.done():
            raise ZygoteLost("it has ended")
        try:
            answer, (pidfd,) = await self._peer.order("fork", where, descriptors)
        except OSError as error:
            raise ZygoteLost(f"it does not take orders: {error}") from error
        return answer["pid"], pidfd

    def watch(self, pid: int, on_report: OnExit) -> None:
        """Has a function called with what is reported of a child; see `Forker`."""
        self._children[pid] = on_report
        super().watch(pid, on_report)  # the launcher is its parent once the zygote has ended

    def forget(self, pid: int, on_report: OnExit) -> None:
        """Forgets about a child; see `Forker`."""
        if self._children.get(pid) == on_report:
            del self._children[pid]
        super().forget(pid, on_report)

    def keeper(self, pid: int, pidfd: int, end: socket.socket) -> SubreaperKeeper:
        """Takes over what leads to a keeper that was forked; see `Forker`."""
        keeper = super().keeper(pid, pidfd, end)
        self._keepers.add(keeper)
        keeper.gone.add_done_callback(lambda gone: self._keepers.discard(keeper))
        return keeper

    def stop(self) -> None:
        """Has the zygote end; the contexts that it forked live on."""
        self._peer.close()

    def _on_message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "exited" in message:
            if on_report := self._children.pop(message["exited"], None):
                on_report(message)
        elif self._ready.done():  # nobody waits for it any more
            pass
        elif "ready" in message:
            self._ready.set_result(message)
        elif "failed" in message:
            self._ready.set_exception(ZygoteLost(message["failed"]))

    def _on_closed(self) -> None:
        if not self._ready.done():
            self._ready.set_exception(ZygoteLost("the zygote has ended"))
        if not self.lost.done():
            self.lost.set_result(None)

    def _on_reaped(self) -> None:
        # The launcher is now the parent of its children, and tells of their end, but not of those
        # that the zygote had reaped without having told.
        for keeper in list(self._keepers):
            keeper.check_reaped()

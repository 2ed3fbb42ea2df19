"""Cells that are ready before they are needed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from .keeper import CellKeeper, KeeperLost
from .launcher import Launcher, LauncherLost
from .peer import OrderError, Peer

logger = logging.getLogger(__name__)

_READY = 4
"""How many cells wait: each has about 1 MB of its own."""

_RETRY_S = 1.0


class CellError(Exception):
    """No cell could be made; the text says why."""


class Cells:
    """The cells of a host, for all its runtimes."""

    def __init__(self, launcher: Launcher) -> None:
        """Starts without any.

        Args:
            launcher: What makes them.
        """
        self._launcher = launcher
        self._ready: deque[CellKeeper] = deque()
        self._wanted = asyncio.Event()
        self._filling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to make cells ahead."""
        self._filling = asyncio.create_task(self._fill())

    async def take(self) -> CellKeeper:
        """Returns a cell that nobody else has, one that is ready if there is one.

        Raises:
            CellError: None could be made.
        """
        self._wanted.set()
        while self._ready:
            cell = self._ready.popleft()
            if not cell.gone.done():
                return cell
            cell.close()
        return await self._make()

    async def stop(self) -> None:
        """Ends the cells that nobody has taken."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)
        cells, self._ready = list(self._ready), deque()
        for cell in cells:
            discard(cell)
        if cells:
            await asyncio.wait([cell.gone for cell in cells], timeout=5)

    async def _make(self) -> CellKeeper:
        end, theirs = Peer.pair()
        try:
            with theirs:
                pid, pidfd = await self._launcher.fork_cell(theirs.fileno())
        except BaseException as error:
            end.close()
            if isinstance(error, OSError | OrderError | LauncherLost):
                raise CellError(f"no cell could be made: {error}") from error
            raise
        cell = CellKeeper(self._launcher, pid, pidfd, end)
        try:
            await cell.ready
        except BaseException as error:
            discard(cell)
            if isinstance(error, KeeperLost):
                raise CellError(f"no cell could be made: {error}") from error
            raise
        return cell

    async def _fill(self) -> None:
        while True:
            self._wanted.clear()
            while len(self._ready) < _READY:
                try:
                    self._ready.append(await self._make())
                except CellError as error:
                    logger.warning("no cell: %s", error)
                    await asyncio.sleep(_RETRY_S)
            await self._wanted.wait()


def discard(cell: CellKeeper) -> None:
    """Ends a cell that nobody needs; what the server holds of it is closed once it is gone."""
    cell.kill()
    cell.gone.add_done_callback(lambda gone: cell.close())

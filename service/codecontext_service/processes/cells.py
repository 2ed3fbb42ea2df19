"""Cells, from the server's side: those that are ready before they are needed, and those of a sandbox."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import replace

from codecontext_service.workers.cells import CellSpec
from codecontext_service.workers.containment import Place

from .control_groups import ControlGroup, ControlGroups
from .keeper import CellKeeper, KeeperLost
from .launcher import Launcher, LauncherLost
from .members import Member
from .peer import OrderError, Peer
from .right_of_way import Ahead, RightOfWay
from .users import NoUserError, Users

logger = logging.getLogger(__name__)

READY = 4
"""How many cells wait: each has about 1 MB of its own."""

_RETRY_S = 1.0


class CellError(Exception):
    """No cell could be made; the text says why."""


class Cells:
    """The cells of a host, for all its runtimes."""

    def __init__(
        self,
        launcher: Launcher,
        default: CellSpec,
        users: Users,
        groups: ControlGroups | None = None,
    ) -> None:
        """Starts without any.

        Args:
            launcher: What makes them.
            default: What those are like that are made ahead.
            users: Those that sandboxes get.
            groups: The control groups of full cells, if the machine allows them.
        """
        self.default = default
        self._launcher = launcher
        self.users = users
        """Those of its sandboxes, whether they have cells or not."""
        self.right_of_way = RightOfWay()
        """Has what is made ahead, cells and what lives in them, give way to what callers wait for."""
        self._groups = groups
        self._ready: deque[CellKeeper] = deque()
        self._wanted = asyncio.Event()
        self._ahead: Ahead | None = None
        self._filling: asyncio.Task[None] | None = None

    @property
    def enabled(self) -> bool:
        """Whether this machine has cells."""
        return bool(self._launcher.containment.cells)

    @property
    def by_folder(self) -> bool:
        """Whether interpreters are confined to the folder of their sandbox, in place of cells."""
        return self._launcher.containment.by_folder

    @property
    def full(self) -> bool:
        """Whether its cells have files of their own."""
        return self._launcher.containment.cells == "full"

    def start(self) -> None:
        """Begins to make cells ahead."""
        if self.enabled:
            self._filling = asyncio.create_task(self._fill())

    async def take(self) -> CellKeeper:
        """Returns a cell of the default kind that nobody else has, one that is ready if there is one.

        Raises:
            CellError: None could be made.
        """
        self._wanted.set()
        while self._ready:
            cell = self._ready.popleft()
            if not cell.gone.done():
                if not self._enough and self._ahead is not None:
                    self._ahead.hurry()
                return cell
            cell.close()
        return await self.make(self.default)

    async def make(self, spec: CellSpec, sibling: CellKeeper | None = None) -> CellKeeper:
        """Makes a cell.

        Args:
            spec: What it is like; its user is chosen here.
            sibling: Another cell of the same sandbox, whose kind it gets.

        Raises:
            CellError: None could be made.
        """
        if sibling is not None:
            spec = sibling.spec
            self.users.share(spec.uid)
        else:
            try:
                spec = replace(spec, uid=self.users.take())
            except NoUserError as error:
                raise CellError(str(error)) from error
        try:
            cell = await self._make(spec, sibling)
        except BaseException:
            self.users.release(spec.uid)
            raise
        cell.gone.add_done_callback(lambda gone: self.users.release(spec.uid))
        return cell

    async def make_group(self) -> ControlGroup | None:
        """Makes a control group for the processes of one context; None if there are none here.

        Raises:
            CellError: The kernel refused.
        """
        if self._groups is None:
            return None
        try:
            return await self._groups.make()
        except OSError as error:
            raise CellError(f"no control group could be made: {error}") from error

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

    async def _make(self, spec: CellSpec, sibling: CellKeeper | None) -> CellKeeper:
        group = await self.make_group()
        end, theirs = Peer.pair()
        try:
            with theirs:
                pidfd = None if sibling is None else sibling.pidfd
                pid, pidfd = await self._launcher.fork_cell(theirs.fileno(), spec, pidfd)
        except BaseException as error:
            end.close()
            if group is not None and self._groups is not None:
                self._groups.discard(group)
            if isinstance(error, OSError | OrderError | LauncherLost):
                raise CellError(f"no cell could be made: {error}") from error
            raise
        cell = CellKeeper(self._launcher, pid, pidfd, end, spec=spec, group=group)
        try:
            await cell.ready
        except BaseException as error:
            discard(cell)
            if isinstance(error, KeeperLost):
                raise CellError(f"no cell could be made: {error}") from error
            raise
        return cell

    @property
    def _enough(self) -> bool:
        return 2 * len(self._ready) >= READY

    async def _fill(self) -> None:
        while True:
            self._wanted.clear()
            while len(self._ready) < READY:
                try:
                    self._ahead = Ahead(spare=self._enough)
                    async with self.right_of_way.give(self._ahead):
                        self._ready.append(await self.make(self.default))
                except CellError as error:
                    logger.warning("no cell: %s", error)
                    await asyncio.sleep(_RETRY_S)
            await self._wanted.wait()


class CellGroup:
    """The cells of one sandbox, or what it has in their place.

    They share files, network and IPC, and see not each other's processes.
    """

    def __init__(
        self, cells: Cells, spec: CellSpec | None = None, place: Place | None = None
    ) -> None:
        """Starts without a cell.

        Args:
            cells: What makes them.
            spec: What they are like; None for the default.
            place: Where its files are, if cells have none.
        """
        self.cells = cells
        self.place = place
        """Where its files are, if cells have none."""
        self.lock = asyncio.Lock()
        """Held by whoever gives it a cell."""
        self._spec = spec or cells.default
        self._members: list[CellKeeper] = []

    @property
    def fresh(self) -> bool:
        """Whether any cell of the default kind will do, since there is nothing to share."""
        if not self.cells.full:
            return True
        return not self._living() and self._spec == self.cells.default

    @property
    def inhabited(self) -> bool:
        """Whether any of its cells lives, and with it their files."""
        return bool(self._living())

    @property
    def workspace(self) -> int:
        """A descriptor of the workspace; -1 if it has none."""
        living = self._living()
        return living[0].workspace if living else -1

    @property
    def uid(self) -> int:
        """The user that its processes are; -1 where that is this process's own, in a namespace."""
        living = self._living()
        return living[0].spec.uid if living else -1

    def add(self, cell: CellKeeper) -> None:
        """Takes a cell that was fresh."""
        self._members.append(cell)

    async def grow(self) -> CellKeeper:
        """Returns a new cell of this sandbox; with the lock held.

        Raises:
            CellError: None could be made.
        """
        if self.fresh:
            cell = await self.cells.take()
        else:
            cell = await self.cells.make(self._spec, next(iter(self._living()), None))
        self.add(cell)
        return cell

    def _living(self) -> list[CellKeeper]:
        self._members = [cell for cell in self._members if not cell.gone.done() and cell.pidfd >= 0]
        return self._members


class Home:
    """Where one context's interpreters live, one after the other: its cell, if the machine has cells."""

    def __init__(self, group: CellGroup) -> None:
        """Starts without a cell.

        Args:
            group: The cells of its sandbox.
        """
        self.group = group
        self.cell: Member | None = None

    @property
    def habitable(self) -> bool:
        """Whether it has a cell that lives."""
        return self.cell is not None and not self.cell.gone.done()

    def move_in(self, cell: Member) -> None:
        """Takes its part of a cell: all of it, unless it was forked from a context there."""
        self.leave()
        self.cell = cell

    def leave(self) -> None:
        """Ends what it has in its cell, if it still has one; `gone` of that tells when it is done."""
        if self.cell is not None:
            discard(self.cell)


def discard(cell: CellKeeper | Member) -> None:
    """Ends a cell that nobody needs; what the server holds of it is closed once it is gone."""
    cell.kill()
    cell.gone.add_done_callback(lambda gone: cell.close())

"""Sandboxes: each has a workspace, which goes with it."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from codecontext_service.config import Config
from codecontext_service.domain.errors import (
    ContextLost,
    ContextUnreachable,
    FieldViolation,
    InvalidArgument,
    NotFound,
    SandboxDestroyed,
    SandboxNotFound,
)
from codecontext_service.domain.graves import Graves
from codecontext_service.domain.ids import IdMaker
from codecontext_service.domain.limits import NO_LIMITS, Limits
from codecontext_service.domain.network import Network
from codecontext_service.files.sessions import Sessions
from codecontext_service.files.workspace import Workspace
from codecontext_service.processes.cells import CellError, CellGroup, Cells, Home
from codecontext_service.processes.users import NoUserError
from codecontext_service.workers.containment import Place
from codecontext_service.workers.jail import WORKSPACE

from .folders import make_folder, remove_folder


@dataclass(frozen=True)
class SandboxOptions:
    """What a sandbox was created with."""

    limits: Limits = NO_LIMITS
    """Those that it has as a whole, and what its contexts have that ask for nothing else."""
    network: Network = Network.NONE
    labels: Mapping[str, str] = field(default_factory=dict)
    ttl_s: float = 0.0
    """In seconds; 0 means that it does not expire."""


@dataclass(frozen=True)
class WorkspaceUsage:
    """What a workspace holds."""

    bytes: int
    inodes: int


class Sandbox:
    """What contexts live in; they share its workspace."""

    def __init__(
        self,
        id_: str,
        options: SandboxOptions,
        cells: CellGroup,
        *,
        private: bool,
    ) -> None:
        """Knows a sandbox.

        Args:
            id_: Its id.
            options: What it was created with.
            cells: Its cells, or what it has in their place.
            private: Whether it goes with its last context.
        """
        self.id = id_
        self.number = 0
        """Its place in the order of creation."""
        self.options = options
        self.cells = cells
        self.private = private
        self.workspace = WORKSPACE if cells.place is None else cells.place.workspace
        """The workspace as code sees it."""
        self.temporary = None if cells.place is None else cells.place.temporary
        """Where code puts temporary files, if not where it usually would."""
        self.contexts = 0
        """How many contexts live in it, those that are being created and deleted included."""
        self.create_time = time.time()
        self.expire_time: float | None = None
        self.closing = False
        """Whether it is being removed: no more contexts come."""
        self.files = Sessions()
        """Who uses its files from outside."""
        self.holder = Home(cells)
        """Has the cell that keeps it while it has no contexts, if it is not private and cells have files."""

    def open_workspace(self) -> Workspace:
        """Opens its workspace; what is returned has a descriptor of its own.

        Raises:
            ContextUnreachable: No cell holds its files now.
        """
        if self.cells.place is not None:
            root = os.open(self.workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            return Workspace(root, self.cells.place.uid, self.id)
        if self.cells.workspace < 0:
            raise ContextUnreachable(
                f"nothing holds the files of sandbox {self.id} now: restart a context in it",
                sandbox_id=self.id,
            )
        return Workspace(os.dup(self.cells.workspace), self.cells.uid, self.id)

    def usage(self) -> WorkspaceUsage | None:
        """Measures what its workspace holds; None where that is not known."""
        if self.cells.place is not None or self.cells.workspace < 0:
            return None
        found = os.fstatvfs(self.cells.workspace)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        return WorkspaceUsage(used, found.f_files - found.f_ffree)


class Sandboxes:
    """All sandboxes of a host."""

    def __init__(self, folder: Path, ids: IdMaker, cells: Cells, config: Config) -> None:
        """Starts without any.

        Args:
            folder: Where their workspaces go, if cells have none.
            ids: Makes their ids.
            cells: Where their contexts live.
            config: How much is remembered of those that are gone.
        """
        self._folder = folder
        self._cells = cells
        self._ids = ids
        self._numbers = itertools.count(1)
        self._sandboxes: dict[str, Sandbox] = {}
        self.graves = Graves(config.deleted_ids, config.deleted_ids_s)
        """Those that are gone."""
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)  # where others can reach it at all, they don't see what is in it

    @property
    def all(self) -> Iterable[Sandbox]:
        """All sandboxes, in the order of their creation."""
        return self._sandboxes.values()

    def find(self, sandbox_id: str) -> Sandbox | None:
        """Returns a sandbox, if there is one of that id."""
        return self._sandboxes.get(sandbox_id)

    def get(self, sandbox_id: str) -> Sandbox:
        """Returns a sandbox.

        Raises:
            InvalidArgument: The id is empty.
            NotFound: There is none; `SandboxDestroyed` and `ContextLost` say more.
        """
        if not sandbox_id:
            raise InvalidArgument(
                FieldViolation("sandbox_id", "is empty: give the id of a sandbox")
            )
        if sandbox := self._sandboxes.get(sandbox_id):
            return sandbox
        raise self.not_found(sandbox_id)

    def not_found(self, sandbox_id: str) -> NotFound:
        """Returns the error that says why there is no such sandbox."""
        if grave := self.graves.find(sandbox_id):
            return SandboxDestroyed(
                f"sandbox {sandbox_id} {grave.words} at {grave.time_text}",
                sandbox_id=sandbox_id,
                delete_time=grave.time_text,
                cause=grave.cause,
            )
        if self._ids.is_lost(sandbox_id, "s"):
            return ContextLost(
                f"sandbox {sandbox_id} went with an earlier life of this server",
                sandbox_id=sandbox_id,
            )
        return SandboxNotFound(
            f"there is no sandbox {sandbox_id[:100]!r}; create one", sandbox_id=sandbox_id[:100]
        )

    def enter(self, sandbox_id: str, limits: Limits, network: Network) -> Sandbox:
        """Takes note that a context will live in a sandbox; `leave` is its counterpart.

        Args:
            sandbox_id: Which; empty makes a private one.
            limits: What a private one may use.
            network: What a private one may reach.

        Raises:
            NotFound: There is none, or it is being destroyed.
            CellError: A private one could not be made.
            OSError: Its folder could not be made.
        """
        if sandbox_id:
            sandbox = self.get(sandbox_id)
            if sandbox.closing:
                raise SandboxNotFound(
                    f"sandbox {sandbox_id} is being destroyed; create one", sandbox_id=sandbox_id
                )
        else:
            sandbox = self._make(SandboxOptions(limits.of_sandbox(), network), private=True)
            self._add(sandbox)
        sandbox.contexts += 1
        return sandbox

    async def create(self, options: SandboxOptions) -> Sandbox:
        """Makes a sandbox that stays without contexts.

        A caller that is cancelled leaves nothing behind.

        Raises:
            CellError: It could not be made.
            OSError: Its folder could not be made.
        """
        sandbox = self._make(options, private=False)
        if self._cells.full:
            await self.hold(sandbox)
        self._add(sandbox)
        return sandbox

    def _add(self, sandbox: Sandbox) -> None:
        sandbox.number = next(self._numbers)
        self._sandboxes[sandbox.id] = sandbox

    async def hold(self, sandbox: Sandbox) -> None:
        """Gives a sandbox a cell that keeps it, unless it is being removed.

        Raises:
            CellError: None could be made.
        """
        async with sandbox.cells.lock:
            if not sandbox.closing:
                sandbox.holder.move_in((await sandbox.cells.grow()).first)

    def _make(self, options: SandboxOptions, *, private: bool) -> Sandbox:
        id_ = self._ids.make("s")
        spec, place = self._cells.default, None
        if self._cells.full:
            spec = replace(
                spec,
                workspace_bytes=options.limits.workspace_bytes,
                workspace_inodes=options.limits.workspace_inodes,
                host_network=options.network is Network.HOST,
            )
        else:
            place = self._make_place(self._folder / id_, options)
        return Sandbox(id_, options, CellGroup(self._cells, spec, place), private=private)

    def _make_place(self, folder: Path, options: SandboxOptions) -> Place:
        try:
            uid = self._cells.users.take()
        except NoUserError as error:
            raise CellError(str(error)) from error
        place = Place(str(folder), uid, host_network=options.network is Network.HOST)
        try:
            make_folder(place)
        except OSError:
            self._cells.users.release(uid)
            raise
        return place

    async def leave(self, sandbox: Sandbox) -> None:
        """Takes note that a context is gone; with its last one a private sandbox is removed.

        Raises:
            OSError: Its files can't be removed. The context counts as living here still.
        """
        if sandbox.contexts == 1 and sandbox.private:
            await self.remove(sandbox, cause="removed with its last context")
        sandbox.contexts -= 1

    async def remove(self, sandbox: Sandbox, *, cause: str) -> None:
        """Removes a sandbox whose contexts are gone, and its files.

        Args:
            sandbox: Which. From now on no more contexts come, even if this fails.
            cause: What is remembered of it.

        Raises:
            OSError: Its files can't be removed.
        """
        sandbox.closing = True
        await sandbox.files.close()
        async with sandbox.cells.lock:  # a cell may be on its way to it
            sandbox.holder.leave()
            if sandbox.holder.cell is not None:
                await asyncio.shield(sandbox.holder.cell.gone)
        if (place := sandbox.cells.place) is not None:
            await remove_folder(place)
            self._cells.users.release(place.uid)
        self._sandboxes.pop(sandbox.id, None)
        self.graves.add(sandbox.id, cause=cause, owes_ok=False)

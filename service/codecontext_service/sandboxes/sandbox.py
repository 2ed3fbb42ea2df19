"""Sandboxes: each has a workspace, which goes with its last context."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

from codecontext_service.domain.errors import SandboxNotFound
from codecontext_service.domain.ids import IdMaker
from codecontext_service.domain.limits import Limits
from codecontext_service.processes.cells import CellGroup, Cells
from codecontext_service.workers.jail import WORKSPACE


class Sandbox:
    """What contexts live in; they share its workspace."""

    def __init__(self, id_: str, cells: CellGroup, folder: Path | None) -> None:
        """Knows a sandbox.

        Args:
            id_: Its id.
            cells: Its cells.
            folder: Where its workspace is, if its cells have none.
        """
        self.id = id_
        self.cells = cells
        self.folder = folder
        self.workspace = Path(WORKSPACE) if folder is None else folder / "workspace"
        """The workspace as code sees it."""
        self.contexts = 0
        """How many contexts live in it, those that are being created and deleted included."""


class Sandboxes:
    """All sandboxes of a host."""

    def __init__(self, folder: Path, ids: IdMaker, cells: Cells) -> None:
        """Starts without any.

        Args:
            folder: Where their workspaces go, if cells have none.
            ids: Makes their ids.
            cells: Where their contexts live.
        """
        self._folder = folder
        self._cells = cells
        self._ids = ids
        self._sandboxes: dict[str, Sandbox] = {}
        folder.mkdir(mode=0o700, exist_ok=True)

    def enter(self, sandbox_id: str, limits: Limits) -> Sandbox:
        """Takes note that a context will live in a sandbox; `leave` is its counterpart.

        Args:
            sandbox_id: Which; empty makes a private one.
            limits: What a private one may use.

        Raises:
            SandboxNotFound: There is none.
        """
        if sandbox_id:
            sandbox = self._sandboxes.get(sandbox_id)
            if sandbox is None:
                raise SandboxNotFound(
                    f"there is no sandbox {sandbox_id}; create one", sandbox_id=sandbox_id
                )
        else:
            sandbox = self._make(limits)
        sandbox.contexts += 1
        return sandbox

    def _make(self, limits: Limits) -> Sandbox:
        id_ = self._ids.make("s")
        spec, folder = self._cells.default, None
        if self._cells.full:
            spec = replace(
                spec,
                workspace_bytes=limits.workspace_bytes,
                workspace_inodes=limits.workspace_inodes,
            )
        else:
            folder = self._folder / id_
        sandbox = self._sandboxes[id_] = Sandbox(id_, CellGroup(self._cells, spec), folder)
        if folder is not None:
            sandbox.workspace.mkdir(parents=True, mode=0o700)
        return sandbox

    async def leave(self, sandbox: Sandbox) -> None:
        """Takes note that a context is gone; with the last one its files are removed.

        Raises:
            OSError: They can't be removed. The context counts as living here still.
        """
        if sandbox.contexts == 1:
            del self._sandboxes[sandbox.id]
            try:
                if sandbox.folder is not None and not _remove_empty(sandbox.folder):
                    await asyncio.to_thread(_remove, sandbox.folder)
            except OSError:
                self._sandboxes[sandbox.id] = sandbox
                raise
        sandbox.contexts -= 1


def _remove_empty(folder: Path) -> bool:
    """Removes a sandbox's folder if nothing was ever written, which a thread would only slow down."""
    try:
        (folder / "workspace").rmdir()
        folder.rmdir()
    except OSError:
        return False
    return True


def _remove(folder: Path) -> None:
    """Removes a folder, whatever its permissions were made to be."""
    shutil.rmtree(folder, onerror=lambda function, path, error: _insist(folder, path))


def _insist(folder: Path, path: str) -> None:
    parent = Path(path).parent
    if folder in parent.parents or parent == folder:
        parent.chmod(0o700)
    target = Path(path)
    if target.is_dir() and not target.is_symlink():
        target.chmod(0o700)
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)

"""Who uses the files of a sandbox: in threads, and gone before the sandbox is."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from codecontext_service.domain.errors import SandboxNotFound

from .workspace import Workspace

_ResultT = TypeVar("_ResultT")


class Session:
    """One call's use of a workspace. What it holds open would keep the sandbox's memory."""

    def __init__(self, workspace: Workspace, threads: ThreadPoolExecutor) -> None:
        """Takes over the workspace's descriptor.

        Args:
            workspace: Of which sandbox.
            threads: Where its operations are done.
        """
        self.workspace = workspace
        self.resources = contextlib.ExitStack()
        """Closes what its operations have opened."""
        self.resources.callback(os.close, workspace.root)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the sandbox is being removed, or the session has ended by itself."""
        self._threads = threads
        self._at_work: asyncio.Future[Any] | None = None

    async def do(self, operation: Callable[[], _ResultT]) -> _ResultT:
        """Does something that blocks, in a thread; one thing at a time.

        Raises:
            SandboxNotFound: The sandbox is being removed.
            ServiceError: What the operation raises.
        """
        self.check()
        work = asyncio.get_running_loop().run_in_executor(self._threads, operation)
        self._at_work = work
        return await asyncio.shield(work)

    def check(self) -> None:
        """Checks that the sandbox is still there.

        Raises:
            SandboxNotFound: It is being removed.
        """
        if self.ended.done():
            id_ = self.workspace.sandbox_id
            raise SandboxNotFound(f"sandbox {id_} is being destroyed", sandbox_id=id_)

    async def close(self) -> None:
        """Closes all that it has open, once what is at work is done. May be repeated."""
        if not self.ended.done():
            self.ended.set_result(None)
        if self._at_work is not None:
            await asyncio.wait([self._at_work])
            self._at_work.cancelled() or self._at_work.exception()  # who waited for it was told
        self.resources.close()


class Sessions:
    """Everybody who uses the files of one sandbox."""

    def __init__(self) -> None:
        """Starts with nobody."""
        self._open: set[Session] = set()
        self._closed = False

    @contextlib.asynccontextmanager
    async def open(
        self, workspace: Workspace, threads: ThreadPoolExecutor
    ) -> AsyncIterator[Session]:
        """Uses the files for a while.

        Args:
            workspace: The sandbox's, whose descriptor is taken over.
            threads: Where operations are done.

        Raises:
            SandboxNotFound: The sandbox is being removed.
        """
        session = Session(workspace, threads)
        self._open.add(session)
        try:
            if self._closed:
                session.ended.set_result(None)
            session.check()
            yield session
        finally:
            closing = asyncio.ensure_future(session.close())
            closing.add_done_callback(lambda closed: self._open.discard(session))
            await asyncio.shield(closing)

    async def close(self) -> None:
        """Ends everybody's use, and returns once nothing is open."""
        self._closed = True
        if self._open:
            await asyncio.gather(*(session.close() for session in self._open))

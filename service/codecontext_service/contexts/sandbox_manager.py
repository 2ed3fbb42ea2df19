"""Sandboxes with all that lives in them: how they are created, expire, and are destroyed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable

from codecontext_service.config import Config
from codecontext_service.domain.errors import (
    ContextUnreachable,
    QuotaExceeded,
    RuntimeUnavailable,
    SandboxExecuting,
    SandboxNotFound,
    ServiceError,
)
from codecontext_service.processes.cells import CellError
from codecontext_service.sandboxes.sandbox import Sandbox, Sandboxes, SandboxOptions

from .background import Background, wait_while_some_end
from .context import Context
from .deletions import Deletion
from .manager import ContextManager
from .options import State

logger = logging.getLogger(__name__)

_RETRY_S = 1.0


class SandboxManager:
    """All sandboxes of a host. Its methods raise the errors of `domain.errors`, as their docs say."""

    def __init__(self, config: Config, contexts: ContextManager, sandboxes: Sandboxes) -> None:
        """Starts without any.

        Args:
            config: The server's options.
            contexts: What lives in them.
            sandboxes: Where they are.
        """
        self._config = config
        self._contexts = contexts
        self._sandboxes = sandboxes
        self._creating = 0
        self._deletions: dict[str, Deletion] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._background = Background()

    # Finding

    def get(self, sandbox_id: str) -> Sandbox:
        """Returns a sandbox.

        Raises:
            InvalidArgument: The id is empty.
            NotFound: There is none; `SandboxDestroyed` and `ContextLost` say more.
        """
        return self._sandboxes.get(sandbox_id)

    def get_usable(self, sandbox_id: str) -> Sandbox:
        """Returns a sandbox whose files can be used.

        Raises:
            ServerStarting: It is too early.
            ServerDraining: It is too late.
            InvalidArgument: The id is empty.
            NotFound: There is none, or it is being destroyed.
        """
        self._contexts.check_open()
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox.closing:
            raise SandboxNotFound(f"sandbox {sandbox_id} is being destroyed", sandbox_id=sandbox_id)
        return sandbox

    def find(self, sandbox_id: str) -> Sandbox | None:
        """Returns a sandbox, if there is one of that id."""
        return self._sandboxes.find(sandbox_id)

    def page(
        self, *, after: int, limit: int, matches: Callable[[Sandbox], bool]
    ) -> tuple[list[Sandbox], int | None]:
        """Returns a page of sandboxes, in the order of their creation.

        Args:
            after: The number of the last sandbox of the page before; 0 for the first page.
            limit: How many at most.
            matches: Chooses sandboxes.

        Returns:
            The sandboxes, and the number after which the next page begins; None if this is the last.
        """
        chosen = (s for s in self._sandboxes.all if s.number > after and matches(s))
        page = list(itertools.islice(chosen, limit + 1))
        return (page[:limit], page[limit - 1].number) if len(page) > limit else (page, None)

    def contexts_in(self, sandbox: Sandbox) -> list[Context]:
        """Returns the contexts that live in a sandbox, in the order of their creation."""
        return [each for each in self._contexts.registry.all if each.sandbox is sandbox]

    def contexts_by_sandbox(self) -> dict[str, list[Context]]:
        """Returns the contexts of every sandbox that has any, by its id."""
        found: dict[str, list[Context]] = {}
        for each in self._contexts.registry.all:
            found.setdefault(each.sandbox.id, []).append(each)
        return found

    # Creating

    async def create(self, options: SandboxOptions) -> Sandbox:
        """Makes a sandbox that lives until it is destroyed or expires.

        A caller that is cancelled leaves nothing behind.

        Raises:
            ServerStarting: It is too early.
            ServerDraining: It is too late.
            QuotaExceeded: There are too many sandboxes.
            RuntimeUnavailable: It could not be made.
        """
        self._contexts.check_open()
        count = self._creating + sum(not each.private for each in self._sandboxes.all)
        if count >= self._config.max_sandboxes:
            raise QuotaExceeded(
                f"there are {count} sandboxes; destroy one or retry later",
                quota="max_sandboxes",
                limit=self._config.max_sandboxes,
                subject="sandboxes",
            )
        self._creating += 1
        try:
            async with asyncio.timeout(self._config.create_deadline_s):
                sandbox = await self._sandboxes.create(options)
        except (CellError, OSError, TimeoutError) as error:
            why = str(error) or "it took too long"
            raise RuntimeUnavailable(f"no sandbox could be made: {why}") from error
        finally:
            self._creating -= 1
        self._watch(sandbox)
        if options.ttl_s:
            sandbox.expire_time = sandbox.create_time + options.ttl_s
            self._timers[sandbox.id] = asyncio.get_running_loop().call_later(
                options.ttl_s, lambda: self._begin_deletion(sandbox, cause="expired")
            )
        if self._contexts.phase == "draining":
            self._begin_deletion(sandbox, cause="destroyed")
            self._contexts.check_open()
        logger.info("sandbox created", extra={"sandbox_id": sandbox.id})
        return sandbox

    def _watch(self, sandbox: Sandbox) -> None:
        """Has a sandbox's cell replaced when it ends unasked."""
        if (cell := sandbox.holder.cell) is not None:
            cell.gone.add_done_callback(lambda gone: self._on_unheld(sandbox))

    def _on_unheld(self, sandbox: Sandbox) -> None:
        if not sandbox.closing:
            self._background.start(self._hold_again(sandbox))

    async def _hold_again(self, sandbox: Sandbox) -> None:
        while sandbox.cells.inhabited and not sandbox.closing:
            try:
                await self._sandboxes.hold(sandbox)
            except CellError as error:
                logger.warning("a sandbox can't be held: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                self._watch(sandbox)
                return
        if not sandbox.closing:  # its files went with its last cell
            self._begin_deletion(sandbox, cause="lost")

    # Destroying

    async def destroy(
        self, sandbox_id: str, *, force: bool, deadline_s: float | None = None
    ) -> None:
        """Deletes all contexts of a sandbox, and its files; returns once all is gone.

        Args:
            sandbox_id: Which.
            force: Whether to end what runs in it.
            deadline_s: How long the caller can wait at most, in seconds.

        Raises:
            InvalidArgument: The id is empty.
            NotFound: There is no such sandbox.
            SandboxExecuting: Code runs in it or is queued, and `force` is not set.
            ContextUnreachable: It can't be ended now; that goes on by itself.
        """
        limit = self._config.delete_deadline_s
        deadline_s = min(limit, deadline_s if deadline_s is not None else limit)
        deadline = asyncio.get_running_loop().time() + deadline_s
        if self._sandboxes.graves.claim_ok(sandbox_id):
            return
        sandbox = self.get(sandbox_id)
        began_it = False
        if sandbox.id not in self._deletions:
            # What does not settle in time is deleted once it does, without this caller.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._settled(sandbox)
        if sandbox.id not in self._deletions:
            self.get(sandbox_id)  # it may have gone meanwhile
            if not force:
                self._check_idle(sandbox)
            began_it = True
            self._begin_deletion(sandbox, cause="destroyed")
        left_s = deadline - asyncio.get_running_loop().time()
        if not await self._deletions[sandbox.id].wait(left_s, began_it=began_it):
            raise self._unreachable(sandbox)
        if not began_it and not self._sandboxes.graves.claim_ok(sandbox_id):
            raise self._sandboxes.not_found(sandbox_id)

    async def _settled(self, sandbox: Sandbox) -> None:
        """Waits for starts and restarts that are under way in it."""
        while sandbox.id not in self._deletions:
            starting = [
                each
                for each in self.contexts_in(sandbox)
                if each.state is State.STARTING and each.lifecycle.locked()
            ]
            if not starting:
                return
            await self._contexts.deletions.settled(starting[0])

    def _check_idle(self, sandbox: Sandbox) -> None:
        for context in self.contexts_in(sandbox):
            # What is being deleted has been forced already.
            if context.state is not State.DELETING and (busy := context.busy) is not None:
                raise SandboxExecuting(
                    f"context {context.id} in sandbox {sandbox.id} runs execution {busy.id}; "
                    "wait, interrupt it, or set force",
                    sandbox_id=sandbox.id,
                    context_id=context.id,
                    execution_id=busy.id,
                )

    def _unreachable(self, sandbox: Sandbox) -> ContextUnreachable:
        return ContextUnreachable(
            f"sandbox {sandbox.id} can't be ended now; it goes on by itself, retry",
            sandbox_id=sandbox.id,
        )

    def _begin_deletion(self, sandbox: Sandbox, *, cause: str) -> None:
        if sandbox.id in self._deletions:
            return
        sandbox.closing = True
        if timer := self._timers.pop(sandbox.id, None):
            timer.cancel()
        of_contexts = "deleted" if cause == "destroyed" else cause
        tasks = [
            self._contexts.deletions.begin(each, cause=of_contexts)
            for each in self.contexts_in(sandbox)
        ]
        self._deletions[sandbox.id] = Deletion(
            self._background.start(self._delete(sandbox, cause, tasks))
        )

    async def _delete(
        self, sandbox: Sandbox, cause: str, contexts: list[asyncio.Task[None]]
    ) -> None:
        try:
            if contexts:
                await asyncio.wait(contexts)
            for each in contexts:
                each.result()
            await self._sandboxes.remove(sandbox, cause=cause)
        except (OSError, ServiceError) as error:
            logger.error("a sandbox can't be removed: %s", error)
            raise self._unreachable(sandbox) from error
        finally:
            deletion = self._deletions.pop(sandbox.id)
            if deletion.owes_ok and (grave := self._sandboxes.graves.find(sandbox.id)):
                grave.owes_ok = True
        logger.info("sandbox destroyed", extra={"sandbox_id": sandbox.id, "cause": cause})

    # The end

    async def drain(self) -> bool:
        """Destroys what is left of sandboxes once their contexts were drained.

        Returns:
            Whether everything is gone.
        """
        left = [each for each in self._sandboxes.all if not each.private]
        for sandbox in left:
            self._begin_deletion(sandbox, cause="destroyed")
        deletions = (deletion.task for deletion in self._deletions.values())
        await wait_while_some_end(deletions, self._config.delete_deadline_s)
        return not any(True for _ in self._sandboxes.all)

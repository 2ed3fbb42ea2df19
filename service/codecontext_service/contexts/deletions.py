"""Deletes: they go on without their callers, and each of these is told the truth."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from codecontext_service.domain.errors import ContextExecuting, ContextUnreachable
from codecontext_service.executions.execution import StopCause
from codecontext_service.processes.right_of_way import RightOfWay
from codecontext_service.sandboxes.sandbox import Sandboxes

from .background import Background, wait_while_some_end
from .context import Context
from .expiry import Expiries
from .options import State
from .registry import Registry

logger = logging.getLogger(__name__)


class Deletion:
    """A delete that is under way."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        """Knows the task that does it, which succeeds once all is gone."""
        self.task = task
        self.owes_ok = False
        """Whether the caller who began it was not told of its success: somebody has an OK to get."""

    async def wait(self, timeout_s: float, *, began_it: bool) -> bool:
        """Waits for the end.

        Args:
            timeout_s: How long, in seconds.
            began_it: Whether the caller is the one who began the delete.

        Returns:
            Whether it has ended.

        Raises:
            ServiceError: It has failed.
        """
        try:
            await asyncio.wait([self.task], timeout=max(0.0, timeout_s))
        finally:
            if began_it and not self.task.done():
                self.owes_ok = True
        if self.task.done():
            self.task.result()
        return self.task.done()


class Deletions:
    """The deletes of a host's contexts."""

    def __init__(
        self,
        registry: Registry,
        sandboxes: Sandboxes,
        deadline_s: float,
        right_of_way: RightOfWay,
    ) -> None:
        """Starts without any.

        Args:
            registry: The contexts.
            sandboxes: Where they live.
            deadline_s: How long the caller of a delete waits at most, in seconds.
            right_of_way: What deletes have.
        """
        self._registry = registry
        self._sandboxes = sandboxes
        self._deadline_s = deadline_s
        self._right_of_way = right_of_way
        self._deletions: dict[str, Deletion] = {}
        self._background = Background()
        self.expiries = Expiries(lambda context: self.begin(context, cause="expired"))
        """When contexts are deleted unasked."""

    async def delete(
        self, context_id: str, *, force: bool, deadline_s: float | None = None
    ) -> None:
        """Deletes a context; returns once everything that it held is gone.

        Args:
            context_id: Which.
            force: Whether to end what runs in it.
            deadline_s: How long the caller can wait at most, in seconds.

        Raises:
            InvalidContextId: The id is empty.
            NotFound: There is no such context.
            ContextExecuting: Code runs in it or is queued, and `force` is not set.
            ContextUnreachable: It can't be ended now; the delete goes on by itself.
        """
        limit = self._deadline_s
        deadline = time.monotonic() + min(limit, deadline_s if deadline_s is not None else limit)
        if self._registry.graves.claim_ok(context_id):
            return
        context = self._registry.get(context_id)
        began_it = False
        if context.id not in self._deletions:
            # What does not settle in time is deleted once it does, without this caller.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(_loop_time(deadline)):
                    await self.settled(context)
        if context.id not in self._deletions:
            if context.id not in self._registry:
                raise self._registry.not_found(context_id)
            if (busy := context.busy) is not None and not force:
                raise ContextExecuting(
                    f"context {context.id} runs execution {busy.id}; wait, interrupt it, or set force",
                    context_id=context.id,
                    execution_id=busy.id,
                )
            began_it = True
            self.begin(context, cause="deleted")
        deletion = self._deletions[context.id]
        if not await deletion.wait(deadline - time.monotonic(), began_it=began_it):
            raise self._unreachable(context)
        if not began_it and not self._registry.graves.claim_ok(context_id):
            raise self._registry.not_found(context_id)

    def owe_ok(self, context_id: str) -> None:
        """Takes note that a caller of a delete under way was not told of its end: the next one will be."""
        if deletion := self._deletions.get(context_id):
            deletion.owes_ok = True

    def claim_ok(self, context_id: str) -> bool:
        """Returns whether a delete that has ended owes an OK, which is given with this."""
        return self._registry.graves.claim_ok(context_id)

    async def settled(self, context: Context) -> None:
        """Waits for a start or restart of a context that is under way."""
        while context.lifecycle.locked() and context.id not in self._deletions:
            async with context.lifecycle:
                pass

    def _unreachable(self, context: Context) -> ContextUnreachable:
        return ContextUnreachable(
            f"the processes of context {context.id} can't be ended now; it goes on by itself, retry",
            context_id=context.id,
        )

    def begin(
        self, context: Context, *, cause: str, stop: StopCause = StopCause.DELETE
    ) -> asyncio.Task[None]:
        """Begins to delete a context, unless that is under way.

        Args:
            context: Which.
            cause: What is remembered of it.
            stop: Why its running execution ends.

        Returns:
            The task that deletes it, which succeeds once all is gone. It must not be cancelled.
        """
        if context.id in self._deletions:
            return self._deletions[context.id].task
        context.state = State.DELETING
        self.expiries.cancel(context)
        context.end_queue("the context was deleted")
        task = self._background.start(self._delete(context, cause, stop))
        self._deletions[context.id] = Deletion(task)
        return task

    async def _delete(self, context: Context, cause: str, stop: StopCause) -> None:
        async with context.lifecycle:
            with self._right_of_way.claim():
                await context.end_interpreter(stop, keep_cell=False)
            try:
                await self._sandboxes.leave(context.sandbox)
            except OSError as error:
                del self._deletions[context.id]
                context.state = State.FAILED
                context.fail(f"its files can't be removed: {error.strerror}")
                logger.error(
                    "files can't be removed", extra={"context_id": context.id, "errno": error.errno}
                )
                raise self._unreachable(context) from error
        deletion = self._deletions.pop(context.id)
        self._registry.bury(context, cause=cause, owes_ok=deletion.owes_ok)
        logger.info("context deleted", extra={"context_id": context.id, "cause": cause})

    async def wait(self, context: Context, *, began_it: bool) -> None:
        """Waits for the delete of a context that is under way, for a limited time.

        Args:
            context: Which.
            began_it: Whether the caller has an OK to get for it.

        Raises:
            ContextUnreachable: It has failed.
        """
        await self._deletions[context.id].wait(self._deadline_s, began_it=began_it)

    async def end_all(self, stop: StopCause) -> bool:
        """Deletes all contexts; gives up when none has ended for a while.

        Args:
            stop: Why their running executions end.

        Returns:
            Whether everything is gone.
        """
        for context in list(self._registry.all):
            self.begin(context, cause="deleted", stop=stop)
        deletions = (deletion.task for deletion in self._deletions.values())
        await wait_while_some_end(deletions, self._deadline_s)
        return not len(self._registry)


def _loop_time(monotonic: float) -> float:
    return asyncio.get_running_loop().time() + monotonic - time.monotonic()

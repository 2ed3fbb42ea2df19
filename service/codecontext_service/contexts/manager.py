"""All contexts of a host: how they are created, found, listed, used, expired and deleted."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from codecontext_service.config import Config
from codecontext_service.domain.errors import (
    ContextDeleted,
    ContextExecuting,
    ContextLost,
    ContextUnreachable,
    ExecutionNotFound,
    InvalidContextId,
    NotFound,
    QuotaExceeded,
    ServerDraining,
    ServerStarting,
)
from codecontext_service.domain.graves import Graves
from codecontext_service.domain.ids import IdMaker
from codecontext_service.domain.limits import NO_LIMITS, Limits
from codecontext_service.domain.network import Network
from codecontext_service.domain.questions import AnswerT, Question
from codecontext_service.executions.execution import Execution, RunRequest, StopCause
from codecontext_service.executions.store import ExecutionStore
from codecontext_service.runtimes.base import Runtime
from codecontext_service.sandboxes.sandbox import Sandbox, Sandboxes

from .context import Context, ContextLimits, ContextOptions, State
from .deletion import Deletion
from .expiry import Expiries
from .idempotency import FirstAnswers
from .provision import provide

logger = logging.getLogger(__name__)

_ANSWER_S = 5.0
"""How long an interpreter may work on a question at most."""


@dataclass(frozen=True)
class CreateRequest:
    """What a new context should be. Times are in seconds; 0 means never."""

    runtime: Runtime
    cwd: str = ""
    """Empty means the sandbox's workspace."""
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    sandbox_id: str = ""
    """Empty means a private one."""
    idle_timeout_s: float = 0.0
    ttl_s: float = 0.0
    limits: Limits = NO_LIMITS
    network: Network = Network.NONE
    """What a private sandbox may reach."""


class ContextManager:
    """All contexts of a host. Its methods raise the errors of `domain.errors`, as their docs say."""

    def __init__(self, config: Config, ids: IdMaker, sandboxes: Sandboxes) -> None:
        """Starts without contexts.

        Args:
            config: The server's options.
            ids: Makes the ids.
            sandboxes: Where contexts live.
        """
        self.config = config
        self.executions = ExecutionStore(config)
        self.answers = FirstAnswers(config)
        self.phase = "starting"
        """`starting`, `serving` or `draining`."""
        self._ids = ids
        self._sandboxes = sandboxes
        self._numbers = itertools.count(1)
        self._contexts: dict[str, Context] = {}
        self._deletions: dict[str, Deletion] = {}
        self._graves = Graves(config.deleted_ids, config.deleted_ids_s)
        self._expiries = Expiries(lambda context: self.begin_deletion(context, cause="expired"))
        self._limits = ContextLimits(config.max_queued_executions, config.interrupt_grace_s)
        self._background: set[asyncio.Task[object]] = set()

    # Finding

    @property
    def contexts(self) -> Iterable[Context]:
        """All contexts, in the order of their creation."""
        return self._contexts.values()

    @property
    def count(self) -> int:
        """How many contexts there are."""
        return len(self._contexts)

    def get(self, context_id: str) -> Context:
        """Returns a context.

        Raises:
            InvalidContextId: The id is empty.
            NotFound: There is none; `ContextDeleted` and `ContextLost` say more.
        """
        if not context_id:
            raise InvalidContextId
        context = self._contexts.get(context_id)
        if context is None:
            raise self._not_found(context_id)
        return context

    def _not_found(self, context_id: str) -> NotFound:
        if grave := self._graves.find(context_id):
            return ContextDeleted(
                f"context {context_id} was {grave.cause} at {grave.time_text}",
                context_id=context_id,
                delete_time=grave.time_text,
                cause=grave.cause,
            )
        if self._ids.is_lost(context_id, "c"):
            return ContextLost(
                f"context {context_id} went with an earlier life of this server",
                context_id=context_id,
            )
        return NotFound(f"there is no context {context_id[:100]!r}", context_id=context_id[:100])

    def list(
        self, *, after: int, limit: int, matches: Callable[[Context], bool]
    ) -> tuple[list[Context], int | None]:
        """Returns a page of contexts, in the order of their creation.

        Args:
            after: The number of the last context of the page before; 0 for the first page.
            limit: How many at most.
            matches: Chooses contexts.

        Returns:
            The contexts, and the number after which the next page begins; None if this is the last.
        """
        chosen = (c for c in self._contexts.values() if c.number > after and matches(c))
        page = list(itertools.islice(chosen, limit + 1))
        return (page[:limit], page[limit - 1].number) if len(page) > limit else (page, None)

    def check_open(self) -> None:
        """Checks that there may be new work.

        Raises:
            ServerStarting: It is too early.
            ServerDraining: It is too late.
        """
        if self.phase == "starting":
            raise ServerStarting("the server is starting; retry")
        if self.phase == "draining":
            raise ServerDraining("the server is stopping; retry on another one")

    # Creating

    async def create(self, request: CreateRequest) -> Context:
        """Makes a context that is ready to run.

        A caller that is cancelled leaves nothing behind.

        Raises:
            ServerStarting: It is too early.
            ServerDraining: It is too late.
            QuotaExceeded: There are too many contexts.
            NotFound: There is no such sandbox.
            InvalidArgument: The interpreter can't work in the directory.
            RuntimeUnavailable: No interpreter could be started.
        """
        self.check_open()
        if len(self._contexts) >= self.config.max_contexts:
            raise QuotaExceeded(
                f"there are {len(self._contexts)} contexts; delete one or retry later",
                quota="max_contexts",
                limit=self.config.max_contexts,
                subject="contexts",
            )
        sandbox = self._sandboxes.enter(request.sandbox_id, request.limits, request.network)
        context = self._make_context(request, sandbox)
        self._contexts[context.id] = context
        try:
            async with context.lifecycle:
                await self._give_interpreter(context)
        except BaseException as error:
            self.begin_deletion(context, cause="never created")
            if isinstance(error, Exception):  # else its caller does not wait any more
                await self._deletions[context.id].wait(
                    self.config.delete_deadline_s, began_it=False
                )
            raise
        logger.info(
            "context created",
            extra={
                "context_id": context.id,
                "runtime": request.runtime.config.name,
                "pid": context.pid,
            },
        )
        return context

    def _make_context(self, request: CreateRequest, sandbox: Sandbox) -> Context:
        cwd = request.cwd or str(sandbox.workspace)
        options = ContextOptions(
            request.runtime,
            cwd,
            dict(request.env),
            dict(request.labels),
            request.idle_timeout_s,
            request.ttl_s,
            request.limits,
        )
        return Context(
            self._ids.make("c"),
            next(self._numbers),
            sandbox,
            options=options,
            limits=self._limits,
            on_used=self._expiries.set,
        )

    async def _give_interpreter(self, context: Context) -> None:
        context.adopt(await provide(context, self.config.create_deadline_s))

    # Running

    def run(self, context_id: str, request: RunRequest) -> Execution:
        """Accepts a run. The caller must `attach` to the execution, or leave it detached.

        Raises:
            ServerDraining: The server takes no new runs.
            NotFound: There is no such context, or it is being deleted.
            ContextFailed: It has lost its state.
            QuotaExceeded: Too many runs wait in it.
        """
        self.check_open()
        context = self.get(context_id)
        execution = Execution(
            self._ids.make("e"),
            context.id,
            request,
            journal_bytes=self.config.journal_bytes,
            journal_events=self.config.journal_events,
            on_flow=lambda flowing: context.on_flow(execution, flowing),
            on_abandoned=context.on_abandoned,
        )
        context.submit(execution)
        self.executions.add(execution)
        return execution

    async def interrupt(self, context_id: str, execution_id: str) -> Execution | None:
        """Stops what runs in a context, or the given execution, and waits until it has stopped.

        Raises:
            NotFound: There is no such context.
            ExecutionNotFound: The execution is not one of this context's.
            ContextUnreachable: It did not stop.
        """
        context = self.get(context_id)
        return await context.interrupt(execution_id, lambda: self.executions.get(execution_id))

    def send_input(self, execution_id: str, sequence: int, text: str, *, end_of_file: bool) -> None:
        """Answers an execution's request for input.

        Raises:
            ExecutionNotFound: There is no such execution.
            InputNotRequested: It does not wait for this answer.
        """
        execution = self.executions.get(execution_id)
        context = self._contexts.get(execution.context_id)
        if context is None:
            raise ExecutionNotFound(
                f"execution {execution_id} has ended", execution_id=execution_id
            )
        context.send_input(execution, sequence, text, end_of_file=end_of_file)

    async def ask(
        self, context_id: str, question: Question[AnswerT], deadline_s: float | None
    ) -> AnswerT:
        """Asks an idle context about its names, without changing its state.

        Args:
            context_id: Which.
            question: What is asked.
            deadline_s: How long the caller can wait at most, in seconds.

        Raises:
            NotFound: There is no such context, or it is being deleted.
            ContextExecuting: Code runs in it or is queued.
            ContextFailed: It has lost its state.
            Unanswered: There is no answer.
            ContextUnreachable: It does not answer.
        """
        self.check_open()
        context = self.get(context_id)
        await self.settled(context)
        return await context.ask(question, min(_ANSWER_S, deadline_s or _ANSWER_S))

    async def restart(self, context_id: str) -> Context:
        """Gives a context a fresh interpreter.

        Raises:
            NotFound: There is no such context.
            ContextUnreachable: Its old interpreter can't be ended now.
            RuntimeUnavailable: No new interpreter could be started; the context is FAILED.
        """
        self.check_open()
        context = self.get(context_id)
        task = asyncio.create_task(self._restart(context))
        self._keep(task)
        return await asyncio.shield(task)  # half a restart would be worse than one nobody waits for

    async def _restart(self, context: Context) -> Context:
        async with context.lifecycle:
            if context.state is State.DELETING or context.id not in self._contexts:
                raise self._not_found(context.id)
            context.state = State.STARTING
            context.end_queue("the context was restarted")
            try:
                async with asyncio.timeout(self.config.delete_deadline_s):
                    await context.end_interpreter(StopCause.RESTART, keep_cell=True)
                await self._give_interpreter(context)
            except TimeoutError:
                context.fail("a restart could not end the old interpreter")
                raise ContextUnreachable(
                    f"the interpreter of context {context.id} can't be ended now; retry",
                    context_id=context.id,
                ) from None
            except Exception as error:
                context.fail(f"a restart failed: {error}")
                raise
        logger.info("context restarted", extra={"context_id": context.id, "pid": context.pid})
        return context

    # Deleting

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
        limit = self.config.delete_deadline_s
        deadline = time.monotonic() + min(limit, deadline_s if deadline_s is not None else limit)
        if self._graves.claim_ok(context_id):
            return
        context = self.get(context_id)
        began_it = False
        if context.id not in self._deletions:
            # What does not settle in time is deleted once it does, without this caller.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(_loop_time(deadline)):
                    await self.settled(context)
        if context.id not in self._deletions:
            if context.id not in self._contexts:
                raise self._not_found(context_id)
            if (busy := context.busy) is not None and not force:
                raise ContextExecuting(
                    f"context {context.id} runs execution {busy.id}; wait, interrupt it, or set force",
                    context_id=context.id,
                    execution_id=busy.id,
                )
            began_it = True
            self.begin_deletion(context, cause="deleted")
        deletion = self._deletions[context.id]
        if not await deletion.wait(deadline - time.monotonic(), began_it=began_it):
            raise self._unreachable(context)
        if not began_it and not self._graves.claim_ok(context_id):
            raise self._not_found(context_id)

    def owe_ok(self, context_id: str) -> None:
        """Takes note that a caller of a delete under way was not told of its end: the next one will be."""
        if deletion := self._deletions.get(context_id):
            deletion.owes_ok = True

    def claim_ok(self, context_id: str) -> bool:
        """Returns whether a delete that has ended owes an OK, which is given with this."""
        return self._graves.claim_ok(context_id)

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

    def begin_deletion(
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
        self._expiries.cancel(context)
        context.end_queue("the context was deleted")
        task = asyncio.create_task(self._delete(context, cause, stop))
        self._keep(task)
        self._deletions[context.id] = Deletion(task)
        return task

    async def _delete(self, context: Context, cause: str, stop: StopCause) -> None:
        async with context.lifecycle:
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
        del self._contexts[context.id]
        self._graves.add(context.id, cause=cause, owes_ok=deletion.owes_ok)
        logger.info("context deleted", extra={"context_id": context.id, "cause": cause})

    def _keep(self, task: asyncio.Task[object]) -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        # A failure is told to those who wait for it, and nobody may.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    # The end

    async def drain(self, grace_s: float, force: asyncio.Event) -> bool:
        """Takes no new work, gives running executions a time, then ends and removes everything.

        Args:
            grace_s: How long running executions may go on, in seconds.
            force: Ends the grace time early.

        Returns:
            Whether everything is gone.
        """
        self.phase = "draining"
        running = [
            e.done for c in self._contexts.values() for e in (c.current, *c.queue) if e is not None
        ]
        if running and not force.is_set():
            forced = asyncio.create_task(force.wait())
            either: list[asyncio.Future[Any]] = [asyncio.gather(*running), forced]
            await asyncio.wait(either, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
            forced.cancel()
        for context in list(self._contexts.values()):
            self.begin_deletion(context, cause="deleted", stop=StopCause.SHUTDOWN)
        tasks: list[asyncio.Task[None]] = [deletion.task for deletion in self._deletions.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=self.config.delete_deadline_s)
        return not self._contexts


def _loop_time(monotonic: float) -> float:
    return asyncio.get_running_loop().time() + monotonic - time.monotonic()

"""All contexts of a host: how they are created and used, and how they end with the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codecontext_service.config import Config
from codecontext_service.domain.errors import (
    ContextUnreachable,
    ExecutionNotFound,
    RuntimeUnavailable,
    ServerDraining,
    ServerStarting,
)
from codecontext_service.domain.ids import IdMaker
from codecontext_service.domain.limits import NO_LIMITS, Limits
from codecontext_service.domain.network import Network
from codecontext_service.domain.questions import AnswerT, Question
from codecontext_service.executions.execution import Execution, RunRequest, StopCause
from codecontext_service.executions.store import ExecutionStore
from codecontext_service.processes.cells import CellError
from codecontext_service.processes.right_of_way import RightOfWay
from codecontext_service.runtimes.base import Runtime
from codecontext_service.sandboxes.sandbox import Sandbox, Sandboxes

from .background import Background
from .context import Context
from .deletions import Deletions
from .forks import Fork, ForkRequest, Forks
from .idempotency import FirstAnswers
from .options import ContextLimits, ContextOptions, State
from .provision import provide
from .registry import Registry

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

    def __init__(
        self, config: Config, ids: IdMaker, sandboxes: Sandboxes, right_of_way: RightOfWay
    ) -> None:
        """Starts without contexts.

        Args:
            config: The server's options.
            ids: Makes the ids.
            sandboxes: Where contexts live.
            right_of_way: What creates, restarts, forks and deletes have.
        """
        self.config = config
        self.executions = ExecutionStore(config)
        self.answers = FirstAnswers(config)
        self.phase = "starting"
        """`starting`, `serving` or `draining`."""
        self.registry = Registry(config, ids)
        """Which contexts there are."""
        self.deletions = Deletions(self.registry, sandboxes, config.delete_deadline_s, right_of_way)
        """Their deletes."""
        self._ids = ids
        self._sandboxes = sandboxes
        self._right_of_way = right_of_way
        self._limits = ContextLimits(config.max_queued_executions, config.interrupt_grace_s)
        self._forks = Forks(
            self.registry, sandboxes, self.deletions, self._limits, config.create_deadline_s
        )
        self._background = Background()

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
            RuntimeUnavailable: No sandbox could be made, or no interpreter could be started.
        """
        self.check_open()
        self.registry.check_room()
        with self._right_of_way.claim():
            context = await self._create(request)
        logger.info(
            "context created",
            extra={
                "context_id": context.id,
                "runtime": request.runtime.config.name,
                "pid": context.pid,
            },
        )
        return context

    async def _create(self, request: CreateRequest) -> Context:
        try:
            sandbox = self._sandboxes.enter(request.sandbox_id, request.limits, request.network)
        except (CellError, OSError) as error:
            raise RuntimeUnavailable(f"no sandbox could be made: {error}") from error
        context = self._make_context(request, sandbox)
        self.registry.add(context)
        try:
            async with context.lifecycle:
                await self._give_interpreter(context)
        except BaseException as error:
            self.deletions.begin(context, cause="never created")
            if isinstance(error, Exception):  # else its caller does not wait any more
                await self.deletions.wait(context, began_it=False)
            raise
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
            *self.registry.new_name(),
            sandbox,
            options=options,
            limits=self._limits,
            on_used=self.deletions.expiries.set,
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
        context = self.registry.get(context_id)
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
        context = self.registry.get(context_id)
        return await context.interrupt(execution_id, lambda: self.executions.get(execution_id))

    def send_input(self, execution_id: str, sequence: int, text: str, *, end_of_file: bool) -> None:
        """Answers an execution's request for input.

        Raises:
            ExecutionNotFound: There is no such execution.
            InputNotRequested: It does not wait for this answer.
        """
        execution = self.executions.get(execution_id)
        context = self.registry.find(execution.context_id)
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
        context = self.registry.get(context_id)
        await self.deletions.settled(context)
        return await context.ask(question, min(_ANSWER_S, deadline_s or _ANSWER_S))

    async def restart(self, context_id: str) -> Context:
        """Gives a context a fresh interpreter.

        Raises:
            NotFound: There is no such context.
            ContextUnreachable: Its old interpreter can't be ended now.
            RuntimeUnavailable: No new interpreter could be started; the context is FAILED.
        """
        self.check_open()
        context = self.registry.get(context_id)
        # Half a restart would be worse than one that nobody waits for.
        return await asyncio.shield(self._background.start(self._restart(context)))

    async def _restart(self, context: Context) -> Context:
        async with context.lifecycle:
            if context.state is State.DELETING or context.id not in self.registry:
                raise self.registry.not_found(context.id)
            context.state = State.STARTING
            context.end_queue("the context was restarted")
            try:
                async with asyncio.timeout(self.config.delete_deadline_s):
                    await context.end_interpreter(StopCause.RESTART, keep_cell=True)
                with self._right_of_way.claim():
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

    async def fork(self, context_id: str, request: ForkRequest) -> Fork:
        """Makes copies of an idle context, see `Forks.fork`.

        Raises:
            ServerStarting: It is too early.
            ServerDraining: It is too late.
            NotFound: There is no such context.
            ServiceError: It can't be forked, as `Forks.fork` says.
        """
        self.check_open()
        context = self.registry.get(context_id)
        await self.deletions.settled(context)
        with self._right_of_way.claim():
            return await self._forks.fork(self.registry.get(context_id), request)

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
            e.done for c in self.registry.all for e in (c.current, *c.queue) if e is not None
        ]
        if running and not force.is_set():
            forced = asyncio.create_task(force.wait())
            either: list[asyncio.Future[Any]] = [asyncio.gather(*running), forced]
            await asyncio.wait(either, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
            forced.cancel()
        return await self.deletions.end_all(StopCause.SHUTDOWN)

"""Forks: contexts with a copy of all the state of an idle one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from codecontext_service.domain.errors import (
    ContextHasThreads,
    ContextUnreachable,
    ForkUnsupported,
    RuntimeUnavailable,
)
from codecontext_service.domain.limits import Limits
from codecontext_service.runtimes.base import (
    Copy,
    ForkingRuntime,
    Interpreter,
    InterpreterError,
    ThreadsError,
)
from codecontext_service.sandboxes.sandbox import Sandboxes

from .background import Background
from .context import Context
from .deletions import Deletions
from .options import ContextLimits
from .registry import Registry

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ForkRequest:
    """What copies of a context should be. Times are in seconds; 0 means never."""

    limits: Limits
    count: int
    labels: Mapping[str, str]
    idle_timeout_s: float
    ttl_s: float
    allow_threads: bool


class Fork(NamedTuple):
    """What came of a fork."""

    contexts: list[Context]
    lost_threads: Sequence[str]
    """The names of the parent's threads that they do not have."""


class Forks:
    """Forks the contexts of a host."""

    def __init__(
        self,
        registry: Registry,
        sandboxes: Sandboxes,
        deletions: Deletions,
        limits: ContextLimits,
        deadline_s: float,
    ) -> None:
        """Starts without any.

        Args:
            registry: The contexts.
            sandboxes: Where they live.
            deletions: Ends those that are not to be.
            limits: What the server allows a context.
            deadline_s: How long one copy may take, in seconds.
        """
        self._registry = registry
        self._sandboxes = sandboxes
        self._deletions = deletions
        self._limits = limits
        self._deadline_s = deadline_s
        self._background = Background()

    async def fork(self, parent: Context, request: ForkRequest) -> Fork:
        """Makes copies of an idle context: all that are asked for, or none.

        A caller that is cancelled leaves nothing behind.

        Raises:
            NotFound: The context, or its sandbox, is being deleted.
            ContextExecuting: Code runs in it or is queued.
            ContextFailed: It has lost its state.
            ContextHasThreads: It has threads that the copies would not have.
            ForkUnsupported: Its language can't be forked.
            QuotaExceeded: There would be too many contexts.
            ContextUnreachable: Its interpreter does not answer.
            RuntimeUnavailable: A copy could not be made, or did not get ready in time.
        """
        runtime = parent.options.runtime
        if not isinstance(runtime, ForkingRuntime):
            language = runtime.config.language
            raise ForkUnsupported(f"{language} contexts can't be forked", language=language)
        self._registry.check_room(request.count)
        # Half a fork would be worse than one that nobody waits for.
        forking = self._background.start(self._fork(parent, request, runtime))
        try:
            return await asyncio.shield(forking)
        except asyncio.CancelledError:
            forking.add_done_callback(self._on_unwanted)
            raise

    def _on_unwanted(self, forking: asyncio.Future[Fork]) -> None:
        if not forking.cancelled() and not forking.exception():
            for child in forking.result().contexts:
                self._deletions.begin(child, cause="never created")

    async def _fork(self, parent: Context, request: ForkRequest, runtime: ForkingRuntime) -> Fork:
        async with parent.lifecycle:  # a delete of it waits, and so does a restart
            parent.check_usable()
            self._registry.check_room(request.count)
            children: list[Context] = []
            lost: set[str] = set()
            try:
                async with contextlib.AsyncExitStack() as starting:
                    for _ in range(request.count):
                        children.append(self._make(parent, request))
                        await starting.enter_async_context(children[-1].lifecycle)
                    copies = await parent.fork(
                        lambda interpreter: self._copy(interpreter, children, request, runtime)
                    )
                    for child, copy in zip(children, copies, strict=True):
                        child.adopt(copy.interpreter, execution_count=parent.execution_count)
                        lost.update(copy.lost_threads)
            except BaseException as error:
                await self._discard(children)
                if isinstance(error, RuntimeUnavailable):
                    parent.check_usable()  # its own end says more
                raise
        for child in children:
            logger.info(
                "context forked",
                extra={"context_id": child.id, "parent_id": parent.id, "pid": child.pid},
            )
        return Fork(children, sorted(lost))

    def _make(self, parent: Context, request: ForkRequest) -> Context:
        options = replace(
            parent.options,
            labels=dict(request.labels),
            limits=request.limits,
            idle_timeout_s=request.idle_timeout_s,
            ttl_s=request.ttl_s,
        )
        sandbox = self._sandboxes.enter(
            parent.sandbox.id, request.limits, parent.sandbox.options.network
        )
        child = Context(
            *self._registry.new_name(),
            sandbox,
            options=options,
            limits=self._limits,
            on_used=self._deletions.expiries.set,
            parent_id=parent.id,
        )
        self._registry.add(child)
        return child

    async def _copy(
        self,
        interpreter: Interpreter,
        children: Sequence[Context],
        request: ForkRequest,
        runtime: ForkingRuntime,
    ) -> list[Copy]:
        copies: list[Copy] = []
        parent_id = children[0].parent_id
        try:
            for child in children:
                async with asyncio.timeout(self._deadline_s):
                    copies.append(
                        await runtime.copy(
                            interpreter,
                            child.home,
                            request.limits,
                            allow_threads=request.allow_threads,
                        )
                    )
        except BaseException as error:
            for copy in copies:
                copy.interpreter.kill()
                copy.interpreter.gone.add_done_callback(_closing(copy.interpreter))
            raise _told(error, parent_id) from error
        return copies

    async def _discard(self, children: Sequence[Context]) -> None:
        if ends := [self._deletions.begin(each, cause="never created") for each in children]:
            await asyncio.wait(
                ends, timeout=self._deadline_s
            )  # what takes longer goes on by itself


def _closing(interpreter: Interpreter) -> Callable[[asyncio.Future[None]], None]:
    return lambda gone: interpreter.close()


def _told(error: BaseException, context_id: str) -> BaseException:
    """Returns what the caller is told of a failure."""
    if isinstance(error, ThreadsError):
        return ContextHasThreads(
            f"context {context_id} can't be forked: {error}; end them, or set allow_threads",
            context_id=context_id,
            threads=",".join(error.threads),
        )
    if isinstance(error, TimeoutError):
        return ContextUnreachable(
            f"context {context_id} could not be forked: a copy did not get ready in time; retry",
            context_id=context_id,
        )
    if isinstance(error, InterpreterError):
        return RuntimeUnavailable(
            f"context {context_id} could not be forked: {error}", context_id=context_id
        )
    return error

"""The servicer of `CodeContextService`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from codecontext.v1 import code_context_pb2
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceServicer
from codecontext_service.config import Config
from codecontext_service.contexts.context import Context
from codecontext_service.contexts.manager import ContextManager, CreateRequest
from codecontext_service.contexts.sandbox_manager import SandboxManager
from codecontext_service.domain.errors import (
    ContextUnreachable,
    InvalidArgument,
)
from codecontext_service.runtimes.registry import Runtimes
from codecontext_service.sandboxes.sandbox import SandboxOptions

from . import conversion, paging
from .deadline import time_for_answer
from .errors import unary
from .executions import ExecutionCalls
from .forks import read_fork
from .host import HostInfo
from .limits import read_kept_limits
from .network import read_network
from .once import once
from .questions import QuestionCalls
from .unimplemented import refuse_missing
from .validation import Checks

_Call = grpc.aio.ServicerContext[Any, Any]


@refuse_missing
class CodeContextServicer(ExecutionCalls, QuestionCalls, CodeContextServiceServicer):
    """Turns calls into what the manager does, and back; see the proto for what each call promises."""

    def __init__(
        self,
        config: Config,
        manager: ContextManager,
        sandboxes: SandboxManager,
        runtimes: Runtimes,
        host: HostInfo,
    ) -> None:
        """Makes a servicer.

        Args:
            config: The server's options.
            manager: Does it all.
            sandboxes: Where contexts can live.
            runtimes: What contexts can be made from.
            host: What is known of the host.
        """
        self._config = config
        self._manager = manager
        self._sandboxes = sandboxes
        self.answers = manager.answers
        """What callers who ask again get."""
        self._runtimes = runtimes
        self._host = host

    def _message(self, context: Context) -> code_context_pb2.CodeContext:
        return conversion.code_context(
            context, self._host.isolation_of(context.sandbox), self._host.name
        )

    # Contexts

    @unary
    @once
    async def CreateCodeContext(  # noqa: D102
        self, request: pb.CreateCodeContextRequest, context: _Call
    ) -> pb.CreateCodeContextResponse:
        checks = Checks()
        sandbox = self._sandboxes.find(request.sandbox_id)
        options = SandboxOptions() if sandbox is None else sandbox.options
        limits = read_kept_limits(
            checks, request.resource_limits, self._config, self._host, options.limits
        )
        network = read_network(checks, request.network_policy, self._config, self._host)
        if sandbox is not None and request.network_policy and network is not options.network:
            checks.wrong(
                "network_policy", f"is {options.network.value} in this sandbox: leave it out"
            )
        if request.cwd and (not request.cwd.startswith("/") or "\0" in request.cwd):
            checks.wrong("cwd", "is not absolute: give a path that begins with '/'")
        env = checks.env("env_vars", request.env_vars)
        labels = checks.labels(request.labels)
        idle_timeout_s = checks.seconds(request, "idle_timeout", self._config.idle_timeout_s)
        ttl_s = checks.seconds(request, "ttl", self._config.ttl_s)
        try:
            runtime = self._runtimes.resolve(request.language, request.runtime)
        except InvalidArgument as error:
            raise checks.failure(*error.violations) from None
        checks.finish()
        created = await self._manager.create(
            CreateRequest(
                runtime,
                request.cwd,
                env,
                labels,
                request.sandbox_id,
                idle_timeout_s,
                ttl_s,
                limits,
                network,
            )
        )
        return pb.CreateCodeContextResponse(context=self._message(created))

    @unary
    async def GetCodeContext(  # noqa: D102
        self, request: pb.GetCodeContextRequest, context: _Call
    ) -> pb.GetCodeContextResponse:
        usage = await self._manager.registry.get(request.context_id).usage()
        message = self._message(
            self._manager.registry.get(request.context_id)
        )  # it may be gone by now
        if usage is not None:
            message.resource_usage.CopyFrom(conversion.resource_usage(usage))
        return pb.GetCodeContextResponse(context=message)

    @unary
    async def ListCodeContexts(  # noqa: D102
        self, request: pb.ListCodeContextsRequest, context: _Call
    ) -> pb.ListCodeContextsResponse:
        checks = Checks()
        limit = paging.page_size(checks, request.page_size)
        after = paging.read_token(checks, request, request.page_token)
        if request.state not in code_context_pb2.CodeContextState.values():
            checks.wrong("state", "is no known state")
        checks.finish()
        contexts, following = self._manager.registry.page(
            after=after, limit=limit, matches=self._filter(request)
        )
        return pb.ListCodeContextsResponse(
            contexts=[self._message(each) for each in contexts],
            next_page_token=paging.make_token(request, following),
        )

    def _filter(self, request: pb.ListCodeContextsRequest) -> Callable[[Context], bool]:
        runtime = self._runtimes.default_of(request.language) if request.language else None
        language = runtime.config.language if runtime else request.language
        state = code_context_pb2.CodeContextState.Name(request.state) if request.state else ""
        labels = dict(request.labels)

        def matches(context: Context) -> bool:
            return (
                (not language or context.options.runtime.config.language == language)
                and (not state or state == f"CODE_CONTEXT_STATE_{context.state.value}")
                and (not request.sandbox_id or context.sandbox.id == request.sandbox_id)
                and labels.items() <= context.options.labels.items()
            )

        return matches

    @unary
    @once
    async def RestartCodeContext(  # noqa: D102
        self, request: pb.RestartCodeContextRequest, context: _Call
    ) -> pb.RestartCodeContextResponse:
        restarted = await self._manager.restart(request.context_id)
        return pb.RestartCodeContextResponse(context=self._message(restarted))

    @unary
    @once
    async def ForkCodeContext(  # noqa: D102
        self, request: pb.ForkCodeContextRequest, context: _Call
    ) -> pb.ForkCodeContextResponse:
        parent = self._manager.registry.get(request.context_id)
        fork = await self._manager.fork(
            parent.id, read_fork(request, parent.options, self._config, self._host)
        )
        return pb.ForkCodeContextResponse(
            contexts=[self._message(each) for each in fork.contexts],
            lost_threads=fork.lost_threads,
        )

    @unary
    async def DeleteCodeContext(  # noqa: D102
        self, request: pb.DeleteCodeContextRequest, context: _Call
    ) -> pb.DeleteCodeContextResponse:
        try:
            # A call that is made again waits for the first one, and may have less time than that.
            async with asyncio.timeout(time_for_answer(context) if request.request_id else None):
                response = await self._delete(request, context)
        except (TimeoutError, asyncio.CancelledError) as error:
            if request.request_id:
                self._manager.deletions.owe_ok(request.context_id)
            if not isinstance(error, TimeoutError):
                raise
            raise ContextUnreachable(
                f"context {request.context_id} is not deleted yet; it goes on by itself, retry",
                context_id=request.context_id,
            ) from None
        if request.request_id:
            self._manager.deletions.claim_ok(request.context_id)
        return response

    @once
    async def _delete(
        self, request: pb.DeleteCodeContextRequest, context: _Call
    ) -> pb.DeleteCodeContextResponse:
        await self._manager.deletions.delete(
            request.context_id, force=request.force, deadline_s=time_for_answer(context)
        )
        return pb.DeleteCodeContextResponse()

    # The server

    @unary
    async def GetServerInfo(  # noqa: D102
        self, request: pb.GetServerInfoRequest, context: _Call
    ) -> pb.GetServerInfoResponse:
        return pb.GetServerInfoResponse(
            version=self._host.version,
            runtimes=self._host.runtimes(self._runtimes),
            isolation=self._host.isolation,
            limits=self._host.limits(self._config),
            contexts=len(self._manager.registry),
            executing=self._manager.executions.running_count,
            start_time=conversion.timestamp(self._host.start_time),
            host=self._host.name,
        )

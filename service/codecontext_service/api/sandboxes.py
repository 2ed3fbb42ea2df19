"""The servicer of `SandboxService`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc

from codecontext.v1 import resources_pb2
from codecontext.v1 import sandbox_service_pb2 as pb
from codecontext.v1.sandbox_service_pb2_grpc import SandboxServiceServicer
from codecontext_service.config import Config
from codecontext_service.contexts.context import Context
from codecontext_service.contexts.idempotency import FirstAnswers
from codecontext_service.contexts.options import State
from codecontext_service.contexts.sandbox_manager import SandboxManager
from codecontext_service.processes.members import Usage
from codecontext_service.sandboxes.sandbox import Sandbox, SandboxOptions

from . import conversion, paging
from .deadline import time_for_answer
from .errors import unary
from .host import HostInfo
from .limits import read_kept_limits
from .network import read_network
from .once import once
from .unimplemented import refuse_missing
from .validation import Checks

_Call = grpc.aio.ServicerContext[Any, Any]


@refuse_missing
class SandboxServicer(SandboxServiceServicer):
    """Turns calls into what the manager does, and back; see the proto for what each call promises."""

    def __init__(
        self, config: Config, manager: SandboxManager, answers: FirstAnswers, host: HostInfo
    ) -> None:
        """Makes a servicer.

        Args:
            config: The server's options.
            manager: Does it all.
            answers: What callers who ask again get.
            host: What is known of the host.
        """
        self._config = config
        self._manager = manager
        self.answers = answers
        """What callers who ask again get."""
        self._host = host

    @unary
    @once
    async def CreateSandbox(  # noqa: D102
        self, request: pb.CreateSandboxRequest, context: _Call
    ) -> pb.CreateSandboxResponse:
        checks = Checks()
        options = SandboxOptions(
            read_kept_limits(checks, request.resource_limits, self._config, self._host),
            read_network(checks, request.network_policy, self._config, self._host),
            checks.labels(request.labels),
            checks.seconds(request, "ttl"),
        )
        checks.finish()
        created = await self._manager.create(options)
        return pb.CreateSandboxResponse(sandbox=self._message(created))

    @unary
    async def GetSandbox(  # noqa: D102
        self, request: pb.GetSandboxRequest, context: _Call
    ) -> pb.GetSandboxResponse:
        usage = await self._measure(self._manager.get(request.sandbox_id))
        message = self._message(self._manager.get(request.sandbox_id))  # it may be gone by now
        message.resource_usage.CopyFrom(usage)
        return pb.GetSandboxResponse(sandbox=message)

    @unary
    async def ListSandboxes(  # noqa: D102
        self, request: pb.ListSandboxesRequest, context: _Call
    ) -> pb.ListSandboxesResponse:
        checks = Checks()
        limit = paging.page_size(checks, request.page_size)
        after = paging.read_token(checks, request, request.page_token)
        checks.finish()
        labels = dict(request.labels)
        sandboxes, following = self._manager.page(
            after=after,
            limit=limit,
            matches=lambda sandbox: labels.items() <= sandbox.options.labels.items(),
        )
        contexts = self._manager.contexts_by_sandbox()
        return pb.ListSandboxesResponse(
            sandboxes=[
                conversion.sandbox(
                    each, contexts.get(each.id, ()), self._host.isolation_of(each), self._host.name
                )
                for each in sandboxes
            ],
            next_page_token=paging.make_token(request, following),
        )

    @unary
    async def DestroySandbox(  # noqa: D102
        self, request: pb.DestroySandboxRequest, context: _Call
    ) -> pb.DestroySandboxResponse:
        await self._manager.destroy(
            request.sandbox_id, force=request.force, deadline_s=time_for_answer(context)
        )
        return pb.DestroySandboxResponse()

    def _message(self, sandbox: Sandbox) -> pb.Sandbox:
        return conversion.sandbox(
            sandbox,
            self._manager.contexts_in(sandbox),
            self._host.isolation_of(sandbox),
            self._host.name,
        )

    async def _measure(self, sandbox: Sandbox) -> resources_pb2.ResourceUsage:
        measured = await _measure_together(self._manager.contexts_in(sandbox))
        usage = resources_pb2.ResourceUsage()
        if measured is not None:
            usage = conversion.resource_usage(measured)
        if (held := sandbox.usage()) is not None:
            usage.workspace_bytes, usage.workspace_inodes = held.bytes, held.inodes
        return usage


async def _measure_together(contexts: Iterable[Context]) -> Usage | None:
    """Adds up what contexts use; None where one of them could not be measured, since a part would mislead."""
    living = [each for each in contexts if each.state in (State.IDLE, State.EXECUTING)]
    measured = await asyncio.gather(*(each.usage() for each in living))
    total = Usage(0.0, 0, 0, 0)
    for usage in measured:
        if usage is None:
            return None
        total = total.plus(usage)
    return total

"""Where calls come in: the gRPC server with its services, their health and their reflection."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from codecontext.v1 import (
    code_context_service_pb2,
    code_context_service_pb2_grpc,
    file_service_pb2,
    sandbox_service_pb2,
    sandbox_service_pb2_grpc,
)
from codecontext_service.api.code_contexts import CodeContextServicer
from codecontext_service.api.files import FileServicer, add_file_service
from codecontext_service.api.host import HostInfo
from codecontext_service.api.sandboxes import SandboxServicer
from codecontext_service.config import Config
from codecontext_service.contexts.manager import ContextManager
from codecontext_service.contexts.sandbox_manager import SandboxManager
from codecontext_service.processes.containment import Containment
from codecontext_service.runtimes.registry import Runtimes

from .listeners import bind

_SERVICES = tuple(
    descriptor.services_by_name[name].full_name
    for descriptor, name in (
        (code_context_service_pb2.DESCRIPTOR, "CodeContextService"),
        (sandbox_service_pb2.DESCRIPTOR, "SandboxService"),
        (file_service_pb2.DESCRIPTOR, "FileService"),
    )
)
_LOOKAHEAD_BYTES = 4 << 20
"""How much of a stream of requests is received before it is asked for."""


class Endpoint:
    """The gRPC server: `start`, then `say`, then `stop`."""

    def __init__(
        self,
        config: Config,
        containment: Containment,
        manager: ContextManager,
        sandboxes: SandboxManager,
        runtimes: Runtimes,
    ) -> None:
        """Makes it; nobody can call it yet.

        Args:
            config: The server's options.
            containment: How contexts are contained.
            manager: The contexts.
            sandboxes: The sandboxes.
            runtimes: What contexts are made from.
        """
        self._config = config
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", config.max_receive_message_bytes),
                ("grpc.max_send_message_length", 16 << 20),
                # What comes faster than it is taken waits at its sender, but for this much of a stream.
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", _LOOKAHEAD_BYTES),
                ("grpc.so_reuseport", 0),  # a second server on the same port is an error
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 10_000),
            ]
        )
        self._health = health.aio.HealthServicer()
        host = HostInfo(containment)
        code_context_service_pb2_grpc.add_CodeContextServiceServicer_to_server(
            CodeContextServicer(config, manager, sandboxes, runtimes, host), self._server
        )
        sandbox_service_pb2_grpc.add_SandboxServiceServicer_to_server(
            SandboxServicer(config, sandboxes, manager.answers, host), self._server
        )
        add_file_service(FileServicer(sandboxes), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )

    async def start(self) -> list[str]:
        """Takes calls from now on; says NOT_SERVING to who asks.

        Returns:
            The addresses that it listens on.

        Raises:
            ConfigError: An address can't be bound.
        """
        await self.say(serving=False)
        addresses = bind(self._server, self._config)
        await self._server.start()
        return addresses

    async def say(self, *, serving: bool) -> None:
        """Sets what is told of the health of each service."""
        status = (
            health_pb2.HealthCheckResponse.SERVING
            if serving
            else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *_SERVICES):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Takes no more calls.

        Args:
            grace_s: How long those that go on may take, in seconds.
        """
        await self._server.stop(grace_s)

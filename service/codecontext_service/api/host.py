"""What is known of the host, as messages."""

from __future__ import annotations

import importlib.metadata
import socket
import time

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1 import resources_pb2
from codecontext_service.config import Config
from codecontext_service.domain.limits import Limits
from codecontext_service.domain.network import Network
from codecontext_service.processes.containment import Containment
from codecontext_service.runtimes.registry import ALIASES, Runtimes
from codecontext_service.sandboxes.sandbox import Sandbox
from codecontext_service.workers.tiers import NO_NETWORK

from .conversion import duration, resource_limits


class HostInfo:
    """What is known of the host."""

    def __init__(self, containment: Containment) -> None:
        """Makes the description.

        Args:
            containment: How contexts are contained.
        """
        self.keeps_network = NO_NETWORK in containment.guarantees
        """Whether contexts can be kept from the host's network."""
        self.unkept_limits = containment.unkept_limits
        """The limits that can't be kept here, by their names in requests and in `Limits`."""
        self.version = importlib.metadata.version("codecontext")
        self.name = socket.gethostname()
        self.start_time = time.time()
        self.isolation = resources_pb2.Isolation(
            tier=containment.tier, guarantees=containment.guarantees
        )
        """What holds for a context that asks for nothing else."""

    def isolation_of(self, sandbox: Sandbox) -> resources_pb2.Isolation:
        """Describes how a sandbox is contained: one with the host's network has fewer guarantees."""
        if sandbox.options.network is Network.NONE:
            return self.isolation
        return resources_pb2.Isolation(
            tier=self.isolation.tier,
            guarantees=[each for each in self.isolation.guarantees if each != NO_NETWORK],
        )

    def runtimes(self, runtimes: Runtimes) -> list[pb.RuntimeInfo]:
        """Describes the runtimes."""
        return [
            pb.RuntimeInfo(
                name=runtime.config.name,
                language=runtime.config.language,
                version=runtime.version,
                aliases=ALIASES.get(runtime.config.language, ()),
                is_default=runtimes.default_of(runtime.config.language) is runtime,
                preload=runtime.config.preload,
                pool_size=runtime.pool_size,
                pool_ready=runtime.ready_count,
                capabilities=runtime.capabilities,
                failure=runtime.failure,
            )
            for runtime in runtimes
        ]

    def limits(self, config: Config) -> pb.ServerLimits:
        """Describes the limits that hold for everyone."""
        return pb.ServerLimits(
            max_contexts=config.max_contexts,
            max_queued_executions=config.max_queued_executions,
            max_code_bytes=config.max_code_bytes,
            max_receive_message_bytes=config.max_receive_message_bytes,
            max_output_bytes=config.max_output_bytes,
            journal_bytes=config.journal_bytes,
            journal_events=config.journal_events,
            default_idle_timeout=duration(config.idle_timeout_s) if config.idle_timeout_s else None,
            default_ttl=duration(config.ttl_s) if config.ttl_s else None,
            default_run_timeout=duration(config.run_timeout_s) if config.run_timeout_s else None,
            default_resource_limits=resource_limits(self._kept(config.default_limits)),
            max_resource_limits=resource_limits(self._kept(config.max_limits)),
        )

    def _kept(self, limits: Limits) -> Limits:
        return limits.without(self.unkept_limits)

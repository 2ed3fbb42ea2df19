"""What is known of the host, as messages."""

from __future__ import annotations

import importlib.metadata
import socket
import time

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1 import resources_pb2
from codecontext_service.config import Config
from codecontext_service.runtimes.registry import ALIASES, Runtimes

from .conversion import duration, resource_limits


class HostInfo:
    """What is known of the host."""

    def __init__(self, *, pid_namespaces: bool) -> None:
        """Makes the description.

        Args:
            pid_namespaces: Whether each context has a pid namespace of its own.
        """
        self.version = importlib.metadata.version("codecontext")
        self.name = socket.gethostname()
        self.start_time = time.time()
        guarantees = ["descendants_die", "dies_with_server"]
        if pid_namespaces:
            guarantees += ["no_foreign_processes", "no_foreign_signals"]
        self.isolation = resources_pb2.Isolation(tier="none", guarantees=guarantees)

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
                pool_size=runtime.config.pool_size,
                pool_ready=runtime.ready_count,
                capabilities=["interrupt", "input", "complete", "inspect"],
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
            default_resource_limits=resource_limits(config.default_limits),
            max_resource_limits=resource_limits(config.max_limits),
        )

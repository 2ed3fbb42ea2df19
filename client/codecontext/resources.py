"""Contexts, sandboxes, and what they may use: plain values, made from the messages of the wire."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from codecontext import _wire
from codecontext.v1 import (
    code_context_pb2,
    code_context_service_pb2,
    resources_pb2,
    sandbox_service_pb2,
)


class ContextState(enum.StrEnum):
    """What a context does."""

    UNSPECIFIED = "UNSPECIFIED"
    """A state that this client is too old for."""
    STARTING = "STARTING"
    """Its interpreter is being started, or restarted. Runs are accepted and wait."""
    IDLE = "IDLE"
    """It is ready, and runs nothing."""
    EXECUTING = "EXECUTING"
    """It runs code."""
    DELETING = "DELETING"
    """It is being deleted."""
    FAILED = "FAILED"
    """Its interpreter died, and its state with it: restart it or delete it."""


class NetworkPolicy(enum.StrEnum):
    """What a sandbox may reach over the network."""

    UNSPECIFIED = "UNSPECIFIED"
    """The server's default."""
    NONE = "NONE"
    """Nothing but the sandbox's own loopback."""
    HOST = "HOST"
    """The host's network, if the server allows that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """Limits on what a context or a sandbox may use; None takes the server's default.

    Memory, CPU and open files belong to each context; processes, disk and files to the sandbox.
    """

    memory_bytes: int | None = None
    """Memory of a context. Past it the interpreter dies, and the run ends as OUT_OF_MEMORY."""
    cpu_time: _wire.Seconds | None = None
    """CPU time that a context may use in all its life."""
    cpus: float | None = None
    """Share of processors: 1.0 is one whole core."""
    processes: int | None = None
    """Processes and threads of a sandbox at one time."""
    open_files: int | None = None
    """Open files of each process."""
    file_size_bytes: int | None = None
    """The largest file that may be written."""
    workspace_bytes: int | None = None
    """Bytes that a sandbox's workspace may hold."""
    workspace_inodes: int | None = None
    """Files and directories that a sandbox's workspace may hold."""

    @classmethod
    def from_proto(cls, message: resources_pb2.ResourceLimits) -> Self:
        """Returns the message as a value; zero is None."""
        return cls(
            memory_bytes=message.memory_bytes or None,
            cpu_time=_wire.from_duration(message, "cpu_time"),
            cpus=message.cpus or None,
            processes=message.processes or None,
            open_files=message.open_files or None,
            file_size_bytes=message.file_size_bytes or None,
            workspace_bytes=message.workspace_bytes or None,
            workspace_inodes=message.workspace_inodes or None,
        )

    def to_proto(self) -> resources_pb2.ResourceLimits:
        """Returns the value as a message; None is left unset."""
        return resources_pb2.ResourceLimits(
            memory_bytes=self.memory_bytes or 0,
            cpu_time=_wire.to_duration(self.cpu_time),
            cpus=self.cpus or 0.0,
            processes=self.processes or 0,
            open_files=self.open_files or 0,
            file_size_bytes=self.file_size_bytes or 0,
            workspace_bytes=self.workspace_bytes or 0,
            workspace_inodes=self.workspace_inodes or 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceUsage:
    """What a context or a sandbox uses, as measured; None where the host can't measure it."""

    cpu_time: timedelta | None
    """CPU time of its processes since its start, ended ones included."""
    memory_bytes: int | None
    """Resident memory of its living processes; pages shared with others count in full."""
    memory_own_bytes: int | None
    """Resident memory that no other process shares."""
    processes: int | None
    """Living processes."""
    workspace_bytes: int | None = None
    """What the workspace of a sandbox holds; None for a context."""
    workspace_inodes: int | None = None
    """Files and directories in the workspace of a sandbox, itself included; None for a context."""

    @classmethod
    def from_proto(cls, message: resources_pb2.ResourceUsage) -> Self:
        """Returns the message as a value."""
        return cls(
            cpu_time=_wire.from_duration(message, "cpu_time"),
            memory_bytes=message.memory_bytes or None,
            memory_own_bytes=message.memory_own_bytes or None,
            processes=message.processes or None,
            workspace_bytes=(
                message.workspace_bytes if message.HasField("workspace_bytes") else None
            ),
            workspace_inodes=(
                message.workspace_inodes if message.HasField("workspace_inodes") else None
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """How a context is contained, as measured on its host."""

    tier: str
    """The tier: `cell`, `uid`, `landlock` or `none`."""
    guarantees: tuple[str, ...]
    """The guarantees that hold, by name."""

    @classmethod
    def from_proto(cls, message: resources_pb2.Isolation) -> Self:
        """Returns the message as a value."""
        return cls(tier=message.tier, guarantees=tuple(message.guarantees))


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeContext:
    """One live interpreter with its state, as it was when the call that returned it ended."""

    id: str
    """Its id: opaque, and never used again."""
    language: str
    """The language that it runs."""
    runtime: str
    """The runtime that it was made from."""
    cwd: str
    """The working directory that its interpreter was started in."""
    sandbox_id: str
    """The sandbox that it lives in."""
    labels: Mapping[str, str] = field(hash=False)
    """The labels given at the creation."""
    state: ContextState
    """What it does."""
    create_time: datetime | None
    """When it was created."""
    last_used_time: datetime | None
    """When it was last created, restarted or forked, or a run in it began or ended."""
    expire_time: datetime | None
    """When it will be deleted if nobody uses it before; None if never, or while it executes."""
    execution_count: int
    """How many runs have begun in it since its interpreter was started."""
    queued_executions: int
    """How many accepted runs wait for their turn."""
    parent_context_id: str | None
    """The context that it was forked from; None if it was created."""
    isolation: Isolation
    """How it is contained."""
    host: str
    """The host that holds it."""
    failure: str
    """Why it is FAILED, in words; empty in every other state."""
    resource_usage: ResourceUsage | None
    """What it uses; None unless `get_code_context` returned it."""
    resource_limits: ResourceLimits
    """The limits that hold for it."""
    network_policy: NetworkPolicy
    """What its sandbox may reach over the network."""
    executing_execution_id: str | None
    """The execution that runs; None if none does."""

    @classmethod
    def from_proto(cls, message: code_context_pb2.CodeContext) -> Self:
        """Returns the message as a value."""
        return cls(
            id=message.id,
            language=message.language,
            runtime=message.runtime,
            cwd=message.cwd,
            sandbox_id=message.sandbox_id,
            labels=dict(message.labels),
            state=_wire.from_enum(ContextState, code_context_pb2.CodeContextState, message.state),
            create_time=_wire.from_timestamp(message, "create_time"),
            last_used_time=_wire.from_timestamp(message, "last_used_time"),
            expire_time=_wire.from_timestamp(message, "expire_time"),
            execution_count=message.execution_count,
            queued_executions=message.queued_executions,
            parent_context_id=message.parent_context_id or None,
            isolation=Isolation.from_proto(message.isolation),
            host=message.host,
            failure=message.failure,
            resource_usage=(
                ResourceUsage.from_proto(message.resource_usage)
                if message.HasField("resource_usage")
                else None
            ),
            resource_limits=ResourceLimits.from_proto(message.resource_limits),
            network_policy=_wire.from_enum(
                NetworkPolicy, resources_pb2.NetworkPolicy, message.network_policy
            ),
            executing_execution_id=message.executing_execution_id or None,
        )


class Forks(list[CodeContext]):
    """The copies that a fork has made."""

    lost_threads: tuple[str, ...] = ()
    """The names of the threads that the copies do not have."""

    @classmethod
    def from_proto(cls, message: code_context_service_pb2.ForkCodeContextResponse) -> Self:
        """Returns the message as a value."""
        forks = cls(map(CodeContext.from_proto, message.contexts))
        forks.lost_threads = tuple(message.lost_threads)
        return forks


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What contexts run inside, as it was when the call that returned it was answered."""

    id: str
    """Its id: opaque, and never used again."""
    labels: Mapping[str, str] = field(hash=False)
    """The labels given at the creation."""
    create_time: datetime | None
    """When it was created."""
    expire_time: datetime | None
    """When it will be destroyed; None if never."""
    resource_limits: ResourceLimits
    """The limits that hold in it."""
    network_policy: NetworkPolicy
    """What it may reach over the network."""
    isolation: Isolation
    """How it is contained."""
    context_ids: tuple[str, ...]
    """The contexts that live in it."""
    private: bool
    """Whether it was made for one context and goes with its last one."""
    workspace: str
    """The directory that its contexts know as their workspace."""
    host: str
    """The host that holds it."""
    resource_usage: ResourceUsage | None
    """What its contexts use together, and what its workspace holds; None unless `get` returned it."""

    @classmethod
    def from_proto(cls, message: sandbox_service_pb2.Sandbox) -> Self:
        """Returns the message as a value."""
        return cls(
            id=message.id,
            labels=dict(message.labels),
            create_time=_wire.from_timestamp(message, "create_time"),
            expire_time=_wire.from_timestamp(message, "expire_time"),
            resource_limits=ResourceLimits.from_proto(message.resource_limits),
            network_policy=_wire.from_enum(
                NetworkPolicy, resources_pb2.NetworkPolicy, message.network_policy
            ),
            isolation=Isolation.from_proto(message.isolation),
            context_ids=tuple(message.context_ids),
            private=message.private,
            workspace=message.workspace,
            host=message.host,
            resource_usage=(
                ResourceUsage.from_proto(message.resource_usage)
                if message.HasField("resource_usage")
                else None
            ),
        )

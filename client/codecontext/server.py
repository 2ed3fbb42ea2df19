"""What a server tells about itself, and about code: plain values."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from codecontext import _wire
from codecontext.resources import Isolation, ResourceLimits
from codecontext.v1 import code_context_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeInfo:
    """What contexts can be made from."""

    name: str
    """Its name."""
    language: str
    """Its language."""
    version: str
    """The version of its interpreter."""
    aliases: tuple[str, ...]
    """Other names by which its language is known."""
    is_default: bool
    """Whether it is the one that its language takes by default."""
    preload: tuple[str, ...]
    """Modules that are loaded before a context is made from it."""
    pool_size: int
    """How many interpreters are kept ready."""
    pool_ready: int
    """How many interpreters are ready now."""
    capabilities: tuple[str, ...]
    """What its contexts can do beyond running code: `fork`, `complete`, `inspect`, `input`, …."""
    failure: str
    """Why no context can be made from it now; empty if one can."""

    @classmethod
    def from_proto(cls, message: pb.RuntimeInfo) -> Self:
        """Returns the message as a value."""
        return cls(
            name=message.name,
            language=message.language,
            version=message.version,
            aliases=tuple(message.aliases),
            is_default=message.is_default,
            preload=tuple(message.preload),
            pool_size=message.pool_size,
            pool_ready=message.pool_ready,
            capabilities=tuple(message.capabilities),
            failure=message.failure,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Limits that hold for everyone; the times are None where there is no limit."""

    max_contexts: int
    """Contexts on this host."""
    max_queued_executions: int
    """Runs queued in a context."""
    max_code_bytes: int
    """Bytes of code of a run."""
    max_receive_message_bytes: int
    """Bytes of a message to the server."""
    max_output_bytes: int
    """Bytes of output of an execution."""
    journal_bytes: int
    """Bytes of an execution's journal."""
    journal_events: int
    """Events of an execution's journal."""
    default_idle_timeout: timedelta | None
    """The idle timeout that a context gets by default."""
    default_ttl: timedelta | None
    """The time to live that a context gets by default."""
    default_run_timeout: timedelta | None
    """The timeout that a run gets by default."""
    default_resource_limits: ResourceLimits
    """The resource limits that a context gets by default."""
    max_resource_limits: ResourceLimits
    """The largest resource limits that a context may ask for."""

    @classmethod
    def from_proto(cls, message: pb.ServerLimits) -> Self:
        """Returns the message as a value."""
        return cls(
            max_contexts=message.max_contexts,
            max_queued_executions=message.max_queued_executions,
            max_code_bytes=message.max_code_bytes,
            max_receive_message_bytes=message.max_receive_message_bytes,
            max_output_bytes=message.max_output_bytes,
            journal_bytes=message.journal_bytes,
            journal_events=message.journal_events,
            default_idle_timeout=_wire.from_duration(message, "default_idle_timeout"),
            default_ttl=_wire.from_duration(message, "default_ttl"),
            default_run_timeout=_wire.from_duration(message, "default_run_timeout"),
            default_resource_limits=ResourceLimits.from_proto(message.default_resource_limits),
            max_resource_limits=ResourceLimits.from_proto(message.max_resource_limits),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """The server."""

    version: str
    """The version of the service."""
    runtimes: tuple[RuntimeInfo, ...]
    """The runtimes that contexts can be made from."""
    isolation: Isolation
    """How contexts are contained on this host."""
    limits: ServerLimits
    """The limits that hold for everyone."""
    contexts: int
    """How many contexts are there."""
    executing: int
    """How many executions run."""
    start_time: datetime | None
    """When the server started."""
    host: str
    """The host, as in `CodeContext.host`."""

    @classmethod
    def from_proto(cls, message: pb.GetServerInfoResponse) -> Self:
        """Returns the message as a value."""
        return cls(
            version=message.version,
            runtimes=tuple(RuntimeInfo.from_proto(runtime) for runtime in message.runtimes),
            isolation=Isolation.from_proto(message.isolation),
            limits=ServerLimits.from_proto(message.limits),
            contexts=message.contexts,
            executing=message.executing,
            start_time=_wire.from_timestamp(message, "start_time"),
            host=message.host,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completions:
    """What could stand at the cursor."""

    matches: tuple[str, ...]
    """The candidates, best first."""
    cursor_start: int
    """The begin of the text that a match replaces, in Unicode characters."""
    cursor_end: int
    """The end of the text that a match replaces, in Unicode characters."""

    @classmethod
    def from_proto(cls, message: pb.CompleteCodeResponse) -> Self:
        """Returns the message as a value."""
        return cls(
            matches=tuple(message.matches),
            cursor_start=message.cursor_start,
            cursor_end=message.cursor_end,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is known of the name at the cursor."""

    found: bool
    """Whether the name is known."""
    data: dict[str, str | bytes] = field(hash=False)
    """What is known, by MIME type."""

    @property
    def text(self) -> str | None:
        """The description as plain text; None if there is none."""
        text = self.data.get("text/plain")
        return text if isinstance(text, str) else None

    @classmethod
    def from_proto(cls, message: pb.InspectCodeResponse) -> Self:
        """Returns the message as a value."""
        return cls(
            found=message.found,
            data={
                part.mime_type: part.data if part.WhichOneof("content") == "data" else part.text
                for part in message.parts
            },
        )

"""Files of a workspace: plain values."""

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from codecontext import _wire
from codecontext.v1 import file_service_pb2 as pb


class FileKind(enum.StrEnum):
    """Kinds of files."""

    UNSPECIFIED = "UNSPECIFIED"
    """A kind that this client is too old for."""
    REGULAR = "REGULAR"
    """A regular file."""
    DIRECTORY = "DIRECTORY"
    """A directory."""
    SYMLINK = "SYMLINK"
    """A symbolic link."""
    OTHER = "OTHER"
    """A pipe, a socket or a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """What a file is."""

    path: str
    """Its path in the workspace."""
    kind: FileKind
    """Its kind."""
    size_bytes: int
    """Its size; 0 for directories."""
    modify_time: datetime | None
    """When its content last changed."""
    mode: int
    """Its permission bits."""
    link_target: str | None
    """Where a link leads, as written in it; None for others."""
    sha256: bytes | None
    """The SHA-256 of its content, where the call has read all of it."""

    @classmethod
    def from_proto(cls, message: pb.FileInfo) -> Self:
        """Returns the message as a value."""
        return cls(
            path=message.path,
            kind=_wire.from_enum(FileKind, pb.FileKind, message.kind),
            size_bytes=message.size_bytes,
            modify_time=_wire.from_timestamp(message, "modify_time"),
            mode=message.mode,
            link_target=message.link_target or None,
            sha256=message.sha256 or None,
        )

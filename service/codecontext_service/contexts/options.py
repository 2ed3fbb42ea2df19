"""What a context is made with, what the server allows it, and the states that it can be in."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from codecontext_service.domain.limits import NO_LIMITS, Limits
from codecontext_service.runtimes.base import Runtime


class State(enum.Enum):
    """What a context does; see `CodeContextState` in the proto."""

    STARTING = "STARTING"
    IDLE = "IDLE"
    EXECUTING = "EXECUTING"
    DELETING = "DELETING"
    FAILED = "FAILED"


@dataclass(frozen=True)
class ContextOptions:
    """What a context was created with. Times are in seconds, 0 means none."""

    runtime: Runtime
    cwd: str
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    idle_timeout_s: float = 0.0
    ttl_s: float = 0.0
    limits: Limits = NO_LIMITS


@dataclass(frozen=True)
class ContextLimits:
    """What the server allows a context."""

    max_queued: int
    interrupt_grace_s: float

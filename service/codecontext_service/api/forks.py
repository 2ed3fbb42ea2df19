"""Requests to fork a context."""

from __future__ import annotations

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext_service.config import Config
from codecontext_service.contexts.forks import ForkRequest
from codecontext_service.contexts.options import ContextOptions

from .host import HostInfo
from .limits import read_kept_limits
from .validation import Checks

MAX_COUNT = 64
"""The most copies that one call makes."""

_ONLY_LOWER = ("open_files", "file_size_bytes")
"""Limits that an interpreter has set for itself, and can't raise."""


def read_fork(
    request: pb.ForkCodeContextRequest, parent: ContextOptions, config: Config, host: HostInfo
) -> ForkRequest:
    """Returns what a request asks for.

    Args:
        request: The request.
        parent: What the context was created with.
        config: The server's options.
        host: Which limits can be kept.

    Raises:
        InvalidArgument: A field is not acceptable.
        NotImplementedHere: It asks for a limit that nothing keeps here.
    """
    checks = Checks()
    limits = read_kept_limits(checks, request.resource_limits, config, host, parent.limits)
    for name in _ONLY_LOWER:
        most, asked = getattr(parent.limits, name), getattr(request.resource_limits, name)
        if most and asked > most:
            checks.wrong(
                f"resource_limits.{name}", f"is more than {most}, that of the context: lower it"
            )
    if not 0 <= request.count <= MAX_COUNT:
        checks.wrong("count", f"is not within 1 and {MAX_COUNT}: fork more than once")
    labels = checks.labels(request.labels)
    idle_timeout_s = checks.seconds(request, "idle_timeout", parent.idle_timeout_s)
    ttl_s = checks.seconds(request, "ttl", parent.ttl_s)
    checks.finish()
    return ForkRequest(
        limits,
        request.count or 1,
        labels,
        idle_timeout_s,
        ttl_s,
        request.allow_threads,
    )

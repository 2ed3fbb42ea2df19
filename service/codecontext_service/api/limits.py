"""Resource limits of requests."""

from __future__ import annotations

import math

from google.protobuf.message import Message

from codecontext.v1 import resources_pb2
from codecontext_service.config import Config
from codecontext_service.domain.errors import NotImplementedHere
from codecontext_service.domain.limits import (
    MIN_CPUS,
    MIN_OPEN_FILES,
    NO_LIMITS,
    SHARED,
    Limits,
)

from .host import HostInfo
from .validation import Checks


def read_limits(
    checks: Checks,
    message: resources_pb2.ResourceLimits,
    config: Config,
    field: str = "resource_limits",
    *,
    sandbox: Limits = NO_LIMITS,
) -> Limits:
    """Returns the limits that a request asks for, with defaults for what it leaves out.

    Args:
        checks: Takes note of what is negative, or more than the server allows.
        message: The request's limits.
        config: Holds the defaults and the maxima.
        field: The name of the message in the request.
        sandbox: Those of the sandbox that a context is to live in. What a sandbox has as a whole can't be
            changed; of the others these are the defaults, and then the server's.
    """
    asked = Limits(
        memory_bytes=checks.not_negative(f"{field}.memory_bytes", message.memory_bytes),
        cpu_time_s=checks.seconds(message, "cpu_time", name=f"{field}.cpu_time"),
        cpus=checks.not_negative(f"{field}.cpus", message.cpus),
        open_files=checks.not_negative(f"{field}.open_files", message.open_files),
        file_size_bytes=checks.not_negative(f"{field}.file_size_bytes", message.file_size_bytes),
        processes=checks.not_negative(f"{field}.processes", message.processes),
        workspace_bytes=checks.not_negative(f"{field}.workspace_bytes", message.workspace_bytes),
        workspace_inodes=checks.not_negative(f"{field}.workspace_inodes", message.workspace_inodes),
    )
    for name, most in vars(config.max_limits).items():
        if most and getattr(asked, name) > most:
            which = name.removesuffix("_s")
            checks.wrong(
                f"{field}.{which}", f"is more than {most}, the most that this server allows"
            )
    if not math.isfinite(asked.cpus) or 0 < asked.cpus < MIN_CPUS:
        checks.wrong(f"{field}.cpus", f"is no share of processors: give {MIN_CPUS} or more")
    if asked.open_files and asked.open_files < MIN_OPEN_FILES:
        checks.wrong(
            f"{field}.open_files", f"is less than {MIN_OPEN_FILES}, which an interpreter needs"
        )
    for name in SHARED:
        theirs, its = getattr(asked, name), getattr(sandbox, name)
        if its and theirs not in (0, its):
            checks.wrong(
                f"{field}.{name}",
                f"is {its} for all contexts of the sandbox together: leave it out",
            )
    return asked.over(sandbox).over(config.default_limits)


def read_kept_limits(
    checks: Checks,
    message: resources_pb2.ResourceLimits,
    config: Config,
    host: HostInfo,
    sandbox: Limits = NO_LIMITS,
) -> Limits:
    """Returns the limits that a request asks for, see `read_limits`, without those that nothing keeps here.

    Raises:
        NotImplementedHere: It asks for such a one.
    """
    _refuse_unoffered(message, *host.unkept_limits)
    limits = read_limits(checks, message, config, sandbox=sandbox)
    return limits.without(host.unkept_limits)


def _refuse_unoffered(request: Message, *fields: str) -> None:
    """Refuses what could only be ignored: whoever sets such a field relies on it.

    Args:
        request: A message of limits.
        *fields: The names of those that nothing keeps.

    Raises:
        NotImplementedHere: One of the fields is set.
    """
    for descriptor, _ in request.ListFields():
        if descriptor.name in fields:
            raise NotImplementedHere(
                f"this server does not offer {descriptor.name}: leave it out", field=descriptor.name
            )

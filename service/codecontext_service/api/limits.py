"""Resource limits of requests."""

from __future__ import annotations

import math

from codecontext.v1 import resources_pb2
from codecontext_service.config import Config
from codecontext_service.domain.limits import MIN_CPUS, MIN_OPEN_FILES, Limits

from .validation import Checks


def read_limits(
    checks: Checks,
    message: resources_pb2.ResourceLimits,
    config: Config,
    field: str = "resource_limits",
) -> Limits:
    """Returns the limits that a request asks for, with the server's defaults for what it leaves out.

    Args:
        checks: Takes note of what is negative, or more than the server allows.
        message: The request's limits.
        config: Holds the defaults and the maxima.
        field: The name of the message in the request.
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
    return asked.over(config.default_limits)

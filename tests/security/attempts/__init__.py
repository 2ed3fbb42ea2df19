"""All attempts, in modules by their kind."""

from __future__ import annotations

from security.attempt import Attempt

from . import (
    channel,
    files,
    ipc,
    kernel,
    left_behind,
    mounts,
    network,
    processes,
    resources,
    signals,
)

_MODULES = (
    *(files, mounts, kernel, processes, signals, network, ipc),
    *(resources, channel, left_behind),
)

ATTEMPTS = tuple(
    each for module in _MODULES for each in vars(module).values() if isinstance(each, Attempt)
)
"""Every attempt, in the order that they stand in."""

"""What a sandbox may reach over the network."""

from __future__ import annotations

import enum


class Network(enum.Enum):
    """A policy; the values are the names of `NetworkPolicy` in the proto."""

    NONE = "NONE"
    """Nothing but the sandbox's own loopback."""

    HOST = "HOST"
    """All that the machine reaches, its own loopback included."""

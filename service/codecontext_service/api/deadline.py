"""How long a caller waits."""

from __future__ import annotations

from typing import Any

import grpc


def time_for_answer(context: grpc.aio.ServicerContext[Any, Any]) -> float | None:
    """How long an answer may take to arrive before the caller's own deadline, in seconds; None: any time."""
    remaining = context.time_remaining()
    return None if remaining is None else remaining - min(0.5, remaining / 2)  # type: ignore[redundant-expr]  # None without a deadline

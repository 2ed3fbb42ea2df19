"""How a channel to the service is set up: what is retried, and how a dead peer is noticed."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from codecontext import _wire

DEFAULT_TARGET = "127.0.0.1:50051"

DEFAULT_DEADLINE_S = 30.0
"""The deadline of a call that is neither a run nor a transfer."""

TRANSFER_DEADLINE_S = 600.0
"""The deadline of an upload or download."""

FLIGHT_BYTES = 256 * 1024
"""How much of a run's events may be under way, which gRPC takes for a guideline: 5,600 of the smallest
events have been seen. They go with a connection that is cut, and are sent again if the server has them
still: it keeps 8,750 by default."""

READS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "codecontext.v1.CodeContextService": (
            "GetCodeContext",
            "ListCodeContexts",
            "WatchExecution",
            "GetExecution",
            "CompleteCode",
            "InspectCode",
            "GetServerInfo",
        ),
        "codecontext.v1.SandboxService": ("GetSandbox", "ListSandboxes"),
        "codecontext.v1.FileService": ("DownloadFile", "ListFiles", "StatFile"),
    }
)
"""The calls that change nothing, and may be made again."""

RETRY_POLICY: Mapping[str, Any] = MappingProxyType(
    {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
)

ChannelOptions = Iterable[tuple[str, Any]]
Metadata = tuple[tuple[str, str | bytes], ...]


def service_config() -> str:
    """Returns gRPC's service config: reads are retried.

    What has a `request_id` is retried as well, but not here: gRPC would give up a call whose
    connection is cut after the first bytes of its answer.
    """
    names = [
        {"service": service, "method": method}
        for service, methods in READS.items()
        for method in methods
    ]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": dict(RETRY_POLICY)}]})


def channel_options(
    options: ChannelOptions | None, *, for_files: bool = False
) -> list[tuple[str, Any]]:
    """Returns the options of a channel; the caller's own come before these.

    A lost server is looked for at least once a second: a run waits for its caller only so long.
    The three times of HTTP/2 pings let a hung peer be noticed within half a minute of silence;
    they are sent only while calls go on.

    Args:
        options: The caller's own.
        for_files: Whether as much of a stream may be under way as gRPC measures that the network
            takes, which may be many MiB; else it is at most `FLIGHT_BYTES`.
    """
    chosen: dict[str, Any] = {
        "grpc.enable_retries": 1,
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 1_000,
        "grpc.service_config": service_config(),
        "grpc.keepalive_time_ms": 20_000,
        "grpc.keepalive_timeout_ms": 10_000,
        "grpc.http2.ping_timeout_ms": 10_000,
        "grpc.http2.max_pings_without_data": 0,
        "grpc.primary_user_agent": "codecontext-python",
    }
    if not for_files:
        chosen["grpc.http2.bdp_probe"] = 0
        chosen["grpc.http2.lookahead_bytes"] = FLIGHT_BYTES
    chosen.update(options or ())
    return list(chosen.items())


def as_metadata(
    metadata: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] | None,
) -> Metadata:
    """Returns metadata as gRPC takes it."""
    return tuple(metadata.items() if isinstance(metadata, Mapping) else metadata or ())


def as_timeout(deadline: _wire.Seconds | None, default_s: float | None) -> float | None:
    """Returns a deadline as gRPC takes it: seconds from now, None for none.

    Args:
        deadline: What the caller chose: seconds or a timedelta; infinity for none.
        default_s: What holds if the caller did not choose.
    """
    if deadline is None:
        return default_s
    seconds = deadline.total_seconds() if not isinstance(deadline, int | float) else deadline
    return None if math.isinf(seconds) else seconds

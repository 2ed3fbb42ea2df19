"""`info`: what the server is and offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codecontext_service.cli import exits
from codecontext_service.cli.failures import connected
from codecontext_service.cli.options import CLIENT_DEFAULTS, ClientOptions
from codecontext_service.cli.output import age, write, write_json, write_table
from codecontext_service.units import format_duration, format_size

if TYPE_CHECKING:
    from datetime import timedelta

    from codecontext import ServerInfo


def info(*, client: ClientOptions = CLIENT_DEFAULTS) -> int:
    """Show the server: version, runtimes, isolation, limits, and what goes on there."""
    with connected(client) as connection:
        server = connection.get_server_info()
    if client.json:
        write_json(server)
    else:
        _show(server, client.target)
    return exits.OK


def _show(server: ServerInfo, target: str) -> None:
    limits = server.limits
    guarantees = ", ".join(server.isolation.guarantees) or "no guarantees"
    write(f"codecontext {server.version} at {target}, host {server.host or '-'}")
    write(f"up for       {age(server.start_time)}")
    write(
        f"contexts     {server.contexts} of {limits.max_contexts}, {server.executing} execute code"
    )
    write(f"isolation    {server.isolation.tier}: {guarantees}")
    write(
        f"limits       code {format_size(limits.max_code_bytes)}, "
        f"output {format_size(limits.max_output_bytes)}, "
        f"queue {limits.max_queued_executions} runs"
    )
    write(
        f"defaults     idle timeout {_time(limits.default_idle_timeout)}, "
        f"time to live {_time(limits.default_ttl)}, "
        f"run timeout {_time(limits.default_run_timeout)}"
    )
    write("")
    write_table(
        ("RUNTIME", "LANGUAGE", "VERSION", "READY", "CAPABILITIES", "PRELOADED"),
        [
            (
                runtime.name + (" *" if runtime.is_default else ""),
                runtime.language,
                runtime.version or "-",
                f"{runtime.pool_ready}/{runtime.pool_size}",
                " ".join(runtime.capabilities) or "-",
                runtime.failure or " ".join(runtime.preload) or "-",
            )
            for runtime in server.runtimes
        ],
    )


def _time(value: timedelta | None) -> str:
    return format_duration(value.total_seconds()) if value else "none"

"""`doctor`: what this machine can contain, what is missing, and how to get it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from codecontext_service.cli import exits
from codecontext_service.cli.failures import say
from codecontext_service.cli.output import write, write_json, write_table

if TYPE_CHECKING:
    from codecontext_service.config import Config

_CELLS = (
    "run the server as root with CAP_SYS_ADMIN and CAP_NET_ADMIN, or allow user namespaces: "
    "kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0, "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container these need a seccomp profile that "
    "allows unshare and mount, and a /proc of which nothing is masked (procMount: Unmasked)"
)
_HOW = {
    "memory_limit_hard": (
        "a control group of the server's own that it can write to: as root outside of a container, by "
        "`systemd-run --user --scope -p Delegate=yes codecontext serve`, or a container with writable cgroups"
    ),
    "process_limit": (
        "run the server as an ordinary user, or as root with CAP_SYS_ADMIN and CAP_NET_ADMIN: root's processes "
        "in a user namespace are not counted"
    ),
}
"""What gives a guarantee that is missing though there are cells."""


@dataclass(frozen=True)
class Report:
    """What was found."""

    tier: str
    """The tier that a server would take."""
    guarantees: tuple[str, ...]
    """What would hold."""
    missing: dict[str, str]
    """What would not hold, and how to get it."""
    strict_obstacles: tuple[str, ...]
    """Why `isolation = strict` would not start; empty if it would."""
    tiers: tuple[dict[str, Any], ...]
    """Each tier, the strongest first: whether it can be had, and what stands in the way or is missing in it.

    One that does not hold what it says, as a contained process has tried, can't be had."""
    layers: tuple[dict[str, Any], ...]
    """What was tried."""


def doctor(
    *,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Try what this machine allows, and say how contexts would be contained.

    Each tier that can be had is started, and a process that is contained in it tries what must not work.

    The exit status is 0 if every guarantee would hold, and 1 if any is missing.

    Args:
        json: Print one JSON object.
    """
    from codecontext_service.config import Config, ConfigError
    from codecontext_service.processes.launcher import LauncherLost

    try:
        report = asyncio.run(_examine(Config(accept_no_isolation=True)))
    except (ConfigError, LauncherLost, OSError) as error:
        say(str(error))
        return exits.USAGE
    if json:
        write_json(report)
    else:
        _show(report)
    return exits.CODE_FAILED if report.missing else exits.OK


async def _examine(config: Config) -> Report:
    from codecontext_service.server.containing import attempt
    from codecontext_service.server.isolation import assess, choose, open_control_groups
    from codecontext_service.server.state_dir import StateDirectory

    state = StateDirectory(config.state_dir)
    groups = await asyncio.to_thread(open_control_groups, config)
    try:
        broken: dict[str, list[str]] = {}
        found = await assess(groups)
        ways = await choose(config, found, groups)
        for way in ways:
            contained, broken[way.tier] = await attempt(config, state, groups, way)
            await contained.end()
    finally:
        await asyncio.to_thread(groups.close)
        state.remove()
    chosen = next(way for way in ways if not broken[way.tier])  # at least `none`
    how = _HOW if chosen.tier == "cell" else {}
    return Report(
        chosen.tier,
        chosen.guarantees,
        {name: how.get(name, _CELLS) for name in chosen.missing},
        tuple(found["strict_obstacles"]),
        tuple(_tier(each, broken.get(each["name"], ())) for each in found["tiers"]),
        tuple(found["layers"]),
    )


def _tier(found: dict[str, Any], broken: Sequence[str]) -> dict[str, Any]:
    return {
        "name": found["name"],
        "available": found["available"] and not broken,
        "obstacles": [*found["obstacles"], *broken],
        "missing": found["missing"],
    }


def _show(report: Report) -> None:
    write(f"A server would contain contexts in the tier `{report.tier}`.")
    if report.tier != "none":
        write(
            "A process that was contained in it has tried what must not work, and could not do it."
        )
    else:
        write("It would start only with --accept-no-isolation, or --isolation none.")
    write("")
    write_table(
        ("TIER", "CAN BE HAD", "WHAT IS MISSING"),
        [
            (
                tier["name"],
                "yes" if tier["available"] else "no",
                ", ".join(tier["missing"]) if tier["available"] else "; ".join(tier["obstacles"]),
            )
            for tier in report.tiers
        ],
    )
    write("")
    rows = [(name, "yes", "") for name in report.guarantees]
    rows += [(name, "no", how) for name, how in report.missing.items()]
    write_table(("GUARANTEE", "HOLDS", "HOW TO GET IT"), rows)
    write("")
    write_table(
        ("LAYER", "WORKS", "WHY NOT"),
        [
            (
                layer["name"] + (f" {layer['version']}" if layer["version"] else ""),
                "yes" if layer["works"] else "no",
                layer["reason"],
            )
            for layer in report.layers
        ],
    )
    write("")
    if report.strict_obstacles:
        write("`isolation = strict` would not start:")
        for obstacle in report.strict_obstacles:
            write(f"  {obstacle}")
    else:
        write("`isolation = strict` would start.")

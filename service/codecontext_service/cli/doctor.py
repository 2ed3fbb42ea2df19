"""`doctor`: what this machine can contain, what is missing, and how to get it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from codecontext_service.cli import exits
from codecontext_service.cli.failures import say
from codecontext_service.cli.output import write, write_json, write_table
from codecontext_service.cli.serve import NO_FLAGS, ServeFlags

if TYPE_CHECKING:
    from codecontext_service.config import Config
    from codecontext_service.processes.containment import Containment
    from codecontext_service.server.isolation import Groups

_CELLS = (
    "run the server as root with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_SYS_PTRACE, or allow user namespaces: "
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
        "run the server as an ordinary user, or as root with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_SYS_PTRACE: "
        "root's processes in a user namespace are not counted"
    ),
}
"""What gives a guarantee that is missing though there are cells."""


@dataclass(frozen=True)
class Report:
    """What was found."""

    refusal: str
    """Why a server with the options that were given would not start; empty if it would."""
    tier: str
    """The tier that it would take; if it would not start, the best one that there is."""
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
    config: Path | None = None,
    flags: Annotated[ServeFlags, Parameter(name="*")] = NO_FLAGS,
) -> int:
    """Try what this machine allows, and say how contexts would be contained.

    Each tier that can be had is started, and a process that is contained in it tries what must not work.

    It takes what `serve` takes, from flags, the environment and a file, and says whether a server with
    these options would start here.

    The exit status is 0 if it would and every guarantee would hold, and 1 if not.

    Args:
        json: Print one JSON object.
        config: The TOML file; CODECONTEXT_CONFIG names it too.
        flags: The options of `Config`, as given.
    """
    from codecontext_service.config_error import ConfigError
    from codecontext_service.config_loading import load_config
    from codecontext_service.processes.launcher import LauncherLost

    try:
        options = load_config(flags=vars(flags), environ=os.environ, file=config)
        report = asyncio.run(_examine(options))
    except (ConfigError, LauncherLost, OSError) as error:
        say(str(error))
        return exits.USAGE
    if json:
        write_json(report)
    else:
        _show(report)
    return exits.CODE_FAILED if report.missing or report.refusal else exits.OK


async def _examine(options: Config) -> Report:
    from codecontext_service.server.containing import NotHeldError, attempt
    from codecontext_service.server.isolation import assess, choose, open_control_groups
    from codecontext_service.server.state_dir import StateDirectory

    # All that there is, whatever is asked for.
    config = replace(options, isolation="auto", accept_no_isolation=True, require=())
    state = StateDirectory(config.state_dir)
    groups = await asyncio.to_thread(open_control_groups, config)
    try:
        broken: dict[str, tuple[str, ...]] = {}
        found = await assess(groups)
        ways = await choose(config, found, groups)
        for way in ways:
            try:
                contained = await attempt(config, state, groups, way)
            except NotHeldError as error:
                broken[way.tier] = error.reasons
            else:
                await contained.end()
        chosen, refusal = await _decide(options, found, groups, broken)
    finally:
        await asyncio.to_thread(groups.close)
        state.remove()
    if chosen is None:
        chosen = next(way for way in ways if way.tier not in broken)  # at least `none`
    how = _HOW if chosen.tier == "cell" else {}
    return Report(
        refusal,
        chosen.tier,
        chosen.guarantees,
        {name: how.get(name, _CELLS) for name in chosen.missing},
        tuple(found["strict_obstacles"]),
        tuple(_tier(each, broken.get(each["name"], ())) for each in found["tiers"]),
        tuple(found["layers"]),
    )


async def _decide(
    options: Config, found: dict[str, Any], groups: Groups, broken: Mapping[str, tuple[str, ...]]
) -> tuple[Containment | None, str]:
    """Decides as a server would: returns how it would contain contexts, or why it would not start."""
    from codecontext_service.config_error import ConfigError
    from codecontext_service.server.containing import NotHeldError, first_that_holds

    async def tried(way: Containment) -> Containment:
        if way.tier in broken:
            raise NotHeldError(*broken[way.tier])
        return way

    try:
        return await first_that_holds(options, found, groups, tried), ""
    except ConfigError as error:
        return None, str(error)


def _tier(found: dict[str, Any], broken: Sequence[str]) -> dict[str, Any]:
    return {
        "name": found["name"],
        "available": found["available"] and not broken,
        "obstacles": [*found["obstacles"], *broken],
        "missing": found["missing"],
    }


def _show(report: Report) -> None:
    if report.refusal:
        write(f"A server with these options would not start: {report.refusal}")
        write(f"The best that this machine has is the tier `{report.tier}`.")
    else:
        write(f"A server would contain contexts in the tier `{report.tier}`.")
    if report.tier != "none":
        write(
            "A process that was contained in it has tried what must not work, and could not do it."
        )
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

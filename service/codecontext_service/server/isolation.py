"""How contexts are contained on this machine: what it allows, and what the options ask for."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecontext_service.config import Config
from codecontext_service.config_error import ConfigError
from codecontext_service.processes.bootstrap import ROOT, clean_environment, command
from codecontext_service.processes.containment import Containment
from codecontext_service.processes.control_groups import ControlGroups
from codecontext_service.processes.control_trees import CPU, MEMORY
from codecontext_service.runtimes.languages import program_of
from codecontext_service.workers.jail import SYSTEM, under
from codecontext_service.workers.tiers import (
    DESCENDANTS_DIE,
    DIES_WITH_SERVER,
    GUARANTEES,
    NO_FOREIGN_PROCESSES,
    NO_FOREIGN_SIGNALS,
)

logger = logging.getLogger(__name__)

_PROBE_TIMEOUT_S = 60
_ENVIRONMENT_PATHS = (
    "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path]))"
)

_NONE = (DESCENDANTS_DIE, DIES_WITH_SERVER)
_BARE = (*_NONE, NO_FOREIGN_PROCESSES, NO_FOREIGN_SIGNALS)

_BEST_FIRST = ("cell", "uid", "landlock")
"""The tiers that `auto` chooses from."""


@dataclass(frozen=True)
class Groups:
    """The server's control groups, which limit memory if there are any."""

    opened: ControlGroups | None
    why_not: str = ""
    """Why there are none, in words."""

    @property
    def controllers(self) -> frozenset[str]:
        """What they limit and count."""
        return frozenset() if self.opened is None else self.opened.controllers

    def close(self) -> None:
        """Removes them; blocks for a while."""
        if self.opened is not None:
            self.opened.close()


def open_control_groups(config: Config) -> Groups:
    """Makes the server's control groups, if it can have any. Blocks for a while."""
    if config.isolation == "none":  # what has the server's rights could leave its group
        return Groups(None, "the isolation none has no control groups")
    try:
        return Groups(ControlGroups.open())
    except OSError as error:
        logger.info("no control groups: %s", error)
        return Groups(None, str(error))


async def choose(config: Config, found: dict[str, Any], groups: Groups) -> tuple[Containment, ...]:
    """Returns how contexts may be contained, the best way first; there is at least one.

    Args:
        config: The options.
        found: What `assess` has found; empty if the isolation is `none`.
        groups: The server's control groups.

    Raises:
        ConfigError: The options ask for more than this machine allows; the text says what is missing.
    """
    if config.isolation == "none":
        return (uncontained(pid_namespaces=config.pid_namespaces),)
    if config.isolation == "strict" and (obstacles := found["strict_obstacles"]):
        raise ConfigError(f"isolation: this machine is not strict: {'; '.join(obstacles)}")
    wanted = {"auto": _BEST_FIRST, "strict": ("cell",)}.get(config.isolation, (config.isolation,))
    shown = await _shown(config)
    tiers = [tier for tier in found["tiers"] if tier["name"] in wanted]
    ways = [_contain(tier, found, groups, shown) for tier in tiers if tier["available"]]
    if config.isolation == "auto" and config.accept_no_isolation:
        ways.append(uncontained(pid_namespaces=config.pid_namespaces))
    if not ways:
        raise ConfigError(refusal(config, [(tier["name"], tier["obstacles"]) for tier in tiers]))
    return tuple(ways)


def refusal(config: Config, failures: Iterable[tuple[str, Iterable[str]]]) -> str:
    """Says that contexts can't be contained as the options ask for, and what to do.

    Args:
        config: The options.
        failures: The tiers that can't be had, and why.
    """
    why = ". ".join(f"{name}: {'; '.join(obstacles)}" for name, obstacles in failures)
    if config.isolation == "auto":
        return (
            f"isolation: this machine can contain no code. {why}. `codecontext doctor` says how to get a "
            "tier; to run code with all the rights of this server, give accept_no_isolation "
            "(--accept-no-isolation) or isolation = none (--isolation none)"
        )
    return f"isolation: this machine does not allow the tier {config.isolation}. {why}"


def _contain(
    tier: dict[str, Any], found: dict[str, Any], groups: Groups, shown: tuple[str, ...]
) -> Containment:
    """Returns what a tier that is available is like."""
    name, cells = tier["name"], tier["name"] == "cell"
    return Containment(
        tier=name,
        cells="full" if cells else "",
        own_uids=not found["user_namespace"] if cells else name == "uid",
        shown=shown,
        memory_group=cells and MEMORY in groups.controllers,
        cpu_group=cells and CPU in groups.controllers,
        guarantees=tuple(tier["guarantees"]),
        missing=tuple(tier["missing"]),
    )


def uncontained(*, pid_namespaces: bool) -> Containment:
    """Returns the tier `none`.

    Args:
        pid_namespaces: Whether each context gets one where the machine allows that.
    """
    holds = _BARE if pid_namespaces else _NONE
    return Containment(
        tier="none",
        cells="bare" if pid_namespaces else "",
        guarantees=tuple(each for each in GUARANTEES if each in holds),
        missing=tuple(each for each in GUARANTEES if each not in holds),
    )


def check_required(config: Config, containment: Containment) -> None:
    """Checks that a way to contain contexts is as the options ask for.

    Raises:
        ConfigError: It lacks a guarantee that is required, would let others use what nothing contains, or
            would let code call this server.
    """
    if containment.tier == "none":
        config.check_unisolated_listeners()
    if (
        containment.cells == "full"
    ):  # elsewhere no filter lets code make Unix sockets, or nothing stops it
        _check_sockets(config, (*SYSTEM, *containment.shown))
    for name in config.require:
        if name not in GUARANTEES:
            raise ConfigError(
                f"require: {name!r} is no guarantee; known ones: {', '.join(GUARANTEES)}"
            )
    lacking = [name for name in config.require if name in containment.missing]
    if lacking:
        raise ConfigError(
            f"require: the isolation {containment.tier} does not give {', '.join(lacking)} here"
        )


def _check_sockets(config: Config, shown: tuple[str, ...]) -> None:
    for address in config.listen:
        if address.startswith("unix:"):
            path = Path(address.removeprefix("unix:"))
            names = {str(path), str(path.parent.resolve() / path.name)}
            for each in shown:
                if any(under(name, (each,)) for name in names):
                    raise ConfigError(
                        f"listen: code in cells could call {address}, since it is shown {each}; "
                        "put the socket elsewhere"
                    )


async def assess(groups: Groups) -> dict[str, Any]:
    """Tries what this machine allows; see `workers.tiers`.

    Args:
        groups: The server's control groups.

    Raises:
        ConfigError: It could not be tried.
    """
    options = {"no_memory_group": groups.why_not}
    said = await _run(command(sys.executable, "tiers", options, "-S"))
    found: dict[str, Any] = json.loads(said)
    return found


async def _shown(config: Config) -> tuple[str, ...]:
    """Returns what interpreters read of the machine beside the system's own directories."""
    shown = {ROOT, sys.prefix, sys.exec_prefix, sys.base_prefix}
    if config.allow_host_network:
        shown.add("/etc/resolv.conf")  # often a link to what the jail does not show
    for runtime in config.runtimes:
        if (language := program_of(runtime)) is not None:
            shown |= set(language.shown(runtime))
            continue
        said = await _run([runtime.interpreter, "-I", "-c", _ENVIRONMENT_PATHS])
        shown |= {str(Path(runtime.interpreter).parent.parent), *json.loads(said)}
    return _existing(shown, config.read_only_paths)


def _existing(shown: set[str], asked: tuple[str, ...]) -> tuple[str, ...]:
    for path in asked:
        if not Path(path).exists():
            raise ConfigError(f"read_only_paths: there is no {path}")
    there = {path for path in (*shown, *asked) if path and Path(path).exists()}
    there |= {str(Path(path).resolve()) for path in there}
    # The outer ones first: what lies below them is then there already.
    return tuple(sorted(there - {"/"}))


async def _run(argv: list[str]) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean_environment(argv[0]),
        )
    except OSError as error:
        raise ConfigError(f"{argv[0]} can't be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            said, complaint = await process.communicate()
    except TimeoutError:
        process.kill()
        raise ConfigError(f"{argv[0]} does not answer") from None
    if process.returncode:
        raise ConfigError(f"{argv[0]} fails: {complaint.decode(errors='replace')[-1000:].strip()}")
    return said

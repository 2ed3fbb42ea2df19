"""Starts what contains contexts: in the first way whose guarantees hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from codecontext_service.config import Config, ConfigError
from codecontext_service.processes.cells import READY, Cells
from codecontext_service.processes.containment import Containment
from codecontext_service.processes.launcher import Launcher
from codecontext_service.processes.users import NoUserError, Users
from codecontext_service.workers.cells import CellSpec

from .isolation import Groups, assess, check_required, choose, refusal
from .selftest import find_broken_guarantees
from .state_dir import StateDirectory

logger = logging.getLogger(__name__)

_LAUNCHER_S = 5.0
"""How long the processes that are left may take to end."""


@dataclass(frozen=True)
class Contained:
    """What contains contexts, once it is started."""

    launcher: Launcher
    cells: Cells

    async def end(self) -> bool:
        """Ends it, and every process below the server.

        Returns:
            Whether all of them have ended by now.
        """
        await self.cells.stop()
        ended = await self.launcher.end(_LAUNCHER_S)
        self.cells.users.close()
        return ended


async def contain(config: Config, state: StateDirectory, groups: Groups) -> Contained:
    """Starts what contains contexts, as the options ask for and this machine allows.

    Args:
        config: The options.
        state: Where files go.
        groups: The server's control groups.

    Raises:
        ConfigError: There is no such way; the text says why.
        LauncherLost: The launcher could not start.
    """
    failures: list[tuple[str, Sequence[str]]] = []
    found = await assess(groups) if config.isolation != "none" else {}
    for way in await choose(config, found, groups):
        check_required(config, way)
        if config.cpus and not way.cpu_group:
            raise ConfigError("cpus: no control group of this machine can limit processors")
        contained, broken = await attempt(config, state, groups, way)
        if not broken:
            return contained
        await contained.end()
        failures.append((way.tier, broken))
        logger.warning(
            "a tier does not hold what it says",
            extra={"tier": way.tier, "broken": "; ".join(broken)},
        )
    raise ConfigError(refusal(config, failures))


async def attempt(
    config: Config, state: StateDirectory, groups: Groups, way: Containment
) -> tuple[Contained, list[str]]:
    """Starts what contains contexts in one way, and has its guarantees tried.

    Args:
        config: The options.
        state: Where files go.
        groups: The server's control groups.
        way: How.

    Returns:
        It, which the caller must end; and what a contained process could do though it must not, in words.

    Raises:
        ConfigError: There are not enough users left.
        LauncherLost: The launcher could not start.
    """
    contained = await _start(config, state, groups, way)
    try:
        return contained, await find_broken_guarantees(contained.launcher, contained.cells, state)
    except BaseException:
        await contained.end()
        raise


async def _start(
    config: Config, state: StateDirectory, groups: Groups, way: Containment
) -> Contained:
    launcher = Launcher(state.path, way)
    needed = config.max_contexts + config.max_sandboxes + READY
    needed += sum(each.pool_size for each in config.runtimes)
    try:
        users = Users(config.first_uid, needed if way.own_uids else 0)
    except NoUserError as error:
        raise ConfigError(str(error)) from error
    try:
        await launcher.start()
    except BaseException:
        users.close()
        raise
    limits = config.default_limits
    spec = CellSpec(-1, limits.workspace_bytes, limits.workspace_inodes)
    cells = Cells(launcher, spec, users, groups.opened if way.cells == "full" else None)
    cells.start()
    return Contained(launcher, cells)

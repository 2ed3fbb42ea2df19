"""Starts what contains contexts: in the first way whose guarantees hold."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from codecontext_service.config import Config
from codecontext_service.config_error import ConfigError
from codecontext_service.processes.cells import READY, Cells
from codecontext_service.processes.containment import Containment
from codecontext_service.processes.launcher import Launcher, LauncherLost
from codecontext_service.processes.users import NoUserError, Users
from codecontext_service.workers.cells import CellSpec

from .isolation import Groups, assess, check_required, choose, refusal
from .selftest import find_broken_guarantees
from .state_dir import StateDirectory

logger = logging.getLogger(__name__)

T = TypeVar("T")

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


class NotHeldError(Exception):
    """A way to contain contexts does not hold what it says, or can't be had; `reasons` say in words why."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


async def contain(config: Config, state: StateDirectory, groups: Groups) -> Contained:
    """Starts what contains contexts, as the options ask for and this machine allows.

    Args:
        config: The options.
        state: Where files go.
        groups: The server's control groups.

    Raises:
        ConfigError: There is no such way; the text says why.
        LauncherLost: With the isolation `none` the launcher could not start.
    """

    async def tried(way: Containment) -> Contained:
        try:
            return await attempt(config, state, groups, way)
        except NotHeldError as error:
            logger.warning(
                "a tier does not hold what it says", extra={"tier": way.tier, "broken": str(error)}
            )
            raise

    found = await assess(groups) if config.isolation != "none" else {}
    return await first_that_holds(config, found, groups, tried)


async def first_that_holds(
    config: Config,
    found: dict[str, Any],
    groups: Groups,
    tried: Callable[[Containment], Awaitable[T]],
) -> T:
    """Decides how contexts are contained.

    Args:
        config: The options.
        found: What `assess` has found; empty if the isolation is `none`.
        groups: The server's control groups.
        tried: Tries a way. It raises NotHeldError if that does not hold.

    Returns:
        What `tried` has returned for the best way that the options allow and that holds.

    Raises:
        ConfigError: There is no such way; the text says why.
    """
    failures: list[tuple[str, Sequence[str]]] = []
    for way in await choose(config, found, groups):
        check_required(config, way)
        if config.cpus and not way.cpu_group:
            raise ConfigError("cpus: no control group of this machine can limit processors")
        try:
            return await tried(way)
        except NotHeldError as error:
            failures.append((way.tier, error.reasons))
    raise ConfigError(refusal(config, failures))


async def attempt(
    config: Config, state: StateDirectory, groups: Groups, way: Containment
) -> Contained:
    """Starts what contains contexts in one way, and has its guarantees tried.

    Args:
        config: The options.
        state: Where files go.
        groups: The server's control groups.
        way: How.

    Returns:
        It, which the caller must end.

    Raises:
        NotHeldError: A contained process could do what it must not, or none could be started.
        ConfigError: There are not enough users left.
        LauncherLost: With the isolation `none` the launcher could not start.
    """
    try:
        contained = await _start(config, state, groups, way)
    except LauncherLost as error:
        if way.tier == "none":
            raise
        last = str(error).rpartition("\n")[2]
        raise NotHeldError(f"the process that starts others could not be: {last}") from error
    try:
        broken = await find_broken_guarantees(contained.launcher, contained.cells, state)
        if broken:
            raise NotHeldError(*broken)
    except BaseException:
        await contained.end()
        raise
    return contained


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

"""The self-test at start: a process that is contained as contexts are tries what they must not be able to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from codecontext_service.processes.cells import CellError, Cells, discard
from codecontext_service.processes.forking import Forked
from codecontext_service.processes.keeper import KeeperLost
from codecontext_service.processes.launcher import Launcher, LauncherLost
from codecontext_service.processes.members import Member
from codecontext_service.processes.peer import OrderError
from codecontext_service.processes.programs import Module, ProgramForker
from codecontext_service.processes.users import NoUserError
from codecontext_service.sandboxes.folders import make_folder, remove_folder
from codecontext_service.workers.containment import Place

from .state_dir import StateDirectory

_ANSWER_S = 30.0
_MAX_ANSWER = 64 * 1024


async def find_broken_guarantees(
    launcher: Launcher, cells: Cells, state: StateDirectory
) -> list[str]:
    """Has the guarantees of a tier tried by a process that is contained in it.

    Args:
        launcher: What starts it.
        cells: Where contexts are to live.
        state: Where it may make folders.

    Returns:
        What it could do though it must not, in words; or why that could not be found out. Empty: they hold.
    """
    containment = launcher.containment
    if containment.tier == "none":
        return []
    secret = state.path / "selftest" / "secret"
    secret.parent.mkdir(mode=0o700, exist_ok=True)
    secret.touch(mode=0o600)
    try:
        if containment.tier == "uid":
            state.let_through()
        with closing(socket.create_server(("127.0.0.1", 0))) as port:
            async with _place(cells, state.path / "selftest-place") as (cell, place):
                options = {
                    "guarantees": containment.guarantees,
                    "secret": str(secret),
                    "server_pid": os.getpid(),
                    "port": port.getsockname()[1],
                    "workspace": "/workspace" if place is None else place.workspace,
                    "workspace_bytes": cells.default.workspace_bytes,
                }
                forker = ProgramForker(launcher, Module("selftest", options))
                return await _answer(await forker.fork(cell, place))
    except (CellError, KeeperLost, LauncherLost, NoUserError, OrderError, OSError) as error:
        return [f"a contained process could not be started: {error}"]


@asynccontextmanager
async def _place(cells: Cells, folder: Path) -> AsyncIterator[tuple[Member | None, Place | None]]:
    """A cell, or what stands in its place, that is removed again."""
    if not cells.by_folder:
        cell = await cells.take()
        try:
            yield cell.first, None
        finally:
            discard(cell)
            await asyncio.shield(cell.gone)
        return
    place = Place(str(folder), cells.users.take())
    try:
        make_folder(place)
        yield None, place
    finally:
        with contextlib.suppress(FileNotFoundError):
            await remove_folder(place)  # the next tier may need it again
        cells.users.release(place.uid)


async def _answer(forked: Forked) -> list[str]:
    streams, member = forked.streams, forked.member
    try:
        streams.channel.settimeout(_ANSWER_S)
        said = await asyncio.to_thread(streams.channel.recv, _MAX_ANSWER)
        if not said:
            complaint = os.read(streams.stderr, _MAX_ANSWER).decode(errors="replace").strip()
            return [f"the self-test ended before it had tried anything: {complaint}"]
        return [f"{words} ({guarantee})" for guarantee, words in json.loads(said)]
    finally:
        member.kill()
        await asyncio.shield(member.gone)
        forked.process.close()
        member.close()
        streams.channel.close()
        os.close(streams.stdout)
        os.close(streams.stderr)

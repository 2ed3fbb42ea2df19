"""What is made ahead stands still while somebody waits, and gets done nevertheless."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.runs import until

from codecontext_service.processes.process import Process
from codecontext_service.processes.right_of_way import RightOfWay

FOR_EVER = 3600.0


@contextlib.contextmanager
def working() -> Iterator[Process]:
    """A process that could be an interpreter."""
    with subprocess.Popen(["sleep", "60"]) as child:
        process = Process(child.pid, os.pidfd_open(child.pid))
        try:
            yield process
        finally:
            process.kill()
            child.wait()
            process.close()


async def stands(process: Process, *, still: bool = True) -> None:
    """Waits until a process is stopped, or goes on."""
    stat = Path(f"/proc/{process.pid}/stat")
    await asyncio.to_thread(
        until, lambda: (stat.read_text().rpartition(")")[2].split()[0] == "T") == still
    )


@pytest.mark.timeout(20)
async def test_a_process_is_stopped_while_anybody_waits() -> None:
    """The process of a thing made ahead stands still while there is a claim, and goes on after the last one."""
    right_of_way = RightOfWay(FOR_EVER)
    with working() as process:
        async with right_of_way.give() as ahead:
            ahead.watch(process)
            with right_of_way.claim():
                with right_of_way.claim():
                    await stands(process)
                await stands(process)
            await stands(process, still=False)
            with pytest.raises(KeyError), right_of_way.claim():
                raise KeyError
            await stands(process, still=False)


@pytest.mark.timeout(20)
async def test_what_is_done_goes_on() -> None:
    """A thing whose process is being stopped as it is done, or that fails, leaves it going on."""
    right_of_way = RightOfWay(FOR_EVER)
    with working() as process, contextlib.ExitStack() as claims:

        async def fail() -> None:
            async with right_of_way.give() as ahead:
                ahead.watch(process)
                claims.enter_context(right_of_way.claim())
                await stands(process)
                raise KeyError

        with pytest.raises(KeyError):
            await fail()
        await stands(process, still=False)


@pytest.mark.timeout(20)
async def test_nothing_begins_while_anybody_waits() -> None:
    """What is to be made ahead begins once nobody waits; the process of one that is held up does not run."""
    right_of_way = RightOfWay(FOR_EVER)
    begun = asyncio.Event()

    async def make() -> None:
        async with right_of_way.give():
            begun.set()

    with right_of_way.claim():
        making = asyncio.create_task(make())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not begun.is_set()
    await making


@pytest.mark.timeout(20)
async def test_patience_ends() -> None:
    """However long somebody waits, what is made ahead goes on after a while, and is held up no more."""
    right_of_way = RightOfWay(0.05)
    with working() as process, right_of_way.claim():
        async with right_of_way.give() as ahead:  # begins when its patience is at an end
            ahead.watch(process)
            ahead.hold()
            assert ahead.going.is_set()
            await stands(process, still=False)
    with working() as process:
        async with right_of_way.give() as ahead:
            ahead.watch(process)
            with right_of_way.claim():
                await stands(process)
                await stands(process, still=False)

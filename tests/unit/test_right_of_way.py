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
from codecontext_service.processes.right_of_way import Ahead, RightOfWay

FOR_EVER = 3600.0

pytestmark = pytest.mark.timeout(20)


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


async def test_a_process_is_stopped_while_anybody_waits() -> None:
    """The process of a thing made ahead stands still while there is a claim, and goes on after the last one."""
    right_of_way, ahead = RightOfWay(), Ahead(spare=True, patience_s=FOR_EVER)
    with working() as process:
        async with right_of_way.give(ahead):
            ahead.watch(process)
            with right_of_way.claim():
                with right_of_way.claim():
                    await stands(process)
                assert not ahead.going.is_set()
            await stands(process, still=False)
            with pytest.raises(KeyError), right_of_way.claim():
                raise KeyError
            await stands(process, still=False)


async def test_the_way_stays_clear_until_the_answer_is_heard() -> None:
    """What is made ahead does not go on in the moment in which a caller's answer is sent."""
    right_of_way, ahead = RightOfWay(), Ahead(spare=True, patience_s=FOR_EVER)
    async with right_of_way.give(ahead):
        with right_of_way.claim():
            assert not ahead.going.is_set()
        assert not ahead.going.is_set()
        await ahead.going.wait()


async def test_what_is_done_or_fails_goes_on() -> None:
    """A thing that is done or fails while it is held up leaves its process going on."""
    right_of_way, ahead = RightOfWay(), Ahead(spare=True, patience_s=FOR_EVER)
    with working() as process, contextlib.ExitStack() as claims:

        async def fail() -> None:
            async with right_of_way.give(ahead):
                ahead.watch(process)
                claims.enter_context(right_of_way.claim())
                await stands(process)
                raise KeyError

        with pytest.raises(KeyError):
            await fail()
        await stands(process, still=False)


async def test_what_the_next_one_needs_is_held_up_by_creates_alone_that_come_too_early() -> None:
    """What is needed next goes on beside a delete, also if it is only now; not beside what starts its own."""
    right_of_way, ahead = RightOfWay(), Ahead(spare=True, patience_s=FOR_EVER)
    with working() as process:
        async with right_of_way.give(ahead):
            ahead.watch(process)
            with right_of_way.claim():
                await stands(process)
                ahead.hurry()
                await stands(process, still=False)
                with right_of_way.claim(over_all=True):
                    await stands(process)
                await stands(process, still=False)


async def test_one_thing_at_a_time() -> None:
    """No more begins than there are lanes, in order; what is needed next waits for none."""
    right_of_way = RightOfWay(lanes=1)
    one, two, three = (Ahead(spare=True, patience_s=FOR_EVER) for _ in range(3))
    needed = Ahead(spare=False, patience_s=FOR_EVER)
    async with contextlib.AsyncExitStack() as others:
        second, third = (
            others.enter_async_context(right_of_way.give(each)) for each in (two, three)
        )
        async with right_of_way.give(one), right_of_way.give(needed):
            waiting = [asyncio.create_task(each) for each in (second, third)]
            await asyncio.sleep(0)
            assert [each.going.is_set() for each in (two, three)] == [False, False]
            three.hurry()
            assert [each.going.is_set() for each in (two, three)] == [False, True]
        assert two.going.is_set()
        await asyncio.gather(*waiting)


async def test_patience_ends() -> None:
    """However long somebody waits, what is made ahead goes on after a while, and is held up no more."""
    right_of_way, ahead = RightOfWay(), Ahead(spare=True, patience_s=0.05)
    with working() as process, right_of_way.claim():
        async with right_of_way.give(ahead):  # begins once its patience is at an end
            ahead.watch(process)
            with right_of_way.claim(over_all=True):
                assert ahead.going.is_set()
                await stands(process, still=False)

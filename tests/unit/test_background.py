"""Waiting for work that goes on by itself."""

import asyncio
import time

from codecontext_service.contexts.background import wait_while_some_end


async def test_the_wait_goes_on_while_some_end() -> None:
    """Many that take longer together than the patience are waited for, since some end all the time."""
    tasks = [asyncio.create_task(asyncio.sleep(0.1 * number)) for number in range(8)]
    await wait_while_some_end(tasks, 0.3)
    assert all(task.done() for task in tasks)


async def test_the_wait_gives_up_when_none_ends() -> None:
    """One that never ends is waited for until nothing has ended for a while, and it is left alone."""
    never = asyncio.get_running_loop().create_future()
    ending = asyncio.create_task(asyncio.sleep(0.1))
    began = time.monotonic()
    await wait_while_some_end([never, ending], 0.2)
    assert ending.done()
    assert not never.done()
    assert time.monotonic() - began > 0.35


async def test_nothing_is_waited_for_at_once() -> None:
    """Without tasks there is no wait."""
    await asyncio.wait_for(wait_while_some_end([], 60.0), 5.0)

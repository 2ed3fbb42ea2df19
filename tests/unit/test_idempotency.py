"""What is remembered of calls that have a request id, and for how long."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

from codecontext_service.config import Config
from codecontext_service.contexts.idempotency import FirstAnswers, RequestKey
from codecontext_service.domain.errors import RequestIdReused, Unavailable


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Work:
    """Counts how often it is done, and ends when it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = asyncio.Event()
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.count += 1
        self.begun.set()
        return await self.end


KEY = RequestKey("Method", "id")


async def once(
    answers: FirstAnswers, work: Any, key: RequestKey = KEY, payload: bytes = b""
) -> Any:
    return await answers.once(key, payload, work, len)


async def test_callers_share_the_work_and_may_go() -> None:
    """The work is done once, goes on when its first caller is cancelled, and all others get its answer."""
    answers, work = FirstAnswers(Config()), Work()
    first, second = (asyncio.create_task(once(answers, work)) for _ in range(2))
    await work.begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    third = asyncio.create_task(once(answers, work))
    with pytest.raises(RequestIdReused):
        await once(answers, work, payload=b"other")
    work.end.set_result("answer")
    assert [await second, await third, await once(answers, work)] == ["answer"] * 3
    with pytest.raises(RequestIdReused):
        await once(answers, work, payload=b"other")
    assert work.count == 1


async def test_a_failure_is_told_to_all_and_forgotten() -> None:
    """Who waits for the first call gets its failure; the next call does the work again."""
    answers, work = FirstAnswers(Config()), Work()
    callers = [asyncio.create_task(once(answers, work)) for _ in range(3)]
    work.end.set_exception(Unavailable("not now"))
    for caller in callers:
        with pytest.raises(Unavailable):
            await caller
    assert len(answers) == 0
    better = Work()
    better.end.set_result("answer")
    assert await once(answers, better, payload=b"other") == "answer"


async def test_an_answer_is_remembered_for_its_time() -> None:
    """The time runs from the end of the call, not from its begin."""
    clock = Clock()
    answers, work = FirstAnswers(Config(request_ids_s=10), clock), Work()
    caller = asyncio.create_task(once(answers, work))
    await asyncio.sleep(0)
    clock.now = 1000
    work.end.set_result("answer")
    await caller
    clock.now += 9.9
    assert await once(answers, work) == "answer"
    assert work.count == 1
    clock.now += 0.2
    await once(answers, work)
    assert work.count == 2


async def test_what_is_remembered_is_bounded() -> None:
    """Only so many calls and bytes of answers are remembered, the latest ones; one that goes on stays."""
    answers = FirstAnswers(Config(request_ids=10, request_ids_bytes=1000))

    async def answer(size: int) -> str:
        return "x" * size

    going = Work()
    caller = asyncio.create_task(once(answers, going))
    await asyncio.sleep(0)
    for number in range(100):
        await once(answers, lambda: answer(10), RequestKey("Method", str(number)))
    assert len(answers) == 11
    assert answers.answer_of(RequestKey("Method", "89")) is None
    assert answers.answer_of(RequestKey("Method", "90")) is not None
    for number in range(100, 105):
        await once(answers, lambda: answer(300), RequestKey("Method", str(number)))
    assert len(answers) == 4
    await once(answers, lambda: answer(5000), RequestKey("Method", "large"))
    assert len(answers) == 1
    going.end.set_result("answer")
    await caller
    assert await once(answers, going) == "answer"
    assert going.count == 1


async def test_memory_is_bounded() -> None:
    """A hundred times as many calls take no more memory: less than 1 KiB for each that is remembered."""
    count = 1000
    answers = FirstAnswers(Config(request_ids=count))
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    end.set_result(None)
    tracemalloc.start()
    try:
        for number in range(100 * count):
            answers.remember(
                RequestKey("RunCode", f"{number:0128}"), b"%032d" % number, f"{number:050}", end
            )
            if number % 100 == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(answers) == count
        assert tracemalloc.get_traced_memory()[0] < 1024 * count
    finally:
        tracemalloc.stop()

"""Callers of a run that go and come back: when the run is given up, and what is kept for them."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from codecontext_service.domain.events import Completed, Outcome, Stream
from codecontext_service.executions.execution import Execution, RunRequest

GRACE_S = 0.002


class Run:
    """An execution, and what it has told of itself."""

    def __init__(self, grace_s: float, *, journal_events: int = 100) -> None:
        self.abandoned: list[Execution] = []
        self.given_up = asyncio.Event()
        self.flows: list[bool] = []
        self.execution = Execution(
            "e0-1",
            "c0-1",
            RunRequest("code", reattach_grace_s=grace_s),
            journal_bytes=1 << 20,
            journal_events=journal_events,
            on_flow=self.flows.append,
            on_abandoned=self._on_abandoned,
        )
        self.execution.begin(1)

    def _on_abandoned(self, execution: Execution) -> None:
        self.abandoned.append(execution)
        self.given_up.set()

    def write(self, number: int) -> None:
        self.execution.add(Stream(number % 2 == 0, b"%d" % number))


@pytest.mark.parametrize("seed", range(200))
async def test_coming_back_races_with_the_end_of_the_grace(seed: int) -> None:
    """A caller who comes back at the moment that the grace ends is either too late, or the run is never
    given up while that caller is there."""
    chances = random.Random(seed)
    run = Run(GRACE_S)
    reader = run.execution.reader(attached=True)
    run.execution.attach()
    run.execution.detach(reader)
    loop = asyncio.get_running_loop()
    back: asyncio.Future[int] = loop.create_future()

    def come_back() -> None:
        run.execution.attach()
        back.set_result(len(run.abandoned))

    loop.call_later(GRACE_S * chances.uniform(0.9, 1.1), come_back)
    given_up_before = await back
    await asyncio.sleep(2 * GRACE_S)
    assert len(run.abandoned) == given_up_before
    if not given_up_before:
        run.execution.detach()
        await asyncio.sleep(2 * GRACE_S)
        assert len(run.abandoned) == 1


async def test_the_place_of_who_has_gone_is_kept() -> None:
    """While the grace lasts the run is told to wait as by a slow reader, and nothing unread is dropped;
    the caller who comes back reads on, and lets it go on."""
    run = Run(3600)
    reader = run.execution.reader(attached=True)
    run.execution.attach()
    for number in range(20):
        run.write(number)
    (batch, *_) = [await reader.next_batch()]
    seen = batch[-1].sequence
    run.execution.detach(reader)
    for number in range(20, 90):
        run.write(number)
    assert run.flows == [False]
    again = run.execution.reader(seen, attached=True)
    run.execution.attach()
    entries = []
    while again.sequence < run.execution.journal.last_sequence:
        entries += await again.next_batch()
    assert [entry.sequence for entry in entries] == list(range(seen + 1, 92))
    assert run.flows == [False, True]
    run.execution.detach(again)
    run.execution.complete(Completed(Outcome.SUCCEEDED, "", state_kept=True))
    assert not run.abandoned


async def test_what_was_under_way_is_kept() -> None:
    """Of what a caller had read before it went seven eighths of the journal are kept for its return,
    since it may not have arrived: the run waits once it has written another eighth."""
    run = Run(3600)
    reader = run.execution.reader(attached=True)
    run.execution.attach()
    for number in range(200):
        run.write(number)
        await reader.next_batch()
    assert run.flows == []
    run.execution.detach(reader)
    numbers = itertools.count()
    while not run.flows:
        run.write(next(numbers))
    last = run.execution.journal.last_sequence
    assert (run.flows, last - reader.sequence) == ([False], 100 // 8 + 1)
    again = run.execution.reader(reader.sequence - 100 * 7 // 8, attached=True)
    run.execution.attach()
    sequences = []
    while again.sequence < last:
        sequences += [entry.sequence for entry in await again.next_batch()]
    assert sequences == list(range(last - 100 + 1, last + 1))
    assert run.flows == [False, True]
    run.execution.detach(again)
    run.execution.complete(Completed(Outcome.SUCCEEDED, "", state_kept=True))


async def test_without_a_return_the_run_goes_on_to_its_end() -> None:
    """Once the grace has passed the run waits for nobody: it is told to go on, and to stop."""
    run = Run(GRACE_S)
    reader = run.execution.reader(attached=True)
    run.execution.attach()
    run.execution.detach(reader)
    for number in range(90):
        run.write(number)
    assert run.flows == [False]
    await run.given_up.wait()
    assert run.abandoned == [run.execution]
    assert run.flows == [False, True]

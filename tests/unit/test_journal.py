"""Journals: what a reader that comes when their oldest part is dropped is told of it."""

from __future__ import annotations

import pytest

from codecontext_service.domain.events import Gap, GapReason, Stream
from codecontext_service.executions.journal import Journal

KEPT = 10


def filled(events: int) -> Journal:
    """A journal whose n-th event has n % 7 + 1 bytes, and which holds the last ones."""
    journal = Journal(1 << 20, KEPT, lambda flowing: None)
    for number in range(1, events + 1):
        journal.append(Stream(number % 2 == 0, content(number)))
    return journal


def content(number: int) -> bytes:
    """What the event with a sequence holds."""
    return b"x" * (number % 7 + 1)


async def gap_after(journal: Journal, sequence: int) -> Gap:
    """The first event that a reader from a sequence on gets."""
    reader = journal.reader(sequence, attached=False)
    (first, *_) = await reader.next_batch()
    reader.close()
    assert isinstance(first.event, Gap)
    assert first.event.reason is GapReason.JOURNAL_BOUND
    return first.event


@pytest.mark.parametrize("after", [0, 1, 2, 500, 888, 889])
async def test_a_late_reader_is_told_what_it_missed(after: int) -> None:
    """Who goes on after an event that was dropped is told how many events and bytes came since then."""
    events = 900
    gap = await gap_after(filled(events), after)
    assert gap.events == events - KEPT - after
    assert gap.bytes == sum(len(content(n)) for n in range(after + 1, events - KEPT + 1))


@pytest.mark.parametrize("after", [0, 1, 77, 5_000, 60_000, 99_000])
async def test_a_long_journal_tells_bytes_in_bounded_memory(after: int) -> None:
    """However much was dropped: the events are exact, and the bytes never too few, nor too many by more
    than what one in five hundred of the events dropped held."""
    events = 100_000
    gap = await gap_after(filled(events), after)
    missed = sum(len(content(n)) for n in range(after + 1, events - KEPT + 1))
    assert gap.events == events - KEPT - after
    assert missed <= gap.bytes <= missed + events // 500 * len(content(6))

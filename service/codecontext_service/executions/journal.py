"""The journal of an execution: numbered events in bounded memory, for any number of readers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from codecontext_service.domain.events import (
    Clear,
    Completed,
    Display,
    Error,
    Event,
    Gap,
    GapReason,
    InputRequested,
    MimePart,
    Started,
    Stream,
)

_ENTRY_COST = 64
"""What an event counts beyond its content, in bytes."""

_CHUNK = 64 * 1024
"""Up to which size chunks of a stream that nobody has read yet are put together."""

_BATCH = 64
"""How many entries a reader takes at a time."""

PIECE = 1 << 20
"""The most content that one result event has; a larger result goes in several."""

_MAX_MARKS = 1024
"""How many places among the entries that were dropped a journal remembers."""


@dataclass(slots=True)
class Entry:
    """A numbered event."""

    sequence: int
    time_ns: int
    """When it came, in nanoseconds since 1970."""
    event: Event
    late: bool
    size: int
    offset: int
    """The sizes of all entries before this one."""


def size_of(event: Event) -> int:
    """Returns how many bytes of content an event has."""
    match event:
        case Stream():
            return len(event.data)
        case Display():
            parts = sum(part.size + len(part.mime_type) for part in event.parts)
            return parts + event.metadata_size
        case Error():
            return len(event.value) + sum(map(len, event.traceback))
        case InputRequested():
            return len(event.prompt)
        case Started() | Clear() | Gap() | Completed():
            return 0


def pieces(display: Display) -> Iterator[Display]:
    """Splits a result into results of at most `PIECE` bytes, all but the last of them `continued`."""
    if size_of(display) <= PIECE:
        yield display
        return
    split: list[MimePart] = []
    for part in display.parts:
        # A character has four bytes at most, so that a text's encoding never exceeds a piece.
        step = PIECE if part.data is not None else PIECE // 4
        length = len(part.data if part.data is not None else part.text or "")
        for at in range(0, length or 1, step):
            if part.data is not None:
                split.append(MimePart(part.mime_type, data=part.data[at : at + step]))
            else:
                split.append(MimePart(part.mime_type, text=(part.text or "")[at : at + step]))
    for number, part in enumerate(split, start=1):
        metadata, size = (display.metadata, display.metadata_size) if number == 1 else ({}, 0)
        yield replace(
            display,
            parts=[part],
            metadata=metadata,
            metadata_size=size,
            continued=number < len(split),
        )


class _Marks:
    """Where the entries that were dropped were: of all at first, then of every second, fourth and so on."""

    def __init__(self) -> None:
        """Starts without any."""
        self._stride = 1
        self._offsets = array("Q")

    def add(self, entry: Entry) -> None:
        """Takes the next entry that is dropped."""
        if entry.sequence % self._stride:
            return
        self._offsets.append(entry.offset)
        if len(self._offsets) >= _MAX_MARKS:
            self._offsets = self._offsets[1::2]
            self._stride *= 2

    def offset_of(self, sequence: int) -> int:
        """Returns the offset of a dropped entry, as if those since the last mark had no content."""
        marked = sequence // self._stride
        offset = self._offsets[marked - 1] if marked else 0
        return offset + _ENTRY_COST * (sequence - max(1, marked * self._stride))


class Journal:
    """The events of one execution: the newest within bounds, and all that an attached reader lacks."""

    def __init__(self, max_bytes: int, max_events: int, on_flow: Callable[[bool], None]) -> None:
        """Makes an empty journal.

        Args:
            max_bytes: Bytes of content that it holds.
            max_events: Events that it holds.
            on_flow: Is called with False when an attached reader is so far behind that no more
                should come, with True when more may come.
        """
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._on_flow = on_flow
        self._flowing = True
        self._entries: deque[Entry] = deque()
        self._dropped = _Marks()
        self._offset = 0
        self._read_sequence = 0
        self._readers: set[Reader] = set()
        self.last_sequence = 0
        self.closed = False
        self._sinks: list[Callable[[Event, int], None]] = []

    @property
    def bytes(self) -> int:
        """What it holds, in bytes."""
        return self._offset - self._entries[0].offset if self._entries else 0

    @property
    def entries(self) -> Iterator[Entry]:
        """What it holds."""
        return iter(self._entries)

    @contextlib.contextmanager
    def passing_on(self, sink: Callable[[Event, int], None]) -> Iterator[None]:
        """Calls a function with each event and its sequence, as it comes."""
        self._sinks.append(sink)
        try:
            yield
        finally:
            self._sinks.remove(sink)

    def append(self, event: Event, *, late: bool = False) -> None:
        """Adds an event; `Completed` closes the journal."""
        if isinstance(event, Display):
            for piece in pieces(event):
                self._append(piece, late)
        else:
            self._append(event, late)
        self.closed = isinstance(event, Completed)
        self._trim()
        if self._readers:
            self._check_flow()
            for reader in self._readers:
                reader.wake()

    def _append(self, event: Event, late: bool) -> None:
        size = size_of(event) + _ENTRY_COST
        last = self._entries[-1] if self._entries else None
        if (
            isinstance(event, Stream)
            and last is not None
            and isinstance(last.event, Stream)
            and last.event.stderr == event.stderr
            and last.late == late
            and last.sequence > self._read_sequence
            and last.size + len(event.data) <= _CHUNK
        ):
            last.event = Stream(event.stderr, last.event.data + event.data)
            last.size += len(event.data)
            self._offset += len(event.data)
        else:
            self.last_sequence += 1
            self._entries.append(
                Entry(self.last_sequence, time.time_ns(), event, late, size, self._offset)
            )
            self._offset += size
        for sink in self._sinks:
            sink(event, self.last_sequence)

    def offset_after(self, sequence: int) -> int:
        """Returns the sizes of all entries up to a sequence, dropped ones too.

        Where more than `_MAX_MARKS` were dropped it may be the sizes of a few less.
        """
        if not self._entries or sequence >= self.last_sequence:
            return self._offset
        first = self._entries[0]
        if sequence + 1 >= first.sequence:
            return self._entries[sequence + 1 - first.sequence].offset
        return self._dropped.offset_of(sequence + 1)

    def _trim(self) -> None:
        if self.bytes <= self._max_bytes and len(self._entries) <= self._max_events:
            return
        needed = min(
            (reader.sequence for reader in self._readers if reader.attached),
            default=self.last_sequence,
        )
        while (
            (self.bytes > self._max_bytes or len(self._entries) > self._max_events)
            and len(self._entries) > 1
            and self._entries[0].sequence <= needed
        ):
            self._dropped.add(self._entries.popleft())

    def _check_flow(self) -> None:
        """Tells whether more may come, if that has changed."""
        flowing = not any(
            reader.behind(self._flowing) for reader in self._readers if reader.attached
        )
        if flowing != self._flowing:
            self._flowing = flowing
            self._on_flow(flowing)

    @property
    def flowing(self) -> bool:
        """Whether no attached reader is far behind."""
        return self._flowing

    def reader(self, after_sequence: int = 0, *, attached: bool) -> Reader:
        """Makes a reader, which must be closed.

        Args:
            after_sequence: The sequence of the last event that it does not want.
            attached: Whether the run waits for it.
        """
        reader = Reader(self, after_sequence, attached=attached)
        self._readers.add(reader)
        return reader

    def _next_batch(self, reader: Reader) -> list[Entry]:
        batch: list[Entry] = []
        if not self._entries or reader.sequence >= self.last_sequence:
            return batch
        first = self._entries[0]
        if reader.sequence + 1 < first.sequence:
            missed = Gap(
                first.sequence - 1 - reader.sequence,
                max(
                    0,
                    first.offset
                    - reader.offset
                    - _ENTRY_COST * (first.sequence - 1 - reader.sequence),
                ),
                GapReason.JOURNAL_BOUND,
            )
            batch.append(Entry(first.sequence - 1, first.time_ns, missed, False, 0, first.offset))
            reader.sequence = first.sequence - 1
        skip = reader.sequence + 1 - first.sequence
        batch.extend(itertools.islice(self._entries, skip, skip + _BATCH))
        reader.sequence = batch[-1].sequence
        reader.offset = batch[-1].offset + batch[-1].size
        self._read_sequence = max(self._read_sequence, reader.sequence)
        self._check_flow()
        return batch

    def _leave(self, reader: Reader) -> None:
        self._readers.discard(reader)
        self._trim()
        self._check_flow()

    def _limits(self) -> tuple[int, int, int]:
        return self._offset, self._max_bytes, self._max_events


class Reader:
    """One reader of a journal: a place in it, and a way to wait for more."""

    def __init__(self, journal: Journal, after_sequence: int, *, attached: bool) -> None:
        """Makes a reader; see `Journal.reader`."""
        self.sequence = after_sequence
        self.offset = journal.offset_after(after_sequence)
        self.attached = attached
        self.absent = False
        """Whether nobody reads here now. Little more is let in then: the journal should hold what was
        read here and never arrived."""
        self._journal = journal
        self._wakeup: asyncio.Future[None] | None = None

    def behind(self, flowing: bool) -> bool:
        """Returns whether the run should wait for this reader: it stops late and goes on early."""
        offset, max_bytes, max_events = self._journal._limits()
        share = 8 if self.absent else 2 if flowing else 4
        return (
            offset - self.offset > max_bytes // share
            or self._journal.last_sequence - self.sequence > max_events // share
        )

    def wake(self) -> None:
        """Ends the wait for more."""
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    async def next_batch(self) -> list[Entry]:
        """Waits for the next entries.

        Returns:
            What has come, as many as there are; nothing when the journal is closed and read.
        """
        while True:
            if batch := self._journal._next_batch(self):
                return batch
            if self._journal.closed:
                return []
            self._wakeup = asyncio.get_running_loop().create_future()
            await self._wakeup

    def close(self) -> None:
        """Leaves the journal."""
        self._journal._leave(self)

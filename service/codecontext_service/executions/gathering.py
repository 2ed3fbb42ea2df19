"""An execution's events gathered into one answer, within the size of a message."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from codecontext_service.domain.events import (
    Completed,
    Display,
    Error,
    Event,
    Gap,
    GapReason,
    MimePart,
    Started,
    Stream,
)

_PART_COST = 256
"""What a part or an event counts beyond its content, in bytes."""

_LINE_COST = 8
"""What a line of a traceback counts beyond its text, in bytes."""


@dataclass
class Gathered:
    """What an execution has made so far."""

    max_bytes: int
    """The most content that is kept; the rest is counted in a gap."""

    execution_count: int = 0
    stdout: list[bytes] = field(default_factory=list)
    stderr: list[bytes] = field(default_factory=list)
    results: list[Display] = field(default_factory=list)
    error: Error | None = None
    completed: Completed | None = None
    last_sequence: int = 0
    _gaps: list[Gap] = field(default_factory=list)
    _cut: Gap = field(default_factory=lambda: Gap(0, 0, GapReason.MESSAGE_SIZE))
    _size: int = 0
    _sizes: list[int] = field(default_factory=list)
    """What each result counts, in bytes."""
    _displays: dict[str, list[int]] = field(default_factory=dict)
    """The places of the results of each `display_id`."""
    _continued: list[Display] = field(default_factory=list)

    @property
    def gaps(self) -> list[Gap]:
        """What is missing."""
        return self._gaps + ([self._cut] if self._cut.events else [])

    def add(self, event: Event, sequence: int) -> None:
        """Takes the next event."""
        self.last_sequence = sequence
        match event:
            case Stream(stderr, data):
                room = max(0, self.max_bytes - self._size)
                if len(data) > room:
                    self._cut.events += 1
                    self._cut.bytes += len(data) - room
                    data = data[:room]
                if data:
                    self._size += len(data)
                    (self.stderr if stderr else self.stdout).append(data)
            case Display():
                self._continued.append(event)
                if not event.continued:
                    self._add_display(_join(self._continued))
                    self._continued = []
            case Error():
                self.error = self._fit_error(event)
            case Gap():
                self._gaps.append(event)
            case Started(count):
                self.execution_count = count
            case Completed():
                self.completed = event

    def _add_display(self, display: Display) -> None:
        """Adds a result; an update takes the place of all earlier results of its `display_id`."""
        earlier = self._displays.setdefault(display.display_id, []) if display.display_id else []
        places = list(earlier) if display.update else []
        for place in places:
            self._size -= self._sizes[place]
            self._sizes[place] = 0
        for place in places or [len(self.results)]:
            before = self._size
            shown = self._fit(display)
            if place < len(self.results):
                main = self.results[place].is_main_result
                self.results[place] = replace(shown, is_main_result=main)
                self._sizes[place] = self._size - before
            elif shown.parts or not display.parts:
                self.results.append(shown)
                self._sizes.append(self._size - before)
                earlier.append(place)

    def _fit(self, display: Display) -> Display:
        parts = []
        beside = display.metadata_size + len(display.display_id) + _PART_COST
        for part in display.parts:
            size = part.size + len(part.mime_type) + _PART_COST
            if self._size + beside + size > self.max_bytes:
                self._cut.bytes += part.size
                continue
            self._size += size
            parts.append(part)
        if len(parts) < len(display.parts):
            self._cut.events += 1
        if not parts and self._size + beside > self.max_bytes:
            return replace(display, parts=[], metadata={}, metadata_size=0, continued=False)
        self._size += beside
        return replace(display, parts=parts, continued=False)

    def _fit_error(self, error: Error) -> Error:
        """Cuts what no message could hold: the text and the traceback of an error have room of their own."""
        return cut_error(error, max(64 * 1024, (self.max_bytes - self._size) // 8))


def cut_error(error: Error, max_bytes: int) -> Error:
    """Cuts an error's text, and the middle of its traceback, to a size in bytes each."""
    return replace(
        error,
        value=_cut(error.value, max_bytes),
        traceback=_cut_middle(error.traceback, max_bytes),
    )


def _cut(text: str, max_bytes: int) -> str:
    content = text.encode()
    return (
        text if len(content) <= max_bytes else content[:max_bytes].decode("utf-8", "ignore") + "…"
    )


def _cut_middle(lines: list[str], max_bytes: int) -> list[str]:
    sizes = [len(line.encode()) + _LINE_COST for line in lines]
    if sum(sizes) <= max_bytes:
        return lines
    head, tail, room = 0, len(lines), max_bytes // 2
    while head < tail and sizes[head] <= room:
        room -= sizes[head]
        head += 1
    room = max_bytes // 2
    while tail > head and sizes[tail - 1] <= room:
        room -= sizes[tail - 1]
        tail -= 1
    return [*lines[:head], "…", *lines[tail:]]


def _join(displays: list[Display]) -> Display:
    """Puts the pieces of a result together again."""
    if len(displays) == 1:
        return displays[0]
    joined: dict[str, MimePart] = {}
    chunks: dict[str, list[bytes | str]] = {}
    for display in displays:
        for part in display.parts:
            joined.setdefault(part.mime_type, part)
            chunks.setdefault(part.mime_type, []).append(
                part.data if part.data is not None else part.text or ""
            )
    parts = [
        MimePart(mime, data=b"".join(chunks[mime]))  # type: ignore[arg-type]
        if part.data is not None
        else MimePart(mime, text="".join(chunks[mime]))  # type: ignore[arg-type]
        for mime, part in joined.items()
    ]
    return replace(displays[0], parts=parts, continued=False)

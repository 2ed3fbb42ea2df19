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
        parts = []
        for part in display.parts:
            size = (
                part.size * (1 if part.data is not None or (part.text or "").isascii() else 4)
                + _PART_COST
            )
            if self._size + size > self.max_bytes:
                self._cut.bytes += part.size
                continue
            self._size += size
            parts.append(part)
        if len(parts) < len(display.parts):
            self._cut.events += 1
        if parts or not display.parts:
            self.results.append(replace(display, parts=parts, continued=False))

    def _fit_error(self, error: Error) -> Error:
        """Cuts what no message could hold: the text and the traceback of an error have room of their own."""
        return cut_error(error, max(64 * 1024, (self.max_bytes - self._size) // 8))


def cut_error(error: Error, max_bytes: int) -> Error:
    """Cuts an error's text and the middle of its traceback to a size."""
    value = error.value if len(error.value) <= max_bytes else error.value[:max_bytes] + "…"
    lines = [line[:max_bytes] for line in error.traceback]
    while len(lines) > 2 and sum(map(len, lines)) > max_bytes:
        middle = len(lines) // 2
        keep = max(1, len(lines) // 4)
        lines = [*lines[:keep], "…", *lines[max(middle, len(lines) - keep) :]]
        if len(lines) <= 3:
            lines = [line[: max_bytes // 3] for line in lines]
            break
    return replace(error, value=value, traceback=lines)


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

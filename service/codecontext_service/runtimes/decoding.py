"""What comes over an interpreter's channel, turned into events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codecontext_service.domain.events import (
    Clear,
    Display,
    Error,
    Event,
    Gap,
    GapReason,
    InputRequested,
    MimePart,
)
from codecontext_service.domain.questions import Completions, Description
from codecontext_service.workers import channel, display_records
from codecontext_service.workers.channel import ProtocolError

from .base import Finished, UnansweredError


@dataclass(frozen=True)
class ForkAnswer:
    """What an interpreter says to an order to fork."""

    pid: int
    """The child's, as the interpreter sees it."""
    threads: list[str]
    """The threads that the child has not."""
    refused: bool
    """Whether there is no child, because of them."""
    error: str
    """Why there is no child, if not because of them; empty if there is one."""


_MAX_CURSOR = (1 << 31) - 1
_KINDS = ("result", "display", "update")


def _text(message: dict[str, Any], name: str, max_length: int = channel.MAX_JSON) -> str:
    value = message.get(name, "")
    if not isinstance(value, str) or len(value) > max_length:
        raise ProtocolError(f"{name} is no text, or too long")
    return value.encode("utf-8", "replace").decode() if not value.isascii() else value


def _number(message: dict[str, Any], name: str) -> float:
    value = message.get(name, 0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise ProtocolError(f"{name} is no number")
    return value


def decode_display(content: bytes) -> list[Event]:
    """Decodes a display record.

    Returns:
        The display, and a gap if representations were left out.

    Raises:
        ProtocolError: It is none.
    """
    header, raw = display_records.unpack_display(content)
    if len(raw) > channel.MAX_PARTS:
        raise ProtocolError("a display of too many parts")
    parts = []
    for mime, text, data in raw:
        mime_type = _text({"mime": mime}, "mime", channel.MAX_MIME_TYPE)
        parts.append(
            MimePart(mime_type, text=data.decode("utf-8", "replace"))
            if text
            else MimePart(mime_type, data=data)
        )
    kind, metadata = header.get("kind"), header.get("metadata", {})
    if kind not in _KINDS or not isinstance(metadata, dict):
        raise ProtocolError("a display of no known kind")
    try:
        size = display_records.metadata_size(metadata)
    except ValueError as error:
        raise ProtocolError(str(error)) from error
    display = Display(
        parts,
        metadata,
        size,
        is_main_result=kind == "result",
        display_id=_text(header, "display_id", channel.MAX_NAME),
        update=kind == "update",
    )
    omitted = int(_number(header, "omitted"))
    return [display, Gap(0, omitted, GapReason.MESSAGE_SIZE)] if omitted else [display]


def decode_event(kind: bytes, content: bytes) -> list[Event]:
    """Decodes what the code has made.

    Raises:
        ProtocolError: It is no event.
    """
    if kind == channel.DISPLAY:
        return decode_display(content)
    message = channel.from_json(content)
    if kind == channel.ERROR:
        lines = message.get("traceback", [])
        if not isinstance(lines, list):
            raise ProtocolError("a traceback that is no list")
        traceback = [_text({"line": line}, "line") for line in lines]
        line_number = min(int(_number(message, "line_number")), (1 << 31) - 1)
        name = _text(message, "name", channel.MAX_NAME)
        return [Error(name, _text(message, "value"), traceback, line_number)]
    if kind == channel.CLEAR:
        return [Clear(bool(message.get("wait")))]
    if kind == channel.INPUT_REQUEST:
        number = int(_number(message, "number"))
        prompt = _text(message, "prompt", channel.MAX_CONTENT)
        return [InputRequested(prompt, bool(message.get("password")), number)]
    raise ProtocolError("a message of no known type")


def decode_finished(content: bytes) -> Finished:
    """Decodes the end of a run.

    Raises:
        ProtocolError: It is none.
    """
    message = channel.from_json(content)
    return Finished(
        raised=bool(message.get("raised")),
        interrupted=bool(message.get("interrupted")),
        cpu_time_s=_number(message, "cpu"),
        peak_memory_bytes=int(_number(message, "peak")),
    )


def decode_forked(content: bytes) -> tuple[int, ForkAnswer]:
    """Decodes the answer to an order to fork.

    Returns:
        The number of the order, and the answer.

    Raises:
        ProtocolError: It is none.
    """
    message = channel.from_json(content)
    number = int(_number(message, "number"))
    names = message.get("threads", message.get("lost", []))
    if not isinstance(names, list) or len(names) > channel.MAX_THREAD_NAMES:
        raise ProtocolError("threads that are no list, or too many")
    threads = [_text({"name": name}, "name", channel.MAX_THREAD_NAME) for name in names]
    return number, ForkAnswer(
        pid=int(_number(message, "pid")),
        threads=threads,
        refused="threads" in message,
        error=_text(message, "error", channel.MAX_NAME),
    )


def decode_exited(content: bytes) -> dict[str, Any]:
    """Decodes what an interpreter tells of the end of one that was forked from it.

    Raises:
        ProtocolError: It is no such report.
    """
    message = channel.from_json(content)
    report: dict[str, Any] = {name: _number(message, name) for name in ("exited", "cpu", "peak")}
    code = message.get("code")
    if not isinstance(code, int) or not -(1 << 31) <= code < 1 << 31:
        raise ProtocolError("an exit status that is none")
    return {**report, "peak": int(report["peak"]), "code": code}


def decode_answer(content: bytes) -> tuple[int, Completions | Description | UnansweredError]:
    """Decodes the answer to a question.

    Returns:
        The number of the question, and its answer or why there is none.

    Raises:
        ProtocolError: It is none.
    """
    message = channel.from_json(content)
    number = int(_number(message, "number"))
    if "failure" in message:
        return number, UnansweredError(_text(message, "failure", channel.MAX_NAME))
    if "data" in message:
        data = message["data"]
        if not isinstance(data, dict) or len(data) > channel.MAX_PARTS:
            raise ProtocolError("a description that is none")
        parts = [
            MimePart(
                _text({"mime": mime}, "mime", channel.MAX_MIME_TYPE),
                text=_text(data, mime, channel.MAX_ANSWER_TEXT),
            )
            for mime in data
        ]
        if sum(part.size for part in parts) > channel.MAX_ANSWER_BYTES:
            raise ProtocolError("a description that is too large")
        return number, Description(parts)
    matches = message.get("matches")
    if not isinstance(matches, list) or len(matches) > channel.MAX_MATCHES:
        raise ProtocolError("matches that are no list, or too many")
    texts = [_text({"match": match}, "match", channel.MAX_ANSWER_TEXT) for match in matches]
    if sum(map(len, texts)) > channel.MAX_ANSWER_TEXT:
        raise ProtocolError("matches that are too large")
    start, end = (int(_number(message, name)) for name in ("cursor_start", "cursor_end"))
    if max(start, end) > _MAX_CURSOR:
        raise ProtocolError("a cursor that is outside of any code")
    return number, Completions(texts, start, end)

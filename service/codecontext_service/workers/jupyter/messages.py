"""Jupyter's messages, turned into those of the channel."""

from __future__ import annotations

import re
from typing import Any

from codecontext_service.workers import channel
from codecontext_service.workers.display_records import pack_display
from codecontext_service.workers.python.bundles import encode_bundle
from codecontext_service.workers.python.streams import ERRORS, clean, clean_lines

_MAX_ERROR_TEXT = 256 * 1024
"""The most characters of an error's text, and of its traceback, that are sent."""

_ESCAPES = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")
"""Colours, and whatever else a terminal would obey."""

_KINDS = {
    "execute_result": "result",
    "display_data": "display",
    "update_display_data": "update",
}

_LINES = (
    re.compile(r"^\s*(?:Cell In ?\[\d+\]|File <ipython-input[^>]*>).*?line (\d+)", re.MULTILINE),
    re.compile(r"<anonymous>:(\d+):\d+"),
)
"""How kernels name a line of the run's own code: IPython's the innermost last, those of V8 first."""


def plain(text: str) -> str:
    """Returns a text without a terminal's escapes."""
    return _ESCAPES.sub("", text)


def parent(message: dict[str, Any]) -> str:
    """Returns the id of the request that a message belongs to; empty if it says none."""
    return str((message.get("parent_header") or {}).get("msg_id") or "")


def encode(kind: str, content: dict[str, Any]) -> tuple[bytes, bytes] | None:
    """Turns something that a kernel publishes into a message of the channel.

    Args:
        kind: The type of Jupyter's message.
        content: Its content.

    Returns:
        The message's type and content; None for what has no counterpart.
    """
    if kind == "stream":
        to = channel.STDERR if content.get("name") == "stderr" else channel.STDOUT
        return to, str(content.get("text", "")).encode("utf-8", ERRORS)
    if kind in _KINDS:
        transient = content.get("transient") or {}
        display_id = str(transient.get("display_id") or "")
        return display(_KINDS[kind], content, display_id)
    if kind == "clear_output":
        return channel.CLEAR, channel.to_json({"wait": bool(content.get("wait"))})
    return None


def display(kind: str, content: dict[str, Any], display_id: str = "") -> tuple[bytes, bytes]:
    """Returns a display: `kind` is `result`, `display` or `update`, `content` has `data` and `metadata`."""
    data = dict(content.get("data") or {})
    if kind == "result" and isinstance(data.get("text/plain"), str):
        data["text/plain"] = plain(data["text/plain"])  # some kernels colour it
    header, parts = encode_bundle(data, content.get("metadata"))
    header |= {"kind": kind, "display_id": clean(display_id, channel.MAX_NAME)}
    return channel.DISPLAY, pack_display(header, parts)


def page(payload: dict[str, Any]) -> tuple[bytes, bytes]:
    """Returns a display of what a kernel would show in a pager."""
    data = {
        mime: plain(text) if mime == "text/plain" and isinstance(text, str) else text
        for mime, text in (payload.get("data") or {}).items()
    }
    return display("display", {"data": data})


def error(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of an `ERROR`, from what a kernel says in an error or a reply."""
    lines = [
        line for text in content.get("traceback") or () for line in plain(str(text)).split("\n")
    ]
    name = str(content.get("ename") or "Error")
    value = plain(str(content.get("evalue") or ""))
    return {
        "name": clean(name, channel.MAX_NAME),
        "value": clean(value, _MAX_ERROR_TEXT),
        "traceback": clean_lines(lines or [f"{name}: {value}"], _MAX_ERROR_TEXT),
        "line_number": _line_number("\n".join(lines)),
    }


def _line_number(traceback: str) -> int:
    innermost_last, innermost_first = (pattern.findall(traceback) for pattern in _LINES)
    if innermost_last:
        return int(innermost_last[-1])
    return int(innermost_first[0]) if innermost_first else 0


def completions(reply: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer to a completion."""
    matches, room = [], channel.MAX_ANSWER_TEXT
    for text in (reply.get("matches") or ())[: channel.MAX_MATCHES]:
        match = clean(str(text), channel.MAX_ANSWER_TEXT)
        room -= len(match)
        if room < 0:
            break
        matches.append(match)
    start, end = (max(0, int(reply.get(name) or 0)) for name in ("cursor_start", "cursor_end"))
    return {"matches": matches, "cursor_start": start, "cursor_end": end}


def description(reply: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer to an inspection."""
    data: dict[str, str] = {}
    room = channel.MAX_ANSWER_BYTES
    found = (reply.get("data") or {}) if reply.get("found") else {}
    for mime, text in list(found.items())[: channel.MAX_PARTS]:
        if isinstance(text, str):
            shown = clean(plain(text), channel.MAX_ANSWER_TEXT)
            room -= len(shown.encode())
            if room < 0:
                break
            data[clean(mime, channel.MAX_MIME_TYPE)] = shown
    return {"data": data}

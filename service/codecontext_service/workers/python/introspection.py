"""Completions and descriptions of names, made in a copy of the interpreter.

Both may call the code's own methods (`__dir__`, `__getattr__`, `__repr__`, a completer), which may change
the state, write, hang or crash. All of that happens in a forked child, which ends with the answer.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import struct
import time
import warnings
from typing import Any, NoReturn

from IPython.core.completer import provisionalcompleter, rectify_completions
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.tokenutil import token_at_cursor

from codecontext_service.workers.channel import (
    MAX_ANSWER_BYTES,
    MAX_ANSWER_TEXT,
    MAX_MATCHES,
    MAX_MIME_TYPE,
    MAX_PARTS,
)

from .streams import clean

_MAX_BYTES = 8 << 20
_NAME_ENDS = (")", "]", "}", "'", '"')


def answer(shell: InteractiveShell, question: dict[str, Any]) -> dict[str, Any]:
    """Answers a question about the names that the shell knows, and changes nothing in this process.

    Args:
        shell: The shell.
        question: `inspect` (else it is a completion), `code`, `cursor`, `with_source`, and
            `timeout`: how long the answer may take, in seconds.

    Returns:
        `matches`, `cursor_start` and `cursor_end`; or `data`, descriptions by MIME type; or `failure`,
        why there is no answer.
    """
    try:
        content = _ask_child(shell, question)
    except OSError as error:  # no more descriptors or processes
        return {"failure": f"no process could be made for it: {error.strerror}"}
    if content is None:
        return {"failure": f"it took longer than {question['timeout']:g} s"}
    try:
        result: dict[str, Any] = json.loads(content)
    except ValueError:
        return {"failure": "the process that worked on it died"}
    return result


def _ask_child(shell: InteractiveShell, question: dict[str, Any]) -> bytes | None:
    """Has a forked child work on a question; it is gone when this returns.

    Returns:
        Its answer as JSON; None if it took too long.

    Raises:
        OSError: There could be no child.
    """
    with contextlib.ExitStack() as stack:
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # threads are left behind, which is meant
                pid = os.fork()
            if pid == 0:
                _answer_in_child(shell, question, writing)
        finally:
            os.close(writing)
        # A handler of the code's may reap it at any time; a pidfd never means another process then.
        with contextlib.suppress(ProcessLookupError):
            stack.callback(_end, os.pidfd_open(pid))
        return _read(reading, time.monotonic() + question["timeout"])


def _end(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


def _read(fd: int, deadline: float) -> bytes | None:
    """Reads an answer: its length, then as many bytes. Nothing else tells its end for sure.

    Returns:
        What came; None if the deadline passed before it was all there.
    """
    content, size = b"", 4
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while len(content) < size:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        piece = os.read(fd, 1 << 16)
        if not piece:
            break
        content += piece
        if len(content) >= 4:
            size = 4 + min(_MAX_BYTES, struct.unpack_from(">I", content)[0])
    return content[4:]


def _answer_in_child(shell: InteractiveShell, question: dict[str, Any], fd: int) -> NoReturn:
    try:
        gc.disable()  # finalizers would act on files and connections that are not this process's
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        work = _inspect if question["inspect"] else _complete
        try:
            result = work(shell, question)
        except Exception as error:
            result = {"failure": f"it raised {clean(type(error).__name__, 200)}"}
        content = json.dumps(result).encode("ascii")
        content = struct.pack(">I", len(content)) + content
        while content:
            content = content[os.write(fd, content) :]
    finally:
        os._exit(0)


def _complete(shell: InteractiveShell, question: dict[str, Any]) -> dict[str, Any]:
    code, cursor = question["code"], question["cursor"]
    # Jedi runs properties, writes a cache into the home directory, and takes up to a second in a
    # process that has not used it before. IPython's own completer looks at what is really there.
    shell.Completer.use_jedi = False
    with provisionalcompleter():
        found = list(rectify_completions(code, shell.Completer.completions(code, cursor)))
    if not found:
        return {"matches": [], "cursor_start": cursor, "cursor_end": cursor}
    start, end = found[0].start, found[0].end
    texts = list(dict.fromkeys(each.text for each in found))
    if _is_attribute(code, start) and all(text.startswith(".") for text in texts):
        start += 1
        texts = [text[1:] for text in texts]
    matches, room = [], MAX_ANSWER_TEXT
    for text in texts[:MAX_MATCHES]:
        match = clean(text, len(text))
        room -= len(match)
        if room < 0:
            break
        matches.append(match)
    return {"matches": matches, "cursor_start": start, "cursor_end": end}


def _is_attribute(code: str, at: int) -> bool:
    """Returns whether the dot at a place asks for an attribute, and is not the begin of a file's name."""
    before = code[:at].rstrip()[-1:]
    return code[at : at + 1] == "." and (
        before.isidentifier() or before.isdigit() or before in _NAME_ENDS
    )


def _inspect(shell: InteractiveShell, question: dict[str, Any]) -> dict[str, Any]:
    name = token_at_cursor(question["code"], question["cursor"])
    try:
        bundle = shell.object_inspect_mime(name, detail_level=int(question["with_source"]))
    except KeyError:
        return {"data": {}}
    data: dict[str, str] = {}
    room = MAX_ANSWER_BYTES
    for mime, text in list(bundle.items())[:MAX_PARTS]:
        if isinstance(text, str):
            description = clean(text, MAX_ANSWER_TEXT)
            room -= len(description.encode())
            if room < 0:
                break
            data[clean(str(mime), MAX_MIME_TYPE)] = description
    return {"data": data}

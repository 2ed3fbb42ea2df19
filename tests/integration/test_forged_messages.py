"""What code writes into its own control channel, where it finds it: the worst that it can say."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers import ServerProcess

from codecontext import CodeContextClient, ContextFailedError, ContextState, Outcome

KINDS = "RCQFEILBOTDAacxiqZ\0"
"""The types of all messages in both directions, and some that are none."""


def display(header: object, content: bytes = b"") -> bytes:
    """A display record with any header."""
    head = json.dumps(header).encode()
    return struct.pack(">I", len(head)) + head + content


DISPLAYS = [
    display({}),
    display({"kind": "result", "parts": [["text/plain", True, 5]]}, b"abc"),
    display({"kind": "result", "parts": [["text/plain", True, -1]]}, b"abc"),
    display({"kind": "result", "parts": [["\ud800", True, 1]]}, b"\xff"),
    display({"kind": "result", "parts": [["x" * 10_000, True, 0]]}),
    display({"kind": "result", "parts": [["x", True, 0]] * 5000}),
    display({"kind": "result", "parts": [[1, 2], 3]}),
    display({"kind": "result", "parts": [["x", 1, "y"]]}),
    display({"kind": "result", "parts": [], "metadata": {"a": float("nan"), "b": "\ud800"}}),
    display({"kind": "result", "parts": [], "metadata": {"a": "x" * 60_000}, "display_id": 1}),
    display({"kind": "result", "parts": [], "omitted": -1}),
    display({"kind": "result", "parts": [], "omitted": 1e300}),
    struct.pack(">I", 0xFFFFFFFF),
    b"\0\0",
]
JSONS = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"{",
    b'{"a":' * 10_000,
    b"[" * 60_000,
    b"\xff\xfe",
    b'{"traceback": [1], "name": 2, "value": null, "line_number": "x"}',
    b'{"traceback": ["\\ud800"], "name": "\\ud800", "value": "\\ud800", "line_number": 1e18}',
    b'{"number": -1, "prompt": [], "cpu": NaN, "peak": Infinity}',
    b'{"number": 99999999999999999999999999, "cpu": -1, "peak": 1e400}',
    b'{"number": 1, "data": [1]}',
    b'{"number": 1, "data": {"text/plain": 1}}',
    b'{"number": 1, "matches": [1], "cursor_start": 1, "cursor_end": 1}',
    b'{"number": 1, "matches": [], "cursor_start": NaN, "cursor_end": 1e300}',
    b'{"number": 1, "failure": {}}',
    b'{"cwd_error": 7, "wait": {}}',
]


@pytest.fixture
def private(state: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, whose log can be read to its end."""
    with ServerProcess(state, "--pool-size", "2", "--interrupt-grace-s", "0.5") as each:
        yield each


def test_forged_messages_hurt_their_context_alone(private: ServerProcess) -> None:
    """Whatever code sends over its own control channel, the server goes on, other contexts notice
    nothing, every run ends, and nothing of it looks like a bug of the service."""
    with CodeContextClient(private.target) as client:
        neighbour = client.create_code_context()
        client.run_code("mine = 42", context=neighbour)
        context = client.create_code_context()
        finder = (
            "import os\n"
            "def is_socket(n):\n"
            "    try: return os.readlink(f'/proc/self/fd/{n}').startswith('socket:')\n"
            "    except OSError: return False\n"
            "(fd,) = [int(n) for n in os.listdir('/proc/self/fd') if is_socket(n)]"
        )
        packets = [
            kind.encode() + flag + content
            for kind in KINDS
            for flag in (b".", b"$", b"+", b"?")
            for content in (DISPLAYS if kind == "D" and flag == b"." else JSONS)
            if flag == b"." or content in (b"", b"{}", b"[]")
        ]
        packets += [b"O." + b"x" * 65_537, b"D." + b"x" * 200_000, b"", b"O"]
        told = set()
        for packet in packets:
            if client.get_code_context(context).state is ContextState.FAILED:
                client.restart_code_context(context)
            send = f"{finder}\ntry: os.write(fd, {packet!r})\nexcept OSError: pass\n'told'"
            try:
                told.add(client.run_code(send, context=context, timeout=20).outcome)
            except ContextFailedError:  # of the message before
                continue
            assert client.get_code_context(context).state in (
                ContextState.IDLE,
                ContextState.EXECUTING,
                ContextState.FAILED,
            )
        assert told <= {Outcome.SUCCEEDED, Outcome.CRASHED}
        assert Outcome.CRASHED in told
        assert client.run_code("mine", context=neighbour).text == "42"
        client.delete_code_context(context, force=True)
        client.delete_code_context(neighbour)
    assert private.stop() == 0
    assert not [line for line in private.log if line.get("level") == "error"]


FRAMES = [
    struct.pack("<I", length) + content
    for length, content in (
        (0, b""),
        (1, b"F"),
        (2, b"F."),
        (6, b"F.null"),
        (4, b"D.\0\0"),
        (6, b"D.\xff\xff\xff\xff"),
        (4, b"Z.{}"),
        (4, b"I.[]"),
        (3, b"O+x"),
        (6, b"F$\0\0\0\7"),
        (100_000, b"O." + b"x" * 99_998),
        (1 << 20, b"half a frame"),
        (0xFFFFFFFF, b""),
        (0x7FFFFFFF, b"F." + b"x" * 70_000),
    )
]
"""Frames that are too short, too long, or hold what is no message."""


def test_forged_frames_hurt_their_context_alone(private: ServerProcess) -> None:
    """Where the channel is a stream, as that of Node is, what is forged in it ends its context alone."""
    with CodeContextClient(private.target) as client:
        neighbour = client.create_code_context("javascript")
        client.run_code("const mine = 42", context=neighbour)
        context = client.create_code_context("javascript")
        for frame in FRAMES:
            code = f"require('fs').writeSync(3, Buffer.from('{frame.hex()}', 'hex')); 'told'"
            execution = client.run_code(code, context=context, timeout=20)
            assert (execution.outcome, execution.state_kept) == (Outcome.CRASHED, False), frame[:9]
            assert "control channel was corrupted" in execution.outcome_message
            client.restart_code_context(context)
        assert client.run_code("mine", context=neighbour).text == "42"
        client.delete_code_context(context, force=True)
        client.delete_code_context(neighbour)
    assert private.stop() == 0
    assert not [line for line in private.log if line.get("level") == "error"]

"""Contexts whose neighbour does its worst."""

from __future__ import annotations

import pytest
from support.processes import inhabitants
from support.runs import LiveRun

from codecontext import CodeContext, CodeContextClient, Outcome, ResourceLimits

LIMITS = ResourceLimits(memory_bytes=200 << 20, processes=24, workspace_bytes=16 << 20)
_ON = "\nprint('begun', flush=True)\n"

FORK_BOMB = f"""
import os
first = os.getpid()
def fork():
    try:
        while True:
            os.fork()
    except OSError:
        pass
fork()
if os.getpid() == first:{_ON.replace(chr(10), " ")}
while True:
    fork()
"""
DISK_BOMB = f"""
block = b'x' * 65536
def fill():
    try:
        with open('bomb', 'ab', buffering=0) as file:
            while True:
                file.write(block)
    except OSError:
        pass
fill(){_ON}
while True:
    fill()
"""
SIGNAL_STORM = f"""
import contextlib, os, signal
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
storming, begun = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        os.write(begun, b'x')
        while True:
            for pid in (-1, 1):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGUSR1)
read = 0
while read < 4:
    read += len(os.read(storming, 4)){_ON}
while True:
    signal.pause()
"""
MEMORY_BOMB = f"{_ON}taken = []\nwhile True: taken.append(bytearray(b'x') * (1 << 20))"


@pytest.fixture
def bomb(client: CodeContextClient) -> CodeContext:
    """A context that is to do its worst."""
    guarantees = client.get_server_info().isolation.guarantees
    if not {"process_limit", "disk_limit"} <= set(guarantees):
        pytest.skip("nothing limits processes or files here")
    return client.create_code_context(resource_limits=LIMITS)


def answers(client: CodeContextClient, context: CodeContext) -> None:
    """Checks that a context runs code as if it were alone."""
    for number in range(10):
        execution = client.run_code(f"x = {number}\nx * 2", context=context)
        assert (execution.outcome, execution.text) == (Outcome.SUCCEEDED, str(number * 2))


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(FORK_BOMB, id="fork bomb"),
        pytest.param(DISK_BOMB, id="disk bomb"),
        pytest.param(SIGNAL_STORM, id="signal storm"),
    ],
)
def test_a_bomb_is_its_contexts_own_affair(
    client: CodeContextClient, context: CodeContext, bomb: CodeContext, code: str
) -> None:
    """While one context does its worst another one runs as ever, and a delete ends all of it."""
    with LiveRun(client, bomb, code) as run:
        run.begun()
        answers(client, context)
        client.delete_code_context(bomb, force=True)
        assert run.outcome is Outcome.CONTEXT_DELETED
    assert inhabitants(bomb) == []
    answers(client, context)


def test_a_memory_bomb_is_its_contexts_own_affair(
    client: CodeContextClient, context: CodeContext, bomb: CodeContext
) -> None:
    """What takes all memory that it may is ended, and told so; another context runs as ever."""
    with LiveRun(client, bomb, MEMORY_BOMB) as run:
        run.begun()
        answers(client, context)
        assert run.outcome is Outcome.OUT_OF_MEMORY
    answers(client, context)
    client.delete_code_context(bomb)
    assert inhabitants(bomb) == []

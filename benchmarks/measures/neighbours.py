"""Runs in one context while another does its worst, beside the same runs without a neighbour."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import grpc
from calls import create, run
from effort import Effort
from figures import Expectation, Figures
from processes import server

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1 import resources_pb2
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

_BEGUN = "print('begun', flush=True)"
_FORKS = f"""
import os
first = os.getpid()
def fork():
    try:
        while True: os.fork()
    except OSError: pass
fork()
if os.getpid() == first: {_BEGUN}
while True: fork()
"""
_FILES = f"""
def fill():
    try:
        with open('bomb', 'ab', buffering=0) as file:
            while True: file.write(b'x' * 65536)
    except OSError: pass
fill()
{_BEGUN}
while True: fill()
"""
_SIGNALS = f"""
import os, signal
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
for _ in range(4):
    if os.fork() == 0:
        while True: os.kill(-1, signal.SIGUSR1)
{_BEGUN}
signal.pause()
"""
_MEMORY = f"""
import os
{_BEGUN}
while True:  # each child takes what the context may have, and is ended for it
    pid = os.fork()
    if pid == 0:
        taken = []
        for _ in range(180): taken.append(bytearray(b'x') * (1 << 20))
        os._exit(0)
    os.waitpid(pid, 0)
"""
_BOMBS = {
    "a fork bomb": _FORKS,
    "a memory bomb": _MEMORY,
    "a disk bomb": _FILES,
    "a signal storm": _SIGNALS,
}
_ALONE = "a run, alone"
_CODE = "sum(range(1000))"

EXPECTATIONS = tuple(Expectation(f"a run beside {name}", 2.0, _ALONE) for name in _BOMBS)


def measure(figures: Figures, effort: Effort) -> None:
    """Measures runs beside each bomb in turns with runs alone."""
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(server())
        stub = CodeContextServiceStub(stack.enter_context(grpc.insecure_channel(served.target)))
        context_id = create(stub)
        for name, code in _BOMBS.items():
            for _ in effort.rounds(figures, 5):
                _measure(figures, stub, context_id, _ALONE)
                with _bomb(stub, code):
                    _measure(figures, stub, context_id, f"a run beside {name}")


def _measure(figures: Figures, stub: CodeContextServiceStub, context_id: str, name: str) -> None:
    for _ in range(40):
        with figures.timed(name, floor="" if name == _ALONE else _ALONE):
            run(stub, context_id, _CODE)


@contextlib.contextmanager
def _bomb(stub: CodeContextServiceStub, code: str) -> Iterator[None]:
    limits = resources_pb2.ResourceLimits(
        memory_bytes=200 << 20, processes=24, workspace_bytes=64 << 20
    )
    request = pb.CreateCodeContextRequest(resource_limits=limits)
    context_id = stub.CreateCodeContext(request).context.id
    begun = threading.Event()

    def watch() -> None:
        for answer in stub.RunCodeStream(pb.RunCodeStreamRequest(context_id=context_id, code=code)):
            if answer.event.stdout:
                begun.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun.wait()
    yield
    stub.DeleteCodeContext(pb.DeleteCodeContextRequest(context_id=context_id, force=True))
    watcher.join()

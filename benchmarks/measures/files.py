"""Files in and out of a workspace, beside empty streams of the same messages and a copy by `cp`."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
from calls import Floor
from cpu import cpu_time_s
from effort import Effort
from figures import Expectation, Figures
from processes import helper, read_line, server

from codecontext import CodeContextClient, ResourceLimits

_MESSAGE = 1 << 20
_SMALL = 1000
_SENT, _READ = "a MiB sent in an empty stream", "a MiB read from an empty stream"

EXPECTATIONS = (
    Expectation("upload, a MiB of a large file", 2.0, _SENT),
    Expectation("download, a MiB of a large file", 2.0, _READ),
    Expectation(f"upload, {_SMALL} small files", 3000.0),
    Expectation("growth of the server's memory by large files", 32.0),
)


@contextlib.contextmanager
def _timed(into: Figures, name: str, pid: int, mib: int, floor: str = "") -> Iterator[None]:
    """Adds what a MiB takes of time, and of processors: in the process with this pid, and in this one."""
    server, client = cpu_time_s(pid), time.process_time()
    with into.timed(name, floor=floor, share=mib):
        yield
    for part, value in (
        ("server", cpu_time_s(pid) - server),
        ("client", time.process_time() - client),
    ):
        of_floor = floor and f"{floor}: CPU time in the {part}"
        into.add(f"{name}: CPU time in the {part}", value / mib, floor=of_floor)


def measure(figures: Figures, effort: Effort) -> None:
    """Measures each way in turns with its floors; the whole takes files of 1 GiB, a short look smaller ones."""
    mib = 64 if effort.quick else 1024
    limits = ResourceLimits(workspace_bytes=(mib + 64) << 20, workspace_inodes=10_000)
    with contextlib.ExitStack() as stack:
        floors = stack.enter_context(helper("calls"))
        serving = stack.enter_context(server())
        floor = Floor(stack.enter_context(grpc.insecure_channel(read_line(floors))))
        client = stack.enter_context(CodeContextClient(serving.target))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        local, back = folder / "local", folder / "back"
        message = bytes(_MESSAGE)
        local.write_bytes(message * mib)
        context = client.create_code_context(resource_limits=limits)
        client.files.upload(context, "small", b"x")
        process = psutil.Process(serving.pid)
        before = process.memory_info().rss
        for into in effort.rounds(figures, 5):
            with _timed(into, _SENT, floors.pid, mib):
                floor.write(mib, _MESSAGE)
            with _timed(into, "upload, a MiB of a large file", serving.pid, mib, _SENT):
                client.files.upload(context, "large", local)
            with _timed(into, _READ, floors.pid, mib):
                floor.read(mib, _MESSAGE)
            with _timed(into, "download, a MiB of a large file", serving.pid, mib, _READ):
                client.files.download(context, "large", back)
            back.unlink()
            with into.timed("SHA-256 of a MiB", share=mib):
                for _ in range(mib):
                    hashlib.sha256(message).digest()
            with into.timed("cp, a MiB of a large file", share=mib):
                subprocess.run(["cp", str(local), str(back)], check=True)
            back.unlink()
            client.files.delete(context, "large")
            growth = max(process.memory_info().rss - before, 1)
            into.add("growth of the server's memory by large files", growth, unit="byte")
        for into in effort.rounds(figures, 5):
            with into.timed(f"upload, {_SMALL} small files"):
                for number in range(_SMALL):
                    client.files.write(context, f"d/{number}", b"x" * 100, parents=True)
            with into.timed(f"download, {_SMALL} small files"):
                for number in range(_SMALL):
                    client.files.read(context, f"d/{number}")
            client.files.delete(context, "d", recursive=True)
        client.delete_code_context(context)

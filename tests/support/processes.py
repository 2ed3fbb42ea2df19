"""What is left of a context on the machine, and waiting for processes by their pidfds."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import psutil

from codecontext import CodeContext

from .servers import ServerProcess


class Watch:
    """Pidfds of processes: they tell of an end at once, and never of another process's."""

    def __init__(self, processes: Iterable[psutil.Process]) -> None:
        """Opens them; processes that have ended already count as ended."""
        self._pidfds: dict[int, int] = {}
        for process in processes:
            try:
                self._pidfds[process.pid] = os.pidfd_open(process.pid)
            except ProcessLookupError:
                continue

    def living(self, timeout_s: float = 0) -> list[int]:
        """Returns the pids of those that live on after a time, or at once when none does."""
        poll = select.poll()
        left = {fd: pid for pid, fd in self._pidfds.items()}
        for fd in left:
            poll.register(fd, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        while left:
            ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            for fd, _ in ended:
                poll.unregister(fd)
                del left[fd]
            if not ended:
                break
        return sorted(left.values())

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for fd in self._pidfds.values():
            os.close(fd)


def _works_in(process: psutil.Process, name: str) -> bool:
    try:
        return name in str(Path(f"/proc/{process.pid}/cwd").readlink())
    except OSError:
        return False


def inhabitants(context: CodeContext) -> list[psutil.Process]:
    """All processes of the machine that work in the folder of a context's sandbox, gone or not."""
    return [each for each in psutil.process_iter() if _works_in(each, context.sandbox_id)]


def keeper_of(server: ServerProcess, context: CodeContext) -> psutil.Process:
    """The keeper of a context: the parent of the first process that works in its sandbox."""
    for process in server.descendants():
        if _works_in(process, context.sandbox_id):
            parent = process.parent()
            if (
                parent is not None
                and not _works_in(parent, context.sandbox_id)
                and "launcher" not in " ".join(parent.cmdline())
            ):
                return parent
    raise LookupError(f"context {context.id} has no process")


def interpreter_of(server: ServerProcess, context: CodeContext) -> psutil.Process:
    """The interpreter of a context."""
    children = keeper_of(server, context).children()
    return min(children, key=lambda each: each.create_time())


def processes_of(server: ServerProcess, context: CodeContext) -> list[psutil.Process]:
    """A context's keeper and all that descends from it, daemons included."""
    keeper = keeper_of(server, context)
    return [keeper, *keeper.children(recursive=True)]


def descriptor_count(server: ServerProcess) -> int:
    """How many descriptors the server has open."""
    return len(os.listdir(f"/proc/{server.pid}/fd"))  # noqa: PTH208  # the kernel's list


def sandbox_folders(state: Path) -> list[Path]:
    """The folders of all sandboxes of the servers that have their state below a directory."""
    return list(state.glob("host-*/sandboxes/*"))

"""What is left of a context on the machine, and waiting for processes by their pidfds."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import psutil

from codecontext import CodeContext, CodeContextClient
from codecontext_service.processes.cells import READY

from .runs import until
from .servers import ServerProcess, residence_of


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
    """All processes of the machine that live in a context's pid namespace, or work in its sandbox."""
    residence = residence_of(context.id)
    namespaces = {residence.namespace} if residence is not None else set()
    namespaces -= {"", _namespace(psutil.Process())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):  # it ends at this moment, or is none of ours
            if _namespace(process) in namespaces or _works_in(process, context.sandbox_id):
                found.append(process)
    return found


def interpreter_of(server: ServerProcess, context: CodeContext) -> psutil.Process:
    """The living interpreter of a context of a server, which tells its pid in its log."""
    until(lambda: _is_there(context))
    residence = residence_of(context.id)
    assert residence is not None
    return psutil.Process(residence.pid)


def _is_there(context: CodeContext) -> bool:
    residence = residence_of(context.id)
    return residence is not None and psutil.pid_exists(residence.pid)


def workspace_of(context: CodeContext) -> Path:
    """Where a living context's working directory is for this process."""
    until(lambda: _is_there(context))
    residence = residence_of(context.id)
    assert residence is not None
    return Path(f"/proc/{residence.pid}/root{context.cwd}")


def _namespace(process: psutil.Process) -> str:
    """The pid namespace of a process."""
    return str(Path(f"/proc/{process.pid}/ns/pid").readlink())


def _is_first(process: psutil.Process) -> bool:
    """Whether a process is pid 1 of its namespace."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith("NSpid:")).split()[-1] == "1"


def _inmates(server: ServerProcess, interpreter: psutil.Process) -> list[psutil.Process]:
    """All of a pid namespace, its first process first."""
    namespace = _namespace(interpreter)
    inmates = []
    for process in server.descendants():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ends at this moment
            if _namespace(process) == namespace:
                inmates.append((not _is_first(process), process.pid, process))
    return [process for _, _, process in sorted(inmates)]


def _above(server: ServerProcess, interpreter: psutil.Process) -> psutil.Process | None:
    """The keeper above an interpreter, and above those that it was forked from: without pid namespaces."""
    inmates = _inmates(server, interpreter)
    if inmates and _is_first(inmates[0]):
        return None
    roots = {each.pid for name in ("zygote", "launcher") for each in server.workers(name)}
    process = interpreter.parent()
    while process is not None and process.ppid() not in roots:
        process = process.parent()
    return process


def keeper_of(server: ServerProcess, context: CodeContext) -> psutil.Process:
    """The keeper of a context: pid 1 of its interpreter's namespace, or without one its parent."""
    interpreter = interpreter_of(server, context)
    return _above(server, interpreter) or _inmates(server, interpreter)[0]


def processes_of(server: ServerProcess, context: CodeContext) -> list[psutil.Process]:
    """A context's keeper and all that it holds, daemons included."""
    interpreter = interpreter_of(server, context)
    if keeper := _above(server, interpreter):
        return [keeper, *keeper.children(recursive=True)]
    return _inmates(server, interpreter)


@contextlib.contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """Has a process stopped by SIGSTOP for a time."""
    process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: process.status() == psutil.STATUS_STOPPED)
        yield
    finally:
        process.send_signal(signal.SIGCONT)


_STEADY = 3
"""How often in a row the same must be counted."""


def at_rest(server: ServerProcess) -> tuple[int, int]:
    """How many descriptors and processes a server with pid namespaces, or without cells, has without
    contexts, once it has made all that it keeps ready: exactly as many each time, or something has leaked."""
    with CodeContextClient(server.target) as client:
        has_cells = client.get_server_info().isolation.tier in ("cell", "none")

        def is_full() -> bool:
            runtimes = client.get_server_info().runtimes
            return pools_are_full(client) and (
                len(_cells(server)) == sum(each.pool_size for each in runtimes) + READY * has_cells
            )

        # A cell that was just made is there before the server has what is its part of it.
        seen: list[tuple[int, int]] = []
        while len(seen) < _STEADY or len(set(seen[-_STEADY:])) > 1:
            until(is_full)
            seen.append((descriptor_count(server), len(server.descendants())))
        return seen[-1]


def pools_are_full(client: CodeContextClient) -> bool:
    """Whether a server has made all the interpreters that it keeps ready."""
    runtimes = client.get_server_info().runtimes
    return all(each.pool_ready == each.pool_size for each in runtimes)


def _cells(server: ServerProcess) -> list[psutil.Process]:
    """The first processes of all cells, taken or ready, of a server that has pid namespaces."""
    launcher = server.zygote.parent()
    assert launcher is not None
    return [child for child in launcher.children() if _is_first(child)]


def has_folder(context: CodeContext) -> bool:
    """Whether the machine still has a folder of a context's sandbox; a cell's files are not in one."""
    return context.sandbox_id in context.cwd and Path(context.cwd).parent.exists()


def descriptor_count(server: ServerProcess) -> int:
    """How many descriptors the server has open, besides the connections that its clients hold open."""
    process = psutil.Process(server.pid)
    held = [
        each for each in process.net_connections("tcp") if each.status == psutil.CONN_ESTABLISHED
    ]
    return process.num_fds() - len(held)


def sandbox_folders(state: Path) -> list[Path]:
    """The folders of all sandboxes of the servers that have their state below a directory."""
    return list(state.glob("host-*/sandboxes/*"))

"""What is in sandboxes, seen by their code and by the machine."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from codecontext import CodeContext, CodeContextClient

from .processes import processes_of
from .runs import until
from .servers import ServerProcess


def write(client: CodeContextClient, context: CodeContext, name: str, text: str) -> None:
    """Has a context write a file."""
    run = client.run_code(
        f"with open({name!r}, 'w') as f: f.write({text!r}) and None", context=context
    )
    assert run.error is None, run.error


def read(client: CodeContextClient, context: CodeContext, name: str) -> str | None:
    """Returns the repr of what a context reads from a file; None if it finds none."""
    run = client.run_code(f"open({name!r}).read()", context=context)
    assert run.error is None or run.error.name == "FileNotFoundError", run.error
    return run.text if run.error is None else None


def marked(server: ServerProcess, name: str) -> list[psutil.Process]:
    """The processes below a server that have a file of that name in a workspace of their own."""
    found = []
    for process in server.descendants():
        with contextlib.suppress(OSError):  # it ends at this moment
            if Path(f"/proc/{process.pid}/root/workspace/{name}").exists():
                found.append(process)
    return found


def holder_of(server: ServerProcess, context: CodeContext, name: str) -> psutil.Process:
    """The process that keeps a context's sandbox, in which only that context lives, in cells.

    Args:
        server: The server.
        context: The context.
        name: A file of the sandbox's workspace whose name no other sandbox has.
    """
    others: list[psutil.Process] = []

    def found() -> bool:
        own = {process.pid for process in processes_of(server, context)}
        others[:] = [process for process in marked(server, name) if process.pid not in own]
        return len(others) == 1

    until(found)
    return others[0]

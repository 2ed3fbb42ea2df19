"""The self-test: tries, as code in a context could, what the guarantees of its tier say can't be done.

It is an interpreter that takes no runs: the launcher forks it and confines it as any other, and it says
what it could do, by the guarantee that is broken. What it tries does no harm where it works.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from . import syscalls
from .tiers import (
    DISK_LIMIT,
    NO_FOREIGN_FILES,
    NO_FOREIGN_PROCESSES,
    NO_FOREIGN_SIGNALS,
    NO_NETWORK,
    PROCESS_LIMIT,
)

_CONNECT_S = 2.0
_PROCESSES = 4


def _reads_a_secret(options: dict[str, Any]) -> None:
    with open(options["secret"], "rb") as file:
        file.read(1)


def _writes_outside(options: dict[str, Any]) -> None:
    path = f"{os.path.dirname(options['secret'])}/written"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    os.unlink(path)


def _mounts(options: dict[str, Any]) -> None:
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)


def _becomes_root(options: dict[str, Any]) -> None:
    if os.getuid() == 0:  # whom nothing is left of but the name, or who is another user outside
        raise PermissionError
    os.setuid(0)


def _signals_others(options: dict[str, Any]) -> None:
    if options["server_pid"] in (1, os.getpid()):  # in this pid namespace it is another's
        raise ProcessLookupError
    os.kill(options["server_pid"], 0)


def _signals_its_keeper(options: dict[str, Any]) -> None:
    keeper = os.getppid()
    if not keeper:  # it is outside of this pid namespace
        raise ProcessLookupError
    os.kill(keeper, 0)


def _sees_others(options: dict[str, Any]) -> None:
    os.getsid(options["server_pid"])
    others = {int(name) for name in os.listdir("/proc") if name.isdigit()} - {1, os.getpid()}
    if not others:
        raise ProcessLookupError


def _looks_into_the_keeper(options: dict[str, Any]) -> None:
    os.close(os.open(f"/proc/{os.getppid() or 1}/mem", os.O_RDWR | os.O_CLOEXEC))


def _reaches_the_machine(options: dict[str, Any]) -> None:
    with socket.socket() as end:
        end.settimeout(_CONNECT_S)
        end.connect(("127.0.0.1", options["port"]))


def _starts_too_many(options: dict[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_NPROC, (_PROCESSES, _PROCESSES))
    children = []
    try:
        for _ in range(_PROCESSES + 1):
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _fills_more_than_it_may(options: dict[str, Any]) -> None:
    found = os.statvfs(options["workspace"])
    if found.f_blocks * found.f_frsize <= options["workspace_bytes"]:
        raise PermissionError


_FORBIDDEN: tuple[tuple[str, str, Callable[[dict[str, Any]], None]], ...] = (
    (NO_FOREIGN_FILES, "it reads a file of the server's", _reads_a_secret),
    (NO_FOREIGN_FILES, "it writes to a folder of the server's", _writes_outside),
    (NO_FOREIGN_SIGNALS, "it signals the server", _signals_others),
    (NO_FOREIGN_SIGNALS, "it signals the process that holds it", _signals_its_keeper),
    (
        NO_FOREIGN_SIGNALS,
        "it opens the memory of the process that holds it",
        _looks_into_the_keeper,
    ),
    (NO_FOREIGN_PROCESSES, "it sees other processes", _sees_others),
    (NO_NETWORK, "it reaches a port of the machine's loopback", _reaches_the_machine),
    (PROCESS_LIMIT, "it starts more processes than it may", _starts_too_many),
    (DISK_LIMIT, "its workspace has more room than it may", _fills_more_than_it_may),
    # Last, since where they work this process is another one afterwards.
    (NO_FOREIGN_FILES, "it becomes root", _becomes_root),
    (NO_FOREIGN_FILES, "it makes namespaces, and could mount in them", _mounts),
)


def broken_guarantees(options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Tries everything, and yields what could be done: the guarantee that it breaks, and how, in words."""
    for guarantee, words, action in _FORBIDDEN:
        if guarantee in options["guarantees"]:
            with contextlib.suppress(OSError):
                action(options)
                yield guarantee, words


def run(end: socket.socket, options: dict[str, Any]) -> NoReturn:
    """Is the self-test, in a process that the launcher has forked; see `placing`.

    Args:
        end: Its socket, on which it says once, as JSON, what it could do.
        options: `guarantees`: those that are to hold; `secret`: the path of a file of the server's, in a
            folder of its own; `server_pid`; `port`, on which the server listens on loopback; `workspace`,
            and `workspace_bytes`, which it may hold at most.
    """
    end.send(json.dumps(list(broken_guarantees(options))).encode())
    os._exit(0)

"""Real server processes for tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pytest

from codecontext_service.runtime_config import RuntimeConfig

START_TIMEOUT_S = 100

PRELOADED = ",".join(RuntimeConfig().preload)
"""What a server preloads if it is not told otherwise."""


def serve_command(folder: Path, *flags: str) -> list[str]:
    """Returns the command of a server with its state below a folder, on a free port by default.

    It preloads nothing by default: that would take most of its start.
    """
    command = [sys.executable, "-m", "codecontext_service.cli", "serve", "--state-dir", str(folder)]
    if "--listen" not in flags:
        command += ["--listen", "127.0.0.1:0"]
    if "--preload" not in flags and "--config" not in flags:
        command += ["--preload", ""]
    # On a machine that allows no isolation the tests run without.
    return [*command, "--accept-no-isolation", "--log-format", "json", *flags]


MODES = [
    pytest.param((), id="auto"),
    pytest.param(("--isolation", "none"), id="namespaces"),
    pytest.param(("--isolation", "none", "--no-pid-namespaces"), id="keepers"),
]
"""The flags of a server that contains its contexts as well as it can, or little, or hardly."""


@dataclass(frozen=True)
class Residence:
    """Where an interpreter of a context lives, or has lived."""

    pid: int
    namespace: str = ""
    """Its pid namespace; empty if it had ended before that could be read."""


_MAX_HELD = 200
_held: deque[int] = deque()
_residences: dict[str, Residence] = {}
"""The last known of each context of any server, by its id."""


def _remember(line: dict[str, Any]) -> None:
    if line.get("message") in {"context created", "context restarted", "context forked"}:
        residence = Residence(int(line["pid"]))
        with contextlib.suppress(OSError):
            # As long as it is open the kernel gives its number to no other one.
            _held.append(os.open(f"/proc/{residence.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC))
            namespace = str(Path(f"/proc/self/fd/{_held[-1]}").readlink())
            residence = replace(residence, namespace=namespace)
        _residences[line["context_id"]] = residence
        if len(_held) > _MAX_HELD:
            os.close(_held.popleft())


def residence_of(context_id: str) -> Residence | None:
    """Returns where the interpreter of a context lives, or has lived; None if no server has told."""
    return _residences.get(context_id)


class ServerProcess:
    """A `codecontext serve` on a free port of loopback."""

    def __init__(
        self,
        folder: Path,
        *flags: str,
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """Starts the server and waits until it is SERVING.

        Args:
            folder: Where its state goes.
            *flags: More flags for it.
            env: Its environment, by default this process's own.
            prefix: What its command begins with: a program that makes itself the server.
        """
        self.flags = flags
        """The flags that it was started with, beside those of every server."""
        self.process = subprocess.Popen(
            [*prefix, *serve_command(folder, *flags)], stderr=subprocess.PIPE, env=env, text=True
        )
        self.log: list[dict[str, Any]] = []
        """The lines of its log, as they come."""
        self.log_text = ""
        self._lines = threading.Condition()
        self._serving = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if not self._serving.wait(START_TIMEOUT_S) or not self._addresses():
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"the server did not start: {self.log_text}")
        self.target = self._addresses()[0].split(",")[0]

    def _addresses(self) -> list[str]:
        return [line["addresses"] for line in self.log if "addresses" in line]

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._lines:
                self.log_text += line
                try:
                    self.log.append(json.loads(line))
                    _remember(self.log[-1])
                except ValueError:
                    continue
                finally:
                    self._lines.notify_all()
            if self._addresses():
                self._serving.set()
        self._serving.set()

    def wait_for_log(self, message: str, **fields: str) -> dict[str, Any]:
        """Waits for a line of its log.

        Args:
            message: The line's message.
            **fields: More fields that it must have.

        Returns:
            The first such line.
        """
        wanted = {"message": message, **fields}

        def find() -> dict[str, Any] | None:
            return next((line for line in self.log if wanted.items() <= line.items()), None)

        with self._lines:
            assert self._lines.wait_for(find, START_TIMEOUT_S), self.log_text
            line = find()
        assert line is not None
        return line

    @property
    def pid(self) -> int:
        """The server's pid."""
        return self.process.pid

    def descendants(self) -> list[psutil.Process]:
        """All processes below the server."""
        return psutil.Process(self.pid).children(recursive=True)

    def workers(self, module: str) -> list[psutil.Process]:
        """The processes below the server that are a module of `workers`, oldest first.

        Not what they have forked for contexts, which has the same command but a session of its own.
        """
        found = []
        for process in self.descendants():
            try:
                leads = os.getsid(process.pid) == process.pid and process.ppid() != self.pid
                named = any(f"workers.{module} " in argument for argument in process.cmdline())
                if named and not leads:
                    found.append(process)
            except (psutil.Error, ProcessLookupError):
                continue
        return found

    @property
    def zygote(self) -> psutil.Process:
        """The zygote of its only runtime."""
        return self.workers("zygote")[0]

    def send_signal(self, number: int) -> None:
        """Sends a signal to the server."""
        self.process.send_signal(number)

    def stop(self, timeout_s: float = 60) -> int:
        """Has the server drain, and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60) -> int:
        """Waits for the server's end, and returns its exit status."""
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self._reader.join(timeout_s)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGTERM)
        self.wait()


def host_pid(process_pid_in_context: int, below: psutil.Process) -> int | None:
    """Finds the process that a context knows by a pid of its own namespace.

    Args:
        process_pid_in_context: The pid as code in a context sees it.
        below: A process of the host that it descends from, for instance the server.
    """
    for process in below.children(recursive=True):
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            continue
        pids = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
        if int(pids[-1]) == process_pid_in_context and process.pid != os.getpid():
            return process.pid
    return None

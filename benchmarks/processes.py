"""The processes that are measured: they end with the benchmark, however that ends."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _die_with_benchmark() -> None:
    """In a process that was just forked: it gets SIGTERM when the benchmark is killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_in_order() -> None:
    """Ends with its parent, and has SIGTERM end it as Ctrl-C does: all that it started is stopped first."""
    _die_with_benchmark()

    def stop(number: int, frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


@contextlib.contextmanager
def helper(name: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a floor in a process of its own, which ends with its standard input."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    process = subprocess.Popen(
        [sys.executable, str(HERE / "floors" / f"{name}.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | threads,
        start_new_session=True,  # Ctrl-C is for the benchmark alone
        preexec_fn=_die_with_benchmark,  # noqa: PLW1509  # no threads yet
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()


def read_line(process: subprocess.Popen[str]) -> str:
    """Returns the next line that a helper prints.

    Raises:
        RuntimeError: It has ended.
    """
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a helper has ended")
    return line.strip()


def ask(process: subprocess.Popen[str], line: str) -> str:
    """Writes a line to a helper and returns its answer."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return read_line(process)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    target: str
    """Where it listens."""
    pid: int


@contextlib.contextmanager
def server(*flags: str) -> Iterator[Server]:
    """Runs a server on a free port of loopback.

    Start it before the first channel: a process with its threads should not fork.

    Args:
        *flags: More flags for `codecontext serve`.

    Yields:
        The server, once it serves.
    """
    command = [sys.executable, "-m", "codecontext_service.cli", "serve", "--listen", "127.0.0.1:0"]
    # Where nothing contains code it is measured all the same.
    command.append("--accept-no-isolation")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command += ["--state-dir", str(Path(folder) / "state"), "--log-format", "json", *flags]
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=_die_with_benchmark,  # noqa: PLW1509
            )
        try:
            yield Server(_address(process, log), process.pid)
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            finally:
                process.kill()
                process.wait()
        if process.returncode:
            print(f"note: the server ended with status {process.returncode}", file=sys.stderr)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        for line in log.read_text().splitlines(keepends=True):
            if line.endswith("\n") and '"addresses"' in line:
                return str(json.loads(line)["addresses"]).split(",")[0]
        time.sleep(0.005)
    raise RuntimeError(f"the server did not start: {log.read_text()}")

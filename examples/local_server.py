"""A server of one's own for as long as an example runs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def local_server(*flags: str) -> Iterator[str]:
    """Starts a server on a free port of loopback, and ends it whatever happens.

    Args:
        *flags: More flags for `codecontext serve`.

    Yields:
        Where it listens.

    Raises:
        RuntimeError: It did not start, or could not end all that it had started.
    """
    command = [sys.executable, "-m", "codecontext_service.cli", "serve", "--listen", "127.0.0.1:0"]
    # The examples' own code may run uncontained on a machine that contains none; other code should not.
    command += ["--accept-no-isolation", "--log-format", "json", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield _address(process)
    finally:
        process.terminate()
        process.communicate()
    if process.returncode:
        raise RuntimeError(f"the server ended with status {process.returncode}")


def _address(process: subprocess.Popen[str]) -> str:
    lines = []
    for line in process.stderr or ():
        lines.append(line)
        with contextlib.suppress(ValueError):
            if addresses := json.loads(line).get("addresses"):
                return str(addresses).split(",")[0]
    raise RuntimeError("the server did not start: " + "".join(lines))

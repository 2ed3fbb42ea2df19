"""A client in another language: Node, with @grpc/grpc-js and the protos as they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.servers import ServerProcess

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None and "CI" not in os.environ, reason="Node is missing"
)


def test_node_does_the_main_job(tmp_path: Path) -> None:
    """A Node client creates, runs, streams and deletes, and sees the reason of an error."""
    with ServerProcess(tmp_path, "--pool-size", "1") as server:
        done = subprocess.run(
            ["node", "client.mjs", server.target, str(ROOT / "protos")],
            cwd=ROOT / "tests" / "interop" / "node",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["state"] == "CODE_CONTEXT_STATE_IDLE"
    assert (seen["stdout"], seen["result"]) == ("hi\n", "42")
    assert seen["events"] == ["started", "stdout", "error", "completed"]
    assert (seen["code"], seen["reason"]) == (5, "CONTEXT_DELETED")

"""Real grpcurl, by reflection alone: the README's lines, and the details of an error."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.servers import ServerProcess

ROOT = Path(__file__).parents[2]
GRPCURL = ROOT / ".tools" / "bin" / "grpcurl"

pytestmark = pytest.mark.skipif(
    not GRPCURL.exists() and shutil.which("go") is None and "CI" not in os.environ,
    reason="Go is missing, which grpcurl is built with",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for grpcurl."""
    with ServerProcess(tmp_path_factory.mktemp("state"), "--pool-size", "1") as each:
        yield each


def readme_lines(server: ServerProcess) -> list[list[str]]:
    """Returns the README's grpcurl commands, for the server of the test."""
    lines = re.findall(r"^grpcurl .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    return [shlex.split(line.replace("127.0.0.1:50051", server.target)) for line in lines]


def grpcurl(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs grpcurl."""
    return subprocess.run(
        [str(GRPCURL), *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_readme_lines_run(server: ServerProcess) -> None:
    """The README's lines list, describe, create, run, stream and delete."""
    answers: list[str] = []
    context_id = ""
    for line in readme_lines(server):
        done = grpcurl([part.replace("CONTEXT_ID", context_id) for part in line[1:]])
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
        if line[-1].endswith("CreateCodeContext"):
            context_id = json.loads(done.stdout)["context"]["id"]
    services, description, created, ran, streamed, deleted = answers
    assert "codecontext.v1.CodeContextService" in services.split()
    assert "rpc DeleteCodeContext" in description
    assert json.loads(created)["context"]["state"] == "CODE_CONTEXT_STATE_IDLE"
    execution: dict[str, Any] = json.loads(ran)["execution"]
    assert execution["results"][0]["parts"][0] == {"mime_type": "text/plain", "text": "2"}
    assert execution["outcome"] == "EXECUTION_OUTCOME_SUCCEEDED"
    assert base64.b64encode(b"42\n").decode() in streamed
    assert "EXECUTION_OUTCOME_SUCCEEDED" in streamed
    assert json.loads(deleted) == {}


def test_the_details_of_an_error_are_seen(server: ServerProcess) -> None:
    """A failed delete shows its status and the reason in its ErrorInfo."""
    method = "codecontext.v1.CodeContextService/DeleteCodeContext"
    request = '{"context_id": "invalid-id"}'
    done = grpcurl(["-plaintext", "-format-error", "-d", request, server.target, method])
    assert done.returncode != 0
    error = json.loads(done.stderr)
    assert error["code"] == 5
    assert error["details"][0]["reason"] == "CONTEXT_NOT_FOUND"
    assert error["details"][0]["domain"] == "codecontext.v1"

"""A client in another language: Node, with @grpc/grpc-js and the protos as they are."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import google.rpc.status_pb2
import pytest
from support.servers import ServerProcess

PROTOS = Path(__file__).parents[2] / "protos"
GOOGLE_PROTOS = Path(google.rpc.status_pb2.__file__).parents[2]


@pytest.fixture(scope="module")
def seen(node_client: list[str], server: ServerProcess) -> dict[str, Any]:
    """What the Node client saw."""
    command = [*node_client, server.target, str(PROTOS), str(GOOGLE_PROTOS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_create_and_run(seen: dict[str, Any]) -> None:
    """A Node client creates a context, and its run has output, value and outcome."""
    assert seen["state"] == "CODE_CONTEXT_STATE_IDLE"
    assert (seen["stdout"], seen["result"]) == ("hi\n", "42")
    assert seen["outcome"] == "EXECUTION_OUTCOME_SUCCEEDED"


def test_stream(seen: dict[str, Any]) -> None:
    """A streamed run has the state of the run before, and an error of the code is an event."""
    # A chunk may be cut anywhere: standard output comes in one event or more.
    assert list(dict.fromkeys(seen["events"])) == ["started", "stdout", "error", "completed"]
    assert seen["streamed"] == "41\n"
    assert seen["error"] == {"name": "ZeroDivisionError", "line_number": 2}


def test_the_details_of_errors(seen: dict[str, Any]) -> None:
    """A delete is refused while code runs and after the delete, each with its reason."""
    executing, deleted = seen["refused"]
    assert (executing["code"], executing["reason"]) == (9, "CONTEXT_EXECUTING")
    assert executing["metadata"] == {
        "context_id": seen["context_id"],
        "execution_id": seen["execution_id"],
    }
    assert (deleted["code"], deleted["reason"]) == (5, "CONTEXT_DELETED")
    assert {each["domain"] for each in seen["refused"]} == {"codecontext.v1"}


def test_a_forced_delete_ends_the_run(seen: dict[str, Any]) -> None:
    """A forced delete succeeds, and the run that it ended says so."""
    assert seen["forced"] == "EXECUTION_OUTCOME_CONTEXT_DELETED"

"""Real grpcurl, by reflection alone: the README's lines as they stand there."""

from __future__ import annotations

import base64
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.servers import ServerProcess

README = Path(__file__).parents[2] / "README.md"
README_TARGET = "127.0.0.1:50051"


def readme_lines() -> list[list[str]]:
    """Returns the arguments of the README's grpcurl commands, without their comments."""
    lines = re.findall(r"^grpcurl .*$", README.read_text(), re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


class Answers:
    """What the README's lines were answered, by the last word of each line."""

    def __init__(self, grpcurl: Path, target: str) -> None:
        """Runs them all, in their order; the context that one creates is the others' CONTEXT_ID."""
        self._given: list[tuple[str, subprocess.CompletedProcess[str]]] = []
        context_id = ""
        for line in readme_lines():
            assert README_TARGET in line
            arguments = [
                target if word == README_TARGET else word.replace("CONTEXT_ID", context_id)
                for word in line
            ]
            done = subprocess.run(
                [grpcurl, *arguments], capture_output=True, text=True, timeout=60, check=False
            )
            name = "describe" if "describe" in line else line[-1].rpartition("/")[2]
            self._given.append((name, done))
            if name == "CreateCodeContext":
                context_id = json.loads(done.stdout)["context"]["id"]
        self.context_id = context_id

    def of(self, name: str, number: int = 0) -> subprocess.CompletedProcess[str]:
        """Returns the answer to the first line of a name, or to a later one."""
        return [done for given, done in self._given if given == name][number]

    def text(self, name: str) -> str:
        """Returns what the first line of a name wrote; it must have succeeded."""
        done = self.of(name)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def answers(grpcurl: Path, server: ServerProcess) -> Answers:
    """The answers to the README's lines."""
    return Answers(grpcurl, server.target)


def messages(text: str) -> list[dict[str, Any]]:
    """Splits the messages of a stream, which grpcurl prints one after another."""
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        message, end = decoder.raw_decode(text)
        found.append(message)
        text = text[end:]
    return found


def test_list_and_describe(answers: Answers) -> None:
    """Reflection names every service, and shows every call of one with its comments' types."""
    services = answers.text("list").split()
    assert {
        "codecontext.v1.CodeContextService",
        "codecontext.v1.FileService",
        "codecontext.v1.SandboxService",
        "grpc.health.v1.Health",
    } <= set(services)
    description = answers.text("describe")
    for call in ("CreateCodeContext", "ListCodeContexts", "RunCode", "DeleteCodeContext"):
        assert f"rpc {call} (" in description
    assert "returns ( stream .codecontext.v1.RunCodeStreamResponse )" in description


def test_create_and_run(answers: Answers) -> None:
    """A context is created ready, and a run in it gives its value, its output and its outcome."""
    context = json.loads(answers.text("CreateCodeContext"))["context"]
    assert (context["language"], context["state"]) == ("python", "CODE_CONTEXT_STATE_IDLE")
    execution = json.loads(answers.text("RunCode"))["execution"]
    assert execution["context_id"] == answers.context_id
    assert execution["outcome"] == "EXECUTION_OUTCOME_SUCCEEDED"
    assert execution["results"][0]["parts"][0] == {"mime_type": "text/plain", "text": "2"}


def test_stream(answers: Answers) -> None:
    """A streamed run gives its events in order, `completed` the last."""
    events = [message["event"] for message in messages(answers.text("RunCodeStream"))]
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))
    assert events[0]["started"] == {"execution_count": "2"}
    stdout = b"".join(base64.b64decode(event.get("stdout", "")) for event in events)
    assert stdout == b"42\n"
    assert events[-1]["completed"]["outcome"] == "EXECUTION_OUTCOME_SUCCEEDED"


def test_a_sandbox(answers: Answers) -> None:
    """A sandbox is created, and tells when it expires and what it may reach."""
    sandbox = json.loads(answers.text("CreateSandbox"))["sandbox"]
    assert sandbox["id"].startswith("s0-")
    assert sandbox["expire_time"] > sandbox["create_time"]
    assert sandbox["network_policy"] in {"NETWORK_POLICY_NONE", "NETWORK_POLICY_HOST"}


def test_delete_and_the_details_of_its_error(answers: Answers) -> None:
    """A delete succeeds once; the next one says in its details that the context was deleted, and when."""
    assert json.loads(answers.text("DeleteCodeContext")) == {}
    refused = answers.of("DeleteCodeContext", 1)
    assert refused.returncode == 64 + 5, refused.stdout  # grpcurl's exit status for NOT_FOUND
    error = json.loads(refused.stderr)
    assert error["code"] == 5
    (info,) = error["details"]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert (info["reason"], info["domain"]) == ("CONTEXT_DELETED", "codecontext.v1")
    assert info["metadata"]["context_id"] == answers.context_id
    assert info["metadata"]["delete_time"]

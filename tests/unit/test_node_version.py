"""Which Node will do for JavaScript and TypeScript."""

from __future__ import annotations

from pathlib import Path

import pytest

from codecontext_service.runtime_config import RuntimeConfig
from codecontext_service.runtimes.base import InterpreterError
from codecontext_service.runtimes.node import Node


def that_says(folder: Path, version: str) -> str:
    """A program that says of itself which version it is."""
    program = folder / "node"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("version", "language", "refusal"),
    [
        ("v18.20.4", "javascript", "is Node 18.20.4, and javascript needs 20 or newer"),
        ("v20.0.0", "javascript", None),
        ("v22.9.1", "typescript", "is Node 22.9.1, and typescript needs 22.13 or newer"),
        ("v22.13.0", "typescript", None),
        ("v25.0.0-nightly2026", "typescript", None),
        ("deno 2.5.0 (stable)", "javascript", "is not Node: its version is 'deno 2.5.0"),
    ],
)
async def test_an_old_node_is_refused(
    tmp_path: Path, version: str, language: str, refusal: str | None
) -> None:
    """A Node that is too old is refused with its version and the one that is needed."""
    config = RuntimeConfig(
        name=language, language=language, interpreter=that_says(tmp_path, version)
    )
    if refusal is None:
        assert await Node().version(config) == version.removeprefix("v")
    else:
        with pytest.raises(InterpreterError, match=refusal):
            await Node().version(config)

"""The examples and the README's code do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.servers import ServerProcess

ROOT = Path(__file__).parents[2]


def test_the_demo_runs(tmp_path: Path) -> None:
    """`make demo` shows the main job, saves a plot, and ends well."""
    demo = ROOT / "examples" / "demo.py"
    shown = subprocess.run(
        [sys.executable, str(demo)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert "FAILED_PRECONDITION CONTEXT_EXECUTING" in shown.stdout
    assert "the run ended as CONTEXT_DELETED" in shown.stdout
    assert "contexts left: 0" in shown.stdout
    assert (tmp_path / "demo-output" / "quartet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "shown"),
    [("quickstart.py", "SUCCEEDED working 42"), ("async_many.py", "1229 primes below 10000")],
)
def test_an_example_runs(server: ServerProcess, name: str, shown: str) -> None:
    """An example prints what it promises."""
    command = [sys.executable, str(ROOT / "examples" / name), server.target]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert shown in done.stdout


def test_the_readme_code_runs(server: ServerProcess) -> None:
    """The README's Python runs as it stands there."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    command = [sys.executable, "-c", code.replace("127.0.0.1:50051", server.target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.startswith("SUCCEEDED\n3\n")

"""The examples and the README's code do what they say."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from support.charts import SCHEMA
from support.servers import ServerProcess

from codecontext import CodeContextClient

ROOT = Path(__file__).parents[2]


_WITH_REAPER = """
import subprocess, sys
import psutil
from codecontext_service.workers.syscalls import become_subreaper
become_subreaper()
status = subprocess.run(sys.argv[1:], check=False).returncode
left = psutil.Process().children(recursive=True)
sys.exit(f"left running: {left}" if left else status)
"""
"""A program that runs another one, whose orphans come to it, and fails if any are left."""


def test_the_demo_runs(tmp_path: Path) -> None:
    """`make demo` shows the main job, saves a plot, and leaves no process and no state behind."""
    demo = ROOT / "examples" / "demo.py"
    done = subprocess.run(
        [sys.executable, "-c", _WITH_REAPER, sys.executable, str(demo)],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "data set IV : correlation 0.82",
        "line 2 raised ZeroDivisionError",
        "delete: FAILED_PRECONDITION, CONTEXT_EXECUTING",
        "delete with force: OK, and the run ended as CONTEXT_DELETED",
        "delete once more: NOT_FOUND, CONTEXT_DELETED",
        "6 runs: SUCCEEDED, SUCCEEDED, SUCCEEDED, SUCCEEDED, RAISED, CONTEXT_DELETED",
        "contexts left: 0; the server has ended, and nothing is left running",
    ):
        assert line in done.stdout.splitlines()
    runtimes = ["bash", "javascript", "typescript"]
    if importlib.util.find_spec("ipykernel") and importlib.util.find_spec("jupyter_client"):
        runtimes.append("jupyter-python3")
    for runtime in runtimes:
        assert f"The same files, in {runtime}" in done.stdout
    assert (tmp_path / "demo-output" / "quartet.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert not list(tmp_path.glob("codecontext-*/host-*"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("quickstart.py", "SUCCEEDED working 42"),
        ("async_many.py", "1229 primes below 10000"),
        ("languages.py", "javascript: SUCCEEDED [ [ 2, 4 ], [ 3, 5 ], [ 1, 7 ] ]"),
        ("languages.py", "6 cups in 16 minutes"),
        ("languages.py", "bash: RAISED ExitStatus: 1"),
        ("charts.py", "   run ########## 9.7"),
        ("charts.py", "   cup 10 min: 71.5 °C"),
    ],
)
def test_an_example_runs(server: ServerProcess, name: str, shown: str) -> None:
    """An example prints what it promises."""
    command = [sys.executable, str(ROOT / "examples" / name), server.target]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert shown in done.stdout


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        (
            "charts.md",
            "bar [{'position': 'a', 'value': 3.0}, {'position': 'b', 'value': 5.0}]\n",
        ),
        (
            "files.md",
            (
                "PublishedFile(path='sum.csv', size_bytes=7, mime_type='text/csv')\n"
                "b',0\\nn,3\\n'\nin DIRECTORY 0\nin/numbers.csv REGULAR 6\nsum.csv REGULAR 7\n"
            ),
        ),
    ],
)
def test_the_code_of_a_document_runs(server: ServerProcess, document: str, shown: str) -> None:
    """The Python in a description runs as it stands there."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    command = [sys.executable, "-c", code.replace("127.0.0.1:50051", server.target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == shown


def test_the_example_of_a_description_fits_its_schema() -> None:
    """What the description of charts shows as one is one."""
    text = (ROOT / "docs" / "charts.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(example))


def test_the_code_about_forks_runs(server: ServerProcess) -> None:
    """The Python in the description of forks runs as it stands there."""
    text = (ROOT / "docs" / "forking.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    command = [sys.executable, "-c", code.replace("127.0.0.1:50051", server.target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == "2\n3\n3\n"


def readme_code() -> list[str]:
    """Returns the README's pieces of Python."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, r"SUCCEEDED\n3\n\n<div>.*</div>\n"),
        (1, r"1 started\n(\d+ stdout\n)+\d+ completed\n"),
        (
            2,
            r"python '1\\n2\\n3\\n'\njavascript 3\ntypescript \[ 1, 2, 3 \]\nRAISED ExitStatus 1\n",
        ),
        (3, r"\[3, 0, 1\]\n\[3, 1\]\n"),
        (4, r"'a,b'\n"),
        (5, r"b'N\\n1\\n2\\n'\n"),
    ],
)
def test_the_readme_code_runs(server: ServerProcess, number: int, shown: str) -> None:
    """The README's Python runs as it stands there, and leaves no context."""
    before = context_ids(server)
    code = readme_code()[number].replace("127.0.0.1:50051", server.target)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert re.fullmatch(shown, done.stdout, re.DOTALL), done.stdout
    assert context_ids(server) == before


def test_all_of_the_readme_code_is_run() -> None:
    """Each piece of Python in the README has its test."""
    assert len(readme_code()) == 6


def context_ids(server: ServerProcess) -> set[str]:
    """Returns the ids of the contexts that are there."""
    with CodeContextClient(server.target) as client:
        return {context.id for context in client.list_code_contexts()}

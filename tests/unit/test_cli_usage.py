"""The command as a process: help, versions, wrong uses. Nothing here needs a server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = [
    "serve",
    "run",
    "repl",
    "create",
    "ls",
    "rm",
    "fork",
    "interrupt",
    "restart",
    "cp",
    "info",
    "doctor",
]


def cli(*arguments: str, stdin: str = "", env: dict[str, str] | None = None):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CODECONTEXT_")}
    return subprocess.run(
        [sys.executable, "-m", "codecontext_service.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean | (env or {}),
    )


def test_version() -> None:
    """--version prints the version alone."""
    result = cli("--version")
    assert result.returncode == 0
    assert result.stdout.strip().replace(".", "").isalnum()


def test_help_lists_commands() -> None:
    """--help says what every command does that is meant for people, and the exit statuses."""
    text = cli("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"│ {command} +[A-Z]\w+ ", text), command
    assert "config-docs" not in text
    assert "Exit status" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str) -> None:
    """Each command explains itself and ends with success."""
    result = cli(command, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(f"Usage: codecontext {command}")
    assert ("--config" if command in ("serve", "doctor") else "--target") in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "bogus"),
        (["ls", "--bogus"], "--bogus"),
        (["ls", "--state", "ASLEEP"], "ASLEEP"),
        (["rm"], "give an id, or --all"),
        (["rm", "--all", "c0"], "--all alone"),
        (["create", "--ttl", "soon"], "--ttl: 'soon' is no length of time"),
        (["create", "--memory", "much"], "--memory: 'much' is no size"),
        (["create", "--label", "=x"], "--label: '=x' is not of the form NAME=VALUE"),
        (["create", "--language", "python", "--runtime", "python"], "either --language or"),
        (["run", "none.py"], "none.py: No such file"),
        (["run", "--bogus"], '"--bogus" for FILE. unknown option'),
        (["cp", "--bogus", "x"], '"--bogus" for SOURCE. unknown option'),
        (["run", "x.py", "-c", "1"], "either a file or -c"),
        (["fork", "c0", "--count", "0"], "--count: must be 1 or more"),
        (["run", "-c", "1", "--context", "c0", "--cwd", "/"], "not for --context"),
        (["run", "-c", "1", "--env", "A"], "--env: 'A' is not of the form"),
        (["run", "-c", "1", "--images", "/dev/null/x"], "--images: /dev/null/x: Not a directory"),
        (["repl"], "no terminal"),
        (["serve", "--max-contexts", "many"], "--max-contexts: 'many' is no whole number"),
        (["serve", "--max-contexts", "0"], "max_contexts: must be 1 or more"),
        (["serve", "--config", "none.toml"], "none.toml can't be read"),
        (["serve", "--pool-size", "-1"], "pool_size: must be 0 or more"),
        (["--target", "x:1", "serve"], "--target"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use(arguments: list[str], message: str) -> None:
    """A wrong use ends with status 2, one line that says what is wrong, and no output."""
    result = cli(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.startswith("codecontext: ")
    assert result.stderr.count("\n") == 1


def test_code_that_is_no_text(tmp_path: Path) -> None:
    """A file that is no UTF-8 is refused with the place of the bad byte."""
    path = tmp_path / "code.py"
    path.write_bytes(b"ok\xff")
    result = cli("run", str(path))
    assert (result.returncode, result.stderr) == (2, f"codecontext: {path}: is no UTF-8: byte 2\n")


@pytest.mark.parametrize(
    "arguments",
    [["info"], ["ls"], ["create"], ["run", "-c", "1"], ["rm", "c0"], ["rm", "--all"]],
    ids=" ".join,
)
def test_no_server(arguments: list[str]) -> None:
    """Where nothing listens, the status is 3 and one line names the target and the way out."""
    result = cli("--target", "unix:/nonexistent/socket", *arguments)
    assert result.returncode == 3
    assert result.stdout == ""
    assert "unix:/nonexistent/socket" in result.stderr
    assert "`codecontext serve`" in result.stderr
    assert result.stderr.count("\n") == 1


def test_target_from_environment() -> None:
    """CODECONTEXT_TARGET is the target when no flag is given."""
    result = cli("info", env={"CODECONTEXT_TARGET": "unix:/nonexistent/other"})
    assert (result.returncode, "unix:/nonexistent/other" in result.stderr) == (3, True)


def test_light_start() -> None:
    """The command itself loads neither grpc nor prompt-toolkit: --version stays quick."""
    code = (
        "import sys; from codecontext_service.cli.app import run_app; run_app(['--version']);"
        "print([name for name in ('grpc', 'prompt_toolkit', 'IPython') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"

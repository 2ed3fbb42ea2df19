"""When Enter runs in the repl, what the next line begins with, where the history is."""

import stat
from pathlib import Path

import pytest
from prompt_toolkit.history import FileHistory, InMemoryHistory

from codecontext_service.cli.editing import is_complete, next_indent, open_history


@pytest.mark.parametrize(
    "code",
    [
        "1 + 1",
        "x = [1,\n2]",
        "for i in x:\n    pass\n",
        "def f():\n    return 1\n",
        "await f()",
        "async with a as b:\n    await b\n",
        "1 +* 2",
        "%time f()",
        "!ls",
        "x?",
        "files = !ls",
        "for i in x:\n    %time f()\n",
        "%%time\nf()\n",
        "'\x00'",
        "",
    ],
)
def test_complete(code: str) -> None:
    """Statements that can't go on run; so do magics, and what no further line could mend."""
    assert is_complete(code, "python")


@pytest.mark.parametrize(
    "code",
    [
        "for i in x:",
        "for i in x:\n    f()",
        "f(",
        "x = [1,",
        '"""a',
        "%%time\nf()",
        "if x: f()",
        "for i in x:\n    !ls",
    ],
)
def test_incomplete(code: str) -> None:
    """A block, a bracket or a text that is open goes on, and a cell magic until an empty line."""
    assert not is_complete(code, "python")


def test_other_languages() -> None:
    """Elsewhere than in Python each line runs."""
    assert is_complete("for (;;) {", "javascript")


@pytest.mark.parametrize(
    ("code", "indent"),
    [
        ("x = 1", ""),
        ("for i in x:", "    "),
        ("for i in x:\n    f(i)", "    "),
        ("    if x:  ", "        "),
        ("def f():\n    return 1", ""),
        ("    passing = 1", "    "),
    ],
)
def test_indent(code: str, indent: str) -> None:
    """A line is indented as the last one, deeper after a colon, less after the end of a block."""
    assert next_indent(code) == indent


def test_history_is_private(tmp_path: Path) -> None:
    """The history is kept where XDG says, readable for its owner alone."""
    history = open_history({"XDG_STATE_HOME": str(tmp_path), "HOME": "/nonexistent"})
    assert isinstance(history, FileHistory)
    file = tmp_path / "codecontext" / "history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("environ", [{}, {"XDG_STATE_HOME": "relative"}, {"HOME": "/dev/null"}])
def test_history_in_memory(environ: dict[str, str]) -> None:
    """Where no file can be, the history is kept in memory, without an error."""
    assert isinstance(open_history(environ), InMemoryHistory)

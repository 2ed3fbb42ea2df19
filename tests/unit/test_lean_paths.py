"""The short cuts in an interpreter: they give what IPython's own ways give."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.compilerop import code_name
from IPython.core.displayhook import DisplayHook
from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import InteractiveShell

from codecontext_service.workers.python.shell import Shell

_PLAIN = (
    "1+1",
    "x = 1\ny = x != 2",
    "def f(a):\n    return a\n\nf(1)",
    "print('hello')",
    "for n in range(3):\n    print(n)\n",
    "if True: pass",
    "(1,\n 2)",
    "'''text\n  more'''",
    "await f()",
    "1;",
    "x[0], y = 1, 2",
    "def broken(",
    "lambda: 0",
)
_TRANSFORMED = (
    "%time 1",
    "%%capture\nprint(1)",
    "x = %pwd",
    "!ls",
    "files = !ls",
    "len?",
    "ls",
    "exit",
    "who_ls",
    ">>> 1\n1",
    "In [1]: 2",
    "  x = 1",
    "\n\nx = 1",
    "/len 1",
    ",print a",
    "x = '''a\n   \nb'''",
    "a\r\nb",
)
_PIECES = (
    *_PLAIN,
    *_TRANSFORMED,
    "x = 5 % 2",
    "s = '%d' % 1",
    "#",
    "    ",
    "...: 1",
    "\t",
    "\f",
    "?",
    "%",
    "a\\\nb",
    "pwd = 1",
    "ls.x",
    "quit",
    "é = 1",
    "“",
)


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """An interpreter's shell, which is in no context."""
    made = Shell()
    yield made
    made.history_manager.end_session()


def _by_ipython(shell: Shell, code: str) -> str:
    transformed: str = InteractiveShell.transform_cell(shell, code)
    return transformed


@pytest.mark.parametrize(
    ("code", "awaits"),
    [
        ("await f()", True),
        ("async for n in f(): pass", True),
        ("async with f(): pass", True),
        ("[n async for n in f()]", True),
        ("async def f(): await g()", False),
        ("awaited = 'await'", False),
        ("def f(): return 1", False),
        ("return 1", False),
        ("def broken(", False),
    ],
)
def test_what_awaits_is_known(shell: Shell, code: str, awaits: bool) -> None:
    """Code that awaits is told from other code as IPython tells it, whether or not it is compiled for that."""
    by_ipython = InteractiveShell.should_run_async(shell, code, transformed_cell=code)
    assert (shell.should_run_async(code, transformed_cell=code), by_ipython) == (awaits, awaits)


@pytest.mark.parametrize("code", _PLAIN)
def test_plain_code_takes_the_short_cut(shell: Shell, code: str) -> None:
    """Code without IPython's own syntax is not searched for it, and is the same as if it were."""
    assert code in shell._plain_code
    assert shell.transform_cell(code) == _by_ipython(shell, code)


@pytest.mark.parametrize("code", _TRANSFORMED)
def test_code_that_ipython_changes_does_not(shell: Shell, code: str) -> None:
    """Code with IPython's own syntax is changed as IPython changes it."""
    assert code not in shell._plain_code


@pytest.mark.parametrize(
    ("code", "is_lean"),
    [("1 + 1", True), ("x = 1\nx", True), ("%time 1", False), ("await f()", False), (" ", False)],
)
def test_what_goes_the_short_way(shell: Shell, code: str, is_lean: bool) -> None:
    """Plain code that does not await goes the short way, and all else goes IPython's."""
    with shell.builtin_trap:
        assert (shell._lean_runs.run(code, silent=True) is not None) == is_lean


@pytest.mark.parametrize("code", ["1\n", "é = 1\n", ""])
def test_code_is_named_as_by_ipython(shell: Shell, code: str) -> None:
    """Code is compiled under the name that IPython gives it, by which libraries know it again."""
    assert shell.compile.get_code_name(code, code, 3) == code_name(code, 3)


@given(
    st.lists(st.sampled_from(_PIECES), min_size=1, max_size=4), st.sampled_from(["", "\n", "\n\n"])
)
def test_all_code_is_transformed_as_by_ipython(shell: Shell, pieces: list[str], end: str) -> None:
    """Whatever is put together, the short cut changes nothing."""
    code = "\n".join(pieces) + end
    if code in shell._plain_code:
        assert shell.transform_cell(code) == _by_ipython(shell, code)


def test_a_transformation_of_the_users_own_ends_the_short_cut(shell: Shell) -> None:
    """Who registers a transformation gets it applied to all code."""
    shell.input_transformers_post.append(lambda lines: [line.replace("one", "1") for line in lines])
    try:
        assert shell.transform_cell("one") == "1\n"
    finally:
        shell.input_transformers_post.clear()
    shell.input_transformers_cleanup.append(lambda lines: ["2\n"])
    try:
        assert shell.transform_cell("1") == "2\n"
    finally:
        shell.input_transformers_cleanup.pop()


_VALUES: tuple[Any, ...] = (
    1,
    10**5000,
    float("nan"),
    "'\udc80\n",
    1.5,
    2j,
    True,
    "text",
    b"bytes",
    [1, [2, "x"]],
    (1,),
    {"a": {1, 2}},
    frozenset({1}),
    range(3),
    list(range(2000)),
    None,
    object,
    itertools.count(),
    type("Shown", (), {"_repr_html_": lambda self: "<b>"})(),
    type("Number", (int,), {"_repr_html_": lambda self: "<b>"})(3),
)


@pytest.mark.parametrize("value", _VALUES, ids=lambda value: type(value).__name__)
def test_values_are_shown_as_by_ipython(shell: Shell, value: Any) -> None:
    """A value of any type has the representations that IPython gives it."""
    formatter = shell.display_formatter
    assert formatter.format(value) == DisplayFormatter.format(formatter, value)


@pytest.mark.parametrize("kind", [int, object])
def test_a_representation_of_the_users_own_is_shown(shell: Shell, kind: type) -> None:
    """Who registers a representation for a plain type sees it."""
    html = shell.display_formatter.formatters["text/html"]
    html.for_type(kind, lambda value: f"<i>{value}</i>")
    try:
        assert shell.display_formatter.format(7)[0]["text/html"] == "<i>7</i>"
    finally:
        html.pop(kind)
    html.for_type_by_name("builtins", "int", lambda value: "<b>")
    try:
        assert shell.display_formatter.format(7)[0]["text/html"] == "<b>"
    finally:
        html.pop(int)


@pytest.mark.parametrize(
    "code", ["1", "1;", "1; # why", "'a;'", "'#';", "1 #;", "x = 1\n2;", "1;\n", ""]
)
def test_a_semicolon_is_seen_as_by_ipython(shell: Shell, code: str) -> None:
    """A semicolon at the end of code hides its value, one in a text or a remark does not."""
    shell.history_manager.input_hist_parsed.append(code)
    assert shell.displayhook.quiet() == bool(DisplayHook.quiet(shell.displayhook))

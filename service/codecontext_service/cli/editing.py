"""The repl's editor: when Enter runs, how lines are indented, completion, history."""

from __future__ import annotations

import ast
import codeop
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, has_selection, is_searching
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

if TYPE_CHECKING:
    from codecontext import CodeContextClient

_IPYTHON_LINE = re.compile(r"^([ \t]*)(?:(?:[\w, ]+=[ \t]*)?[%!].*|.*\?[ \t]*)$", re.MULTILINE)
_DEDENT = re.compile(r"\s*(return|pass|break|continue|raise)\b")


def is_complete(code: str, language: str) -> bool:
    """Whether Enter at the end of this text runs it.

    Python code is complete when it can't go on, or when an empty line ends its block; what can't
    be parsed is complete too, so that the error is shown. Magics and shell lines of IPython are
    complete at once, cell magics with an empty line. In other languages each line is complete.

    Args:
        code: The text.
        language: Its language.
    """
    if language != "python" or not code.strip():
        return True
    if code.lstrip().startswith("%%"):
        return code.endswith("\n")
    code = _IPYTHON_LINE.sub(r"\1pass", code)
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself warns
        try:
            if compiler(code, symbol="exec") is None:
                return False
            flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            statements = compile(code, "<input>", "exec", flags).body
        except (SyntaxError, ValueError, OverflowError):
            return True
    is_block = bool(statements) and any(hasattr(statements[-1], at) for at in ("body", "cases"))
    return not is_block or code.endswith("\n")


def next_indent(code: str) -> str:
    """The indentation of the line after this text.

    It is that of the last line, deeper after a colon, less after what ends a block.

    Args:
        code: Python text up to the cursor.
    """
    last = code.rpartition("\n")[2]
    indent = last[: len(last) - len(last.lstrip())]
    if last.rstrip().endswith(":"):
        return indent + "    "
    if _DEDENT.match(last):
        return indent[:-4]
    return indent


def key_bindings(language: str) -> KeyBindings:
    """Enter runs what is complete when the cursor is at its end; else it starts a line.

    Args:
        language: The language of the context.
    """
    bindings = KeyBindings()

    @Condition
    def editing() -> bool:
        return get_app().current_buffer.complete_state is None

    def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        document = buffer.document
        at_end = not document.text_after_cursor.strip()
        if at_end and is_complete(document.text_before_cursor.rstrip(" \t"), language):
            buffer.validate_and_handle()
        else:
            newline(event)

    def newline(event: KeyPressEvent) -> None:
        before = event.current_buffer.document.text_before_cursor
        indent = next_indent(before) if language == "python" else ""
        event.current_buffer.insert_text("\n" + indent)

    bindings.add("enter", filter=~is_searching & ~has_selection & editing)(enter)
    bindings.add("escape", "enter")(newline)
    return bindings


def continuation_prompt(width: int, line_number: int, wrap_count: int) -> str:
    """What stands before the second line and those that follow.

    Args:
        width: The width of the first line's prompt.
        line_number: The line.
        wrap_count: How often it was wrapped.
    """
    return "" if wrap_count else "...: ".rjust(width)


class RemoteCompleter(Completer):
    """Completions of the context itself; none, for good, if the server does not offer them.

    Args:
        client: The client.
        context_id: The context.
    """

    def __init__(self, client: CodeContextClient, context_id: str) -> None:
        self._client = client
        self._context_id = context_id
        self._offered = True

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
        """The completions at the cursor."""
        from codecontext import CodeContextError, UnimplementedError

        if not self._offered:
            return
        cursor = document.cursor_position
        try:
            found = self._client.complete_code(self._context_id, document.text, cursor)
        except UnimplementedError:
            self._offered = False
            return
        except CodeContextError:
            return  # an aid alone: the run will say what is wrong
        for match in found.matches:
            yield Completion(match, start_position=found.cursor_start - cursor)


def open_history(environ: Mapping[str, str]) -> History:
    """The history of earlier sessions, readable for its owner alone; in memory if that can't be.

    Args:
        environ: The environment: `XDG_STATE_HOME` or `HOME` say where.
    """
    home = environ.get("XDG_STATE_HOME") or (
        f"{environ['HOME']}/.local/state" if environ.get("HOME") else ""
    )
    if not Path(home).is_absolute():
        return InMemoryHistory()
    path = Path(home) / "codecontext" / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("ab"):
            pass
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)

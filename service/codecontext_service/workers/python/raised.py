"""What the caller is told of the exception that ended a run, however its class behaves."""

from __future__ import annotations

import traceback
from typing import Any

from IPython.core.interactiveshell import ExecutionResult

from codecontext_service.workers.channel import MAX_NAME

from .streams import clean, clean_lines

_MAX_ERROR_TEXT = 256 * 1024
"""The most characters of an error's text, and of its traceback, that are sent."""

# An exception's class, or that one's class, may answer with something else, or raise.
_name_of = type.__dict__["__name__"].__get__
_traceback_of = BaseException.__dict__["__traceback__"].__get__
_context_of = BaseException.__dict__["__context__"].__get__


def describe(error: BaseException, lines: list[str] | None, filename: str) -> dict[str, Any]:
    """Returns the `error` event of an exception.

    Args:
        error: The exception.
        lines: Its traceback as it was formatted; None if that could not be done.
        filename: The name under which the run's code was compiled.
    """
    name: str = _name_of(type(error))
    try:
        value = str(error)
    except BaseException:
        value = "<the text of the exception could not be made>"
    return {
        "name": clean(name, MAX_NAME),
        "value": clean(value, _MAX_ERROR_TEXT),
        "traceback": clean_lines([f"{name}: {value}"] if lines is None else lines, _MAX_ERROR_TEXT),
        "line_number": _line_number(error, filename),
    }


def error_of(result: ExecutionResult) -> BaseException | None:
    """Returns the exception that ended a run, if any: one may be false, so that `or` would pass over it."""
    before: BaseException | None = result.error_before_exec
    return result.error_in_exec if before is None else before


def has_group(error: BaseException | None) -> bool:
    """Tells whether an exception, or one while which it was raised, is a group of exceptions."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if issubclass(type(error), BaseExceptionGroup):
            return True
        seen.add(id(error))
        error = _context_of(error)
    return False


def _line_number(error: BaseException, filename: str) -> int:
    """Finds the line of the run's own code that raised, or that can't be parsed; 0 if there is none."""
    lines = [
        line
        for frame, line in traceback.walk_tb(_traceback_of(error))
        if frame.f_code.co_filename == filename
    ]
    if not lines and isinstance(error, SyntaxError):  # it was found before anything ran
        return error.lineno or 0
    return lines[-1] if lines else 0

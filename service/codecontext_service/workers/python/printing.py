"""What `print` is in a context: a line is one write, and so one packet to the server."""

from __future__ import annotations

import builtins
import functools
import sys
from typing import Any

from .streams import OutputStream

_print = builtins.print


@functools.wraps(_print)
def print_line(*args: Any, file: Any = None, flush: Any = False, **options: Any) -> None:
    """Is the builtin `print`, which writes each argument, separator and end by itself.

    One argument for a standard stream of the context goes with its line's end in one write; anything
    else is left to the builtin.
    """
    __tracebackhide__ = True  # an exception of the argument's `__str__` is not ours
    stream = sys.stdout if file is None else file
    if len(args) == 1 and type(stream) is OutputStream and not options:
        value = args[0]
        stream.write((value if type(value) is str else str(value)) + "\n")
        if flush:
            stream.flush()
    else:
        _print(*args, file=file, flush=flush, **options)

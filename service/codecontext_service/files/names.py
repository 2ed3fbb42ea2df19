"""Paths as callers write them."""

from __future__ import annotations

from codecontext_service.domain.errors import FieldViolation, InvalidArgument
from codecontext_service.workers.file_names import find

MAX_PATH_BYTES = 4095
"""PATH_MAX of Linux, without the byte that ends it."""
MAX_NAME_BYTES = 255
"""NAME_MAX of Linux."""


def parse(path: str, field: str = "path", *, allow_root: bool = False) -> list[bytes]:
    """Returns the names that a path consists of.

    Args:
        path: Relative to the workspace. `.` and doubled slashes mean nothing.
        field: What it is called in the request.
        allow_root: Whether the workspace itself may be meant.

    Raises:
        InvalidArgument: It is empty, absolute or too long, or has `..` or a NUL.
    """
    wrong = ""
    names = [find(name) for name in path.split("/") if name not in ("", ".")]
    if path.startswith("/"):
        wrong = "is absolute: give a path in the workspace, for instance 'data/in.csv'"
    elif "\0" in path:
        wrong = "has a NUL character"
    elif b".." in names:
        wrong = "has '..': give a path that leads down only"
    elif sum(map(len, names)) + len(names) - 1 > MAX_PATH_BYTES:
        wrong = f"has more than {MAX_PATH_BYTES} bytes"
    elif any(len(name) > MAX_NAME_BYTES for name in names):
        wrong = f"has a name of more than {MAX_NAME_BYTES} bytes"
    elif not names and not allow_root:
        wrong = "is empty: give a path in the workspace"
    if wrong:
        raise InvalidArgument(FieldViolation(field, wrong))
    return names

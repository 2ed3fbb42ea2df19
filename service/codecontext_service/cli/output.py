"""Values of the client as JSON, and tables for people."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from codecontext_service.units import format_duration


def write(text: str) -> None:
    """Writes a line to standard output.

    Args:
        text: The line.
    """
    sys.stdout.write(text.encode("utf-8", "replace").decode() + "\n")
    sys.stdout.flush()


def write_json(value: object) -> None:
    """Writes a value as one line of JSON to standard output.

    Args:
        value: A value of the client, or a list or dictionary of some. Times become ISO 8601,
            lengths of time seconds, bytes hexadecimal digits.
    """
    write(json.dumps(jsonable(value)))


def jsonable(value: Any) -> Any:
    """What `json` can write, for a value of the client.

    Args:
        value: A value of the client, or a list or dictionary of some.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: jsonable(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.repr  # else it is no part of the value
        }
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value


def age(time: datetime | None) -> str:
    """How long ago a time was, or how far off it is.

    Args:
        time: The time, aware; None gives `-`.
    """
    if time is None:
        return "-"
    return format_duration(abs(round((datetime.now(UTC) - time).total_seconds())))


def write_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Writes a table to standard output: nothing of it is cut off when it is no terminal.

    Args:
        head: The columns' names.
        rows: The cells.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, overflow="fold", no_wrap=not sys.stdout.isatty())
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(soft_wrap=False, width=None if sys.stdout.isatty() else 10_000)
    with console.capture() as capture:
        console.print(table)
    sys.stdout.write("".join(line.rstrip(" ") + "\n" for line in capture.get().splitlines()))
    sys.stdout.flush()

"""Structured logs: one line for each record, as `key=value` pairs or as JSON, on standard error.

Fields come through logging's `extra`: `logger.info("listening", extra={"address": address})`. What
users run, what it writes and its environment never go into a record: that is up to the callers.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Makes the line: time, level, logger, message, the record's own fields, the exception."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in vars(record).items():
            if key not in _STANDARD:
                fields[f"{key}_" if key in fields else key] = value
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return self.render(fields)

    def render(self, fields: dict[str, object]) -> str:
        """Writes the fields as one line."""
        raise NotImplementedError


class TextFormatter(_Formatter):
    """Lines of `key=value` pairs.

    Values that need it are quoted as JSON strings, so that no value can look like another field or
    another line.
    """

    def render(self, fields: dict[str, object]) -> str:
        """Writes the fields as one line."""
        return " ".join(f"{key}={_text_value(value)}" for key, value in fields.items())


class JsonFormatter(_Formatter):
    """Lines of JSON: one object for each record."""

    def render(self, fields: dict[str, object]) -> str:
        """Writes the fields as one line."""
        return json.dumps(fields, default=str)


def configure_logging(level: str, form: str, stream: TextIO | None = None) -> None:
    """Sets up logging for this process; a second call replaces the first.

    Records of other libraries appear from `warning` on: below that they tell of their own affairs.

    Args:
        level: The least level of this service's records: debug, info, warning or error.
        form: `text` or `json`.
        stream: Where the lines go; standard error by default.
    """
    # Nobody reads these of a record, and to find out its caller takes longer than all the rest.
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    logging._srcfile = None
    number = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    logging.getLogger("codecontext_service").setLevel(number)
    logging.captureWarnings(True)


def _text_value(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(char in ' "=' for char in text)
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())

"""Log lines hold their fields, and nothing can forge one."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from codecontext_service.logs import configure_logging

logger = logging.getLogger("codecontext_service.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("codecontext_service")
    before = root.handlers[:], root.level, ours.level
    root.handlers = []  # those of pytest must not be closed
    yield
    root.handlers, root.level = before[0], before[1]
    ours.setLevel(before[2])
    logging.captureWarnings(False)


def log(form: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, form, stream)
    return stream


def test_text() -> None:
    """A text line is `key=value` pairs with the record's own fields at its end."""
    stream = log("text")
    logger.info("listening", extra={"address": "127.0.0.1:1", "note": "two words", "none": ""})
    line = stream.getvalue()
    assert " level=info logger=codecontext_service.test message=listening " in line
    assert line.endswith('address=127.0.0.1:1 note="two words" none=""\n')


def test_no_forged_line() -> None:
    """A line end, a quote or an escape in a value stays inside its quotes, on its line."""
    stream = log("text")
    logger.info("a\nlevel=error", extra={"path": 'x" y=1\x1b[2J\u2028'})
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert r'message="a\nlevel=error"' in line
    assert r'path="x\" y=1\u001b[2J\u2028"' in line


def test_json() -> None:
    """A JSON line is one object, also for values that JSON does not know, and exceptions."""
    stream = log("json")
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("failed", extra={"thing": logger, "count": 3})
    record = json.loads(stream.getvalue())
    assert record["level"] == "error"
    assert record["message"] == "failed"
    assert record["count"] == 3
    assert record["exception"].endswith("ValueError: no")


def test_levels() -> None:
    """The level is this service's; other libraries are heard from warnings on."""
    stream = log("text", "debug")
    logger.debug("ours")
    logging.getLogger("other").info("theirs")
    logging.getLogger("other").warning("their warning")
    assert [line.split("message=")[1] for line in stream.getvalue().splitlines()] == [
        "ours",
        '"their warning"',
    ]

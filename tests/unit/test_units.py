"""Times and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecontext_service.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("10m", 600),
        ("1h30m", 5400),
        ("2d", 172_800),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    """Plain seconds and numbers with units are read as seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "inf", "1y", "10m x", "1h-3m", "m"])
def test_no_duration(text: str) -> None:
    """What is no length of time is refused with an example of one."""
    with pytest.raises(ValueError, match="10m"):
        parse_duration(text)


@given(st.integers(0, 10**7))
def test_duration_as_written(seconds: int) -> None:
    """What is written for people can be read again, and is at most a small unit off."""
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.05)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64KiB", 65_536),
        ("1.5 MiB", 1_572_864),
        ("2G", 2 << 30),
        ("1kB", 1000),
    ],
)
def test_size(text: str, size: int) -> None:
    """Plain bytes and numbers with binary or decimal units are read as bytes."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "0.3", "1 TB", "1e3", "nan"])
def test_no_size(text: str) -> None:
    """What is no whole number of bytes is refused with an example of one."""
    with pytest.raises(ValueError, match="512MiB"):
        parse_size(text)


def test_size_for_people() -> None:
    """Sizes are written in the largest unit that fits."""
    assert [format_size(n) for n in (0, 999, 12_600, 3 << 20, 5 << 30)] == [
        "0 B",
        "999 B",
        "12.3 KiB",
        "3.0 MiB",
        "5.0 GiB",
    ]

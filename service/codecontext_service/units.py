"""Times and sizes as people write them: `10m`, `1h30m`, `512MiB`."""

from __future__ import annotations

import math
import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "k": 1 << 10,
    "kib": 1 << 10,
    "m": 1 << 20,
    "mib": 1 << 20,
    "g": 1 << 30,
    "gib": 1 << 30,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


def parse_duration(text: str) -> float:
    """Reads a length of time.

    Args:
        text: Seconds (`90`, `0.5`), or numbers with units (`500ms`, `10m`, `1h30m`, `2d`).

    Returns:
        Seconds, 0 or more.

    Raises:
        ValueError: It is no length of time; the text says how to write one.
    """
    compact = text.strip().replace(" ", "")
    try:
        seconds = float(compact)
    except ValueError:
        parts = _DURATION_PART.findall(compact)
        if not parts or "".join(number + unit for number, unit in parts) != compact:
            seconds = math.nan
        else:
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{text!r} is no length of time; write seconds, or 500ms, 10m, 1h30m, 2d")
    return seconds


def parse_size(text: str) -> int:
    """Reads a number of bytes.

    Args:
        text: Bytes (`4096`), or a number with a unit: `KiB`, `MiB`, `GiB` (`K`, `M`, `G` mean the
            same), or the decimal `kB`, `MB`, `GB`.

    Returns:
        Bytes, 0 or more.

    Raises:
        ValueError: It is no size; the text says how to write one.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _BYTES.get(match[2].lower()) if match else None
    size = float(match[1]) * factor if match and factor else math.nan
    if not size.is_integer():
        raise ValueError(f"{text!r} is no size; write whole bytes, or 64KiB, 512MiB, 2GiB")
    return int(size)


def format_duration(seconds: float) -> str:
    """Writes a length of time the way `parse_duration` reads it, in at most two units.

    Args:
        seconds: Seconds, 0 or more.

    Returns:
        For instance `250ms`, `42s`, `1h30m`.
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms" if seconds else "0s"
    rest = round(seconds)
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, int(_SECONDS[unit]))
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return "".join(parts[:2])


def format_size(size: int) -> str:
    """Writes a number of bytes for people.

    Args:
        size: Bytes.

    Returns:
        For instance `512 B`, `12.3 KiB`, `2.0 GiB`.
    """
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"

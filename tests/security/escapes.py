"""Attempts that are known to succeed although a guarantee says that they are stopped."""

from __future__ import annotations

KNOWN: dict[tuple[str, str], str] = {}
"""Why, by the names of the attempt and of the mode. Each is expected to fail until it is mended."""

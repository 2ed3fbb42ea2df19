"""Attempts that are known to succeed although a guarantee says that they are stopped."""

from __future__ import annotations

KNOWN = {
    ("opens_the_program_for_crashes", "default-root"): (
        "no_foreign_processes: code whose uid is the machine's root needs no capability to change what "
        "the kernel runs at a crash; a uid of its own or a read-only /proc/sys takes that away"
    ),
}
"""Why, by the names of the attempt and of the mode. Each is expected to fail until it is mended."""

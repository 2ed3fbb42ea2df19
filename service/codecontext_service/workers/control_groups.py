"""Which control group this process is in, version 1 or 2."""

from __future__ import annotations

import errno
import os


def own_group(controller: str) -> tuple[str, int]:
    """Finds the control group that this process is in.

    Args:
        controller: What it must be able to limit: `memory`, for instance.

    Returns:
        Its directory, and the version, 1 or 2.

    Raises:
        FileNotFoundError: None is mounted where this process can see it.
    """
    paths: dict[str, str] = {}
    for line in _lines("/proc/self/cgroup"):
        _, names, path = line.split(":", 2)
        paths |= dict.fromkeys(names.split(","), path)
    version = 1 if controller in paths else 2
    path = paths.get(controller if version == 1 else "", "")
    for mounted_line in _lines("/proc/self/mountinfo") if path else ():
        before, _, after = mounted_line.partition(" - ")
        root, mounted = before.split()[3:5]
        kind, _, options = after.split(maxsplit=2)
        wanted = "cgroup2" if version == 2 else "cgroup"
        if kind == wanted and (version == 2 or controller in options.split(",")):
            below = os.path.relpath(path, root)
            if not below.startswith(".."):
                return os.path.normpath(f"{mounted}/{below}"), version
    raise FileNotFoundError(
        errno.ENOENT, f"no control group for {controller} is mounted where this process can see it"
    )


def _lines(path: str) -> list[str]:
    with open(path) as file:
        return file.read().splitlines() or [""]

"""Whether this process may limit others by control groups, version 1 or 2."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

_LIMITS = {
    # controller: its limit's file in version 1, in version 2, and a value to try
    "memory": ("memory.limit_in_bytes", "memory.max", str(64 * 1024 * 1024)),
    "pids": ("pids.max", "pids.max", "1"),
}


def own_group(controller: str) -> tuple[str, int]:
    """Finds the control group that this process is in.

    Args:
        controller: What it must be able to limit: `memory` or `pids`.

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


def try_limit(controller: str) -> None:
    """Makes a group, limits it, puts a process into it, and removes it again.

    Args:
        controller: `memory` or `pids`.

    Raises:
        OSError: It doesn't work, and why.
    """
    parent, version = own_group(controller)
    old_name, new_name, value = _LIMITS[controller]
    limit = old_name if version == 1 else new_name
    with _controller_below(parent, version, controller):
        group = f"{parent}/codecontext-probe-{os.getpid()}"
        os.mkdir(group)
        try:
            _write(f"{group}/{limit}", value)
            if _lines(f"{group}/{limit}") != [value]:
                raise OSError(errno.EINVAL, f"{group}/{limit} does not keep what is written")
            _put_child_into(group, controller)
        finally:
            os.rmdir(group)


@contextlib.contextmanager
def _controller_below(parent: str, version: int, controller: str) -> Iterator[None]:
    """Has the groups below one limit what a controller counts, as they are found or for this time."""
    if version == 1 or controller in _lines(f"{parent}/cgroup.subtree_control")[0].split():
        yield
        return
    if controller not in _lines(f"{parent}/cgroup.controllers")[0].split():
        raise OSError(errno.ENOENT, f"the control group {parent} is not given {controller}")
    try:
        _write(f"{parent}/cgroup.subtree_control", f"+{controller}")
    except OSError as error:
        if error.errno == errno.EBUSY:
            why = f"{parent} has processes itself: they must move to a group below it first"
            raise OSError(errno.EBUSY, why) from None
        raise
    try:
        yield
    finally:
        _write(f"{parent}/cgroup.subtree_control", f"-{controller}")


def _put_child_into(group: str, controller: str) -> None:
    """Moves a child process into a group and sees that it is there, and (`pids`) can't fork."""
    pid = os.fork()
    if pid == 0:
        status = errno.EINVAL
        try:
            _write(f"{group}/cgroup.procs", "0")
            listed = _lines(f"{group}/cgroup.procs")
            status = 0 if len(listed) == 1 else errno.ESRCH
            if controller == "pids":
                status = _fork_error()
        except OSError as error:
            status = error.errno or errno.EINVAL
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(status, f"a process could not be limited by {group}: {os.strerror(status)}")


def _fork_error() -> int:
    """Returns 0 if this process can't fork."""
    try:
        pid = os.fork()
    except BlockingIOError:
        return 0
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return errno.EINVAL


def _lines(path: str) -> list[str]:
    with open(path) as file:
        return file.read().splitlines() or [""]


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        raise OSError(error.errno, f"{path}: {os.strerror(error.errno or 0)}") from None

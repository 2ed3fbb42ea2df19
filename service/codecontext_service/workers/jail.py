"""The jail: a root directory that shows what interpreters need of the machine, and nothing else.

The launcher makes it once, and everything below it lives in there. All of it is read-only, but the
caches of zygotes while they load.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from . import mounts

WORKSPACE = "/workspace"
"""Where a sandbox's files are."""

CACHES = "/var/cache"
"""Where a zygote may write while it loads; read-only in a cell."""

PRIVATE = (WORKSPACE, "/tmp", "/dev/shm")  # noqa: S108  # mounts of its own
"""What each sandbox has of its own, and may write to."""

DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt")
_ETC = tuple(
    f"/etc/{name}"
    for name in (
        "alternatives",
        "debian_version",  # as pip reads it
        "fonts",
        "group",
        "hosts",
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "localtime",
        "matplotlibrc",
        "mime.types",
        "nsswitch.conf",
        "os-release",
        "passwd",
        "resolv.conf",
        "ssl/certs",
        "ssl/openssl.cnf",
        "terminfo",
        "timezone",
    )
)
SYSTEM = (*_SYSTEM, *_ETC)
"""What of the machine every interpreter reads, where it is there."""

_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "fd/0",
    "/dev/stdout": "fd/1",
    "/dev/stderr": "fd/2",
}
_OWN_BYTES, _CACHE_BYTES, _INODES = 4 << 20, 64 << 20, 8192


@dataclass(frozen=True)
class Jail:
    """What a jail is made of."""

    folder: str
    """An empty directory, over which it is made."""

    shown: tuple[str, ...]
    """Directories and files that it shows beside those of the system, under their own names."""

    def enter(self) -> None:
        """Makes this jail the root of this process, which must be alone in its mount namespace.

        Raises:
            OSError: The kernel refused.
        """
        mounts.make_private()
        mounts.mount_tmpfs(self.folder, size_bytes=_OWN_BYTES, inodes=_INODES, mode=0o755)
        for path in (*SYSTEM, *self.shown):
            if os.path.lexists(path):
                show(path, self.folder + path)
        for path in DEVICES:
            _show_as(path, self.folder + path, devices=True)
        for link, target in _LINKS.items():
            os.symlink(target, self.folder + link)
        for path in ("/proc", "/var/lib/old-root", CACHES, *PRIVATE):
            os.makedirs(self.folder + path, exist_ok=True)
        mounts.mount_proc(f"{self.folder}/proc")
        mounts.restrict_mount(self.folder, read_only=True, devices=True)
        mounts.mount_tmpfs(
            self.folder + CACHES, size_bytes=_CACHE_BYTES, inodes=_INODES, mode=0o755
        )
        mounts.change_root(self.folder, f"{self.folder}/var/lib/old-root")


def show(path: str, target: str) -> None:
    """Shows a file, a directory or a link of the machine in the jail.

    Args:
        path: Its name; a link is copied, with what it leads to left to others.
        target: Where it goes; what is already shown there stays.

    Raises:
        OSError: The kernel refused.
    """
    if os.path.lexists(target):
        return
    if os.path.islink(path):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(path), target)
    else:
        _show_as(path, target, devices=False)


def _show_as(path: str, target: str, *, devices: bool) -> None:
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    mounts.bind(path, target)
    mounts.restrict_mount(target, read_only=not devices, devices=devices)


def under(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of some folders, or below one."""
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)

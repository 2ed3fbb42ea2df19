"""Mounts, by the C library and the kernel: what a jail and a cell are made of.

All of it changes the mount namespace that the process is in: enter a new one, and call `make_private`
in it, before anything else.
"""

from __future__ import annotations

import ctypes
import os

from .prepared import Call, Preparable
from .syscalls import c_call, check, ready_system_call, system_call

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4

_libc = ctypes.CDLL(None, use_errno=True)
for _function in ("mount", "umount2"):
    getattr(_libc, _function)  # ctypes looks it up once: here, rather than in each forked child


class _MountAttributes(ctypes.Structure):
    """`struct mount_attr` of mount_setattr(2)."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


@Preparable
def mount(
    source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None
) -> Call:
    """Mounts a file system: the system call of that name.

    Args:
        source: The device, or what the kind takes for one.
        target: Where; it must exist.
        kind: The file system, such as `tmpfs`.
        flags: `MS_…` of mount(2).
        data: The file system's own options.

    Raises:
        OSError: The kernel refused.
    """
    return c_call(
        f"mount({kind or source or 'flags'} on {target})",
        _libc.mount,
        *(_bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data)),
    )


def make_private() -> None:
    """Keeps this mount namespace's mounts and those of others apart.

    Raises:
        OSError: The kernel refused.
    """
    mount(None, "/", None, _MS_REC | _MS_PRIVATE)


class OwnedTmpfs:
    """A file system in memory like `mount_tmpfs` makes them, made ready for whoever will own its root."""

    _LONGEST = 200

    def __init__(self, target: str, *, size_bytes: int, inodes: int, mode: int) -> None:
        """Makes it ready; for the arguments see `mount_tmpfs`."""
        self._options = f"size={size_bytes},nr_inodes={inodes},mode={mode:o}".encode()
        self._data = ctypes.create_string_buffer(self._options, self._LONGEST)
        self._mount = c_call(
            f"mount(tmpfs on {target})",
            _libc.mount,
            *(b"tmpfs", os.fsencode(target), b"tmpfs"),
            *(ctypes.c_ulong(MS_NOSUID | MS_NODEV), self._data),
        )

    def mount(self, uid: int) -> None:
        """Mounts it.

        Args:
            uid: Owner and group of its root; -1: this process's.

        Raises:
            OSError: The kernel refused.
        """
        if uid >= 0:
            self._data.value = b"%b,uid=%d,gid=%d" % (self._options, uid, uid)
        self._mount()


def mount_tmpfs(
    target: str,
    *,
    size_bytes: int,
    inodes: int,
    mode: int = 0o700,
    uid: int | None = None,
    gid: int | None = None,
) -> None:
    """Mounts a file system in memory, with neither device nodes nor set-user-id programs.

    Args:
        target: Where; it must exist.
        size_bytes: How much its files may hold.
        inodes: How many files and directories it may have.
        mode: Permissions of its root.
        uid: Owner of its root; None: this process's user.
        gid: Group of its root; None: this process's group.

    Raises:
        OSError: The kernel refused.
    """
    options = [f"size={size_bytes}", f"nr_inodes={inodes}", f"mode={mode:o}"]
    options += [f"{name}={each}" for name, each in (("uid", uid), ("gid", gid)) if each is not None]
    mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, ",".join(options))


@Preparable
def mount_proc(target: str = "/proc") -> Call:
    """Mounts a /proc that shows this process's pid namespace.

    Args:
        target: Where; it must exist.

    Raises:
        OSError: The kernel refused: also where parts of the /proc that is there already are hidden.
    """
    return mount.ready("proc", target, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def bind(source: str, target: str, *, recursive: bool = True) -> None:
    """Shows a directory or file in a second place.

    Args:
        source: What is shown.
        target: Where; it must exist, and be a directory if and only if the source is one.
        recursive: With what is mounted below it.

    Raises:
        OSError: The kernel refused.
    """
    mount(source, target, None, _MS_BIND | (_MS_REC if recursive else 0))


@Preparable
def restrict_mount(path: str, *, read_only: bool, devices: bool = False) -> Call:
    """Restricts a mount and all that is mounted below it; set-user-id never counts there.

    Args:
        path: The mount's root.
        read_only: Whether nothing may be written there.
        devices: Whether device nodes work there.

    Raises:
        OSError: The kernel refused, or (ENOSYS) is older than Linux 5.12.
    """
    bits = _MOUNT_ATTR_NOSUID
    bits |= _MOUNT_ATTR_RDONLY if read_only else 0
    bits |= 0 if devices else _MOUNT_ATTR_NODEV
    attributes = _MountAttributes(attr_set=bits)
    size = ctypes.sizeof(attributes)
    where = os.fsencode(path)
    return ready_system_call(
        "mount_setattr", _AT_FDCWD, where, _AT_RECURSIVE, ctypes.byref(attributes), size
    )


def unmount(path: str) -> None:
    """Takes a mount and all that is mounted below it away, at once for all who look from now on.

    Args:
        path: The mount's root.

    Raises:
        OSError: The kernel refused.
    """
    check(_libc.umount2(os.fsencode(path), _MNT_DETACH), f"umount2({path})")


def change_root(root: str, old: str) -> None:
    """Makes a directory the root of this mount namespace, and takes the former root away.

    Args:
        root: A mount's root.
        old: An empty directory below it, where the former root is for a moment.

    Raises:
        OSError: The kernel refused.
    """
    system_call("pivot_root", os.fsencode(root), os.fsencode(old))
    os.chdir("/")
    unmount("/" + os.path.relpath(old, root))

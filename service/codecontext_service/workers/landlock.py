"""Landlock: which files a process may reach, and that it signals and connects to none but its own.

Landlock can't be taken back, holds for all that the process starts, and needs no privilege. It says
nothing about metadata: stat, chmod, utime, extended attributes and inotify watches of a file go by the
user alone.
"""

from __future__ import annotations

import ctypes
import functools
import os
import stat
from dataclasses import dataclass
from enum import IntFlag

from .architecture import UnknownMachineError
from .syscalls import system_call

NEWEST_ABI = 7
"""The newest version that this module knows; a kernel that has a later one has this one too."""

_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_NET_BIND_TCP, _NET_CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1, 2

_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16, 6: 16, 7: 16}
"""How many of the bits of `Access` each version knows."""
_NET_SINCE, _SCOPES_SINCE = 4, 6


class Access(IntFlag):
    """What may be done below a path: LANDLOCK_ACCESS_FS_… of linux/landlock.h, and useful sums of them."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    LIST = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15

    READ = EXECUTE | READ_FILE | LIST
    """Read, list and run."""
    CHANGE = (
        REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER
    )
    """Make, move and remove files of every kind but device nodes."""
    READ_WRITE = READ | WRITE_FILE | TRUNCATE | CHANGE
    """Everything but device nodes."""
    DEVICE = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV
    """What /dev/null and its like need."""


_OF_FILES = (
    Access.EXECUTE | Access.READ_FILE | Access.WRITE_FILE | Access.TRUNCATE | Access.IOCTL_DEV
)


@dataclass(frozen=True)
class PathRule:
    """Allows something at a path and, for a directory, at all below it."""

    path: str
    access: Access
    """For anything but a directory, what only directories know is left out."""
    missing_ok: bool = False
    """Whether the rule is left out when there is no such path, which then can't be reached."""


@dataclass(frozen=True)
class Ruleset:
    """What a process may reach; what no rule allows is denied."""

    paths: tuple[PathRule, ...]
    tcp: bool = False
    """Whether it may bind and connect TCP sockets (denied from ABI 4 on; older ones can't)."""
    scoped: bool = True
    """Whether signals and abstract Unix sockets are kept within it and its children (from ABI 6 on)."""


class _Attributes(ctypes.Structure):
    """`struct landlock_ruleset_attr`."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    """`struct landlock_path_beneath_attr`."""

    _pack_ = 1
    _layout_ = "ms"  # what _pack_ implies, which Python 3.14 wants said
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


@functools.cache
def abi() -> int:
    """Returns the version of Landlock, at most `NEWEST_ABI`; 0: the kernel has none, or it is off."""
    try:
        version = system_call("landlock_create_ruleset", None, 0, _CREATE_RULESET_VERSION)
    except (OSError, UnknownMachineError):
        return 0
    return min(version, NEWEST_ABI)


def _attributes(rules: Ruleset, version: int) -> _Attributes:
    has_net = version >= _NET_SINCE and not rules.tcp
    has_scopes = version >= _SCOPES_SINCE and rules.scoped
    return _Attributes(
        (1 << _FS_RIGHTS[version]) - 1,
        _NET_BIND_TCP | _NET_CONNECT_TCP if has_net else 0,
        _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if has_scopes else 0,
    )


def _size(version: int) -> int:
    if version >= _SCOPES_SINCE:
        return 24
    return 16 if version >= _NET_SINCE else 8


def _add(ruleset: int, rule: PathRule, handled: int) -> None:
    try:
        fd = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        if rule.missing_ok:
            return
        raise
    try:
        access = rule.access & handled
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= _OF_FILES
        if access:
            beneath = _PathBeneath(int(access), fd)
            system_call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, ctypes.byref(beneath), 0)
    finally:
        os.close(fd)


def restrict(rules: Ruleset, version: int | None = None) -> None:
    """Restricts this thread and all that it starts from now on; there is no way back.

    Args:
        rules: What is allowed.
        version: The ABI to use, 1 to `NEWEST_ABI`; None: the kernel's.

    Raises:
        FileNotFoundError: A path is missing.
        PermissionError: A path can't be reached by this process, or `set_no_new_privs` was not called.
        OSError: The kernel refused, or (ENOSYS, EOPNOTSUPP) has no Landlock.
        UnknownMachineError: This machine's system calls are not known.
    """
    version = version or abi() or 1  # without Landlock the call below says why
    attributes = _attributes(rules, version)
    ruleset = system_call("landlock_create_ruleset", ctypes.byref(attributes), _size(version), 0)
    try:
        for rule in rules.paths:
            _add(ruleset, rule, attributes.handled_access_fs)
        system_call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)

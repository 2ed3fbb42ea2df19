"""The system calls that Python's standard library lacks, by ctypes."""

from __future__ import annotations

import ctypes
import os
import signal

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_REC, _MS_PRIVATE = 1 << 14, 1 << 18

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 2, 4

_CAP_SYS_CHROOT, _CAP_SYS_ADMIN = 18, 21
_CAPABILITY_VERSION_3 = 0x20080522


def _check(result: int, call: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def _prctl(option: int, *arguments: int) -> int:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    result: int = _libc.prctl(option, *(ctypes.c_ulong(value) for value in padded))
    return result


def unshare(flags: int) -> None:
    """Moves this process into new namespaces: the system call of that name.

    Raises:
        OSError: The kernel refused.
    """
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Moves this process into an existing namespace: the system call of that name.

    Raises:
        OSError: The kernel refused.
    """
    _check(_libc.setns(fd, kind), "setns")


def enter_user_namespace() -> None:
    """Enters a new user namespace in which this process has its old ids and all capabilities.

    What it takes to enter cells, CAP_SYS_ADMIN and CAP_SYS_CHROOT (see setns(2)), is made ambient, so
    that it outlives an exec.

    Raises:
        OSError: The kernel refused.
    """
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    bits = 1 << _CAP_SYS_ADMIN | 1 << _CAP_SYS_CHROOT
    _set_capabilities(effective=bits, permitted=bits, inheritable=bits)
    for capability in (_CAP_SYS_ADMIN, _CAP_SYS_CHROOT):
        raised = _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)
        _check(raised, "prctl(PR_CAP_AMBIENT)")


def _set_capabilities(*, effective: int, permitted: int, inheritable: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    words = [
        half >> shift & 0xFFFFFFFF
        for shift in (0, 32)
        for half in (effective, permitted, inheritable)
    ]
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)(*words)), "capset")


def drop_privilege_bounds() -> None:
    """Has no exec of this process, or of those forked from it, ever give a capability again.

    Raises:
        OSError: The kernel refused.
    """
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "prctl(PR_SET_NO_NEW_PRIVS)")
    capability = 0
    while _prctl(_PR_CAPBSET_READ, capability) >= 0:
        _prctl(_PR_CAPBSET_DROP, capability)  # needs CAP_SETPCAP; no_new_privs says the same
        capability += 1


def drop_capabilities() -> None:
    """Gives up every capability that this process has.

    Raises:
        OSError: The kernel refused.
    """
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(effective=0, permitted=0, inheritable=0)


def mount_own_proc() -> None:
    """Gives this process a mount namespace of its own whose /proc shows its pid namespace.

    Raises:
        OSError: The kernel refused.
    """
    unshare(CLONE_NEWNS)
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), "mount(/)")
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _check(_libc.mount(b"proc", b"/proc", b"proc", flags, None), "mount(/proc)")


def die_with_parent(parent_pid: int) -> None:
    """Has this process killed when the thread that started it ends.

    Args:
        parent_pid: The parent's pid as this process should see it: 0 from inside a new pid namespace.

    Raises:
        OSError: The kernel refused.
        ProcessLookupError: The parent had ended before.
    """
    _check(_prctl(_PR_SET_PDEATHSIG, signal.SIGKILL), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        raise ProcessLookupError(f"the parent {parent_pid} is gone")


def become_subreaper() -> None:
    """Has every orphan below this process become its child; see PR_SET_CHILD_SUBREAPER in prctl(2).

    Raises:
        OSError: The kernel refused.
    """
    _check(_prctl(_PR_SET_CHILD_SUBREAPER, 1), "prctl(PR_SET_CHILD_SUBREAPER)")


def flush_c_stdio() -> None:
    """Writes out what C code has left in the buffers of its stdio streams."""
    _libc.fflush(None)

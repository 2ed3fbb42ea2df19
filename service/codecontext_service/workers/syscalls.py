"""The system calls that Python's standard library lacks, by ctypes."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import signal
import socket
import struct
from collections.abc import Callable
from typing import Any

from .architecture import this_machine
from .prepared import Call, Preparable, in_turn

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_REC, _MS_PRIVATE = 1 << 14, 1 << 18

_MADV_COLLAPSE = 25

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 2, 4

_SA_NOCLDSTOP = 1

_CAP_SYS_CHROOT, _CAP_SYS_ADMIN = 18, 21
_CAPABILITY_VERSION_3 = 0x20080522


class _SignalAction(ctypes.Structure):
    """`struct sigaction` of the C library, of glibc as of musl, on the machines of `architecture`."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def _check(result: int, call: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def c_call(name: str, function: Callable[..., int], *arguments: Any) -> Call:
    """Makes a call of a C function ready, which raises OSError with what errno says.

    Args:
        name: How the error should name it.
        function: The function.
        *arguments: What ctypes takes: integers that fit an int, bytes, None, objects of its own.
    """
    return functools.partial(_make, name, function, arguments)


def _make(name: str, function: Callable[..., int], arguments: tuple[Any, ...]) -> None:
    _check(function(*arguments), name)


def _prctl(option: int, *arguments: int) -> int:
    result: int = _libc.prctl(option, *_padded(arguments))
    return result


def _padded(arguments: tuple[int, ...]) -> tuple[ctypes.c_ulong, ...]:
    return tuple(map(ctypes.c_ulong, (*arguments, 0, 0, 0, 0)[:4]))


def _prctl_call(name: str, option: int, *arguments: int) -> Call:
    return c_call(f"prctl({name})", _libc.prctl, option, *_padded(arguments))


@Preparable
def unshare(flags: int) -> Call:
    """Moves this process into new namespaces: the system call of that name.

    Raises:
        OSError: The kernel refused.
    """
    return c_call("unshare", _libc.unshare, flags)


@Preparable
def setns(fd: int, kind: int) -> Call:
    """Moves this process into an existing namespace: the system call of that name.

    Raises:
        OSError: The kernel refused.
    """
    return c_call("setns", _libc.setns, fd, kind)


def enter_user_namespace() -> None:
    """Enters a new user namespace in which this process has its old ids and all capabilities.

    What it takes to enter cells, CAP_SYS_ADMIN and CAP_SYS_CHROOT (see setns(2)), is made ambient, so
    that it outlives an exec.

    Raises:
        OSError: The kernel refused.
    """
    new_user_namespace()
    bits = 1 << _CAP_SYS_ADMIN | 1 << _CAP_SYS_CHROOT
    every = (1 << last_capability() + 1) - 1
    _set_capabilities(effective=every, permitted=every, inheritable=bits)()
    for capability in (_CAP_SYS_ADMIN, _CAP_SYS_CHROOT):
        raised = _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)
        _check(raised, "prctl(PR_CAP_AMBIENT)")


def _set_capabilities(*, effective: int, permitted: int, inheritable: int) -> Call:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    words = [
        half >> shift & 0xFFFFFFFF
        for shift in (0, 32)
        for half in (effective, permitted, inheritable)
    ]
    return c_call("capset", _libc.capset, header, (ctypes.c_uint32 * 6)(*words))


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


# What the confinement of a process needs beyond that.

CLONE_NEWTIME = 0x00000080
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWNET = 0x40000000

_PR_SET_DUMPABLE = 4
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40
_LOOPBACK_UP = struct.pack("16sH22x", b"lo", _IFF_UP | _IFF_RUNNING)
_ANY_SOCKET = int(socket.AF_INET), int(socket.SOCK_DGRAM | socket.SOCK_CLOEXEC), 0

_libc.syscall.restype = ctypes.c_long
for _function in ("prctl", "capset", "setns", "sethostname", "socket", "unshare"):
    getattr(_libc, _function)  # ctypes looks it up once: here, rather than in each forked child


def _numbered(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    number = this_machine().number(name)
    if number is None:
        raise OSError(errno.ENOSYS, f"{name}: {os.strerror(errno.ENOSYS)}")
    whole = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    return (ctypes.c_long(number), *whole)


def system_call(name: str, *arguments: Any) -> int:
    """Makes a system call that the C library may have no function for.

    Args:
        name: Its name in the table of `architecture`.
        *arguments: Integers, and what ctypes takes as pointers (bytes, `byref(…)`, None).

    Returns:
        What the kernel returned.

    Raises:
        OSError: The kernel refused, or (ENOSYS) doesn't have it.
        UnknownMachineError: This machine's numbers are not known.
    """
    result: int = _libc.syscall(*_numbered(name, arguments))
    _check(result, name)
    return result


def ready_system_call(name: str, *arguments: Any) -> Call:
    """Makes `system_call` ready."""
    return c_call(name, _libc.syscall, *_numbered(name, arguments))


def check(result: int, call: str) -> None:
    """Raises what errno says if the result of a C function is negative.

    Args:
        result: What the function returned.
        call: How the error should name it.

    Raises:
        OSError: It was negative.
    """
    _check(result, call)


@Preparable
def set_no_new_privs() -> Call:
    """Has no exec ever give this process or its children more rights; a filter needs it.

    Raises:
        OSError: The kernel refused.
    """
    return _prctl_call("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


@Preparable
def set_dumpable(dumpable: bool) -> Call:
    """Says whether processes of the same user may trace this one and see into its /proc entry.

    A change of user ids makes a process undumpable, which then can't read its own /proc/self either.

    Args:
        dumpable: Whether they may.

    Raises:
        OSError: The kernel refused.
    """
    return _prctl_call("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, int(dumpable))


@functools.cache
def last_capability() -> int:
    """Returns the highest capability that this kernel has, which is asked for once."""
    capability = 0
    while _prctl(_PR_CAPBSET_READ, capability + 1) >= 0:
        capability += 1
    return capability


@Preparable
def drop_bounding_set() -> Call:
    """Has no exec ever give a capability; must come before the user ids change.

    Raises:
        PermissionError: This process doesn't have CAP_SETPCAP. After `set_no_new_privs` and
            `clear_capabilities` an exec gives nothing all the same.
        OSError: The kernel refused.
    """
    return in_turn(
        *(
            _prctl_call("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, capability)
            for capability in range(last_capability() + 1)
        )
    )


@Preparable
def clear_capabilities() -> Call:
    """Gives up every capability that this process has.

    Raises:
        OSError: The kernel refused.
    """
    return in_turn(
        _prctl_call("PR_CAP_AMBIENT", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL),
        _set_capabilities(effective=0, permitted=0, inheritable=0),
    )


@Preparable
def set_hostname(name: str) -> Call:
    """Names the machine, for the processes of this UTS namespace.

    Args:
        name: At most 64 bytes.

    Raises:
        OSError: The kernel refused.
    """
    encoded = os.fsencode(name)
    return c_call("sethostname", _libc.sethostname, encoded, ctypes.c_size_t(len(encoded)))


def hear_of_ends_alone() -> None:
    """Has SIGCHLD tell of children that have ended, and not of those that were stopped or go on.

    Raises:
        OSError: The kernel refused.
    """
    action = _SignalAction()
    _check(_libc.sigaction(signal.SIGCHLD, None, ctypes.byref(action)), "sigaction")
    action.flags |= _SA_NOCLDSTOP
    _check(_libc.sigaction(signal.SIGCHLD, ctypes.byref(action), None), "sigaction")


def bring_up_loopback() -> None:
    """Brings up `lo` of this network namespace: 127.0.0.1, and ::1 where the kernel has IPv6.

    Raises:
        OSError: The kernel refused.
    """
    any_socket = _libc.socket(*_ANY_SOCKET)
    _check(any_socket, "socket")
    try:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _LOOPBACK_UP)
    finally:
        os.close(any_socket)


def new_user_namespace() -> None:
    """Enters a new user namespace in which this process has its old ids and, until an exec, all capabilities.

    The process must be dumpable: see `set_dumpable`. Some systems accept this, and then let the capabilities
    do nothing.

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
        file = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)


def collapse_pages(address: int, size: int) -> None:
    """Makes huge pages of a range of this process's memory: `MADV_COLLAPSE` of madvise(2), Linux 6.1 or newer.

    Args:
        address: Where it begins; a multiple of a huge page's size.
        size: In bytes; likewise.

    Raises:
        OSError: The kernel refused, or has no huge pages.
    """
    result = _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _MADV_COLLAPSE)
    _check(result, "madvise(MADV_COLLAPSE)")


def protect_pages(address: int, size: int, access: int) -> None:
    """Sets how a range of this process's memory may be used: mprotect(2).

    Args:
        address: Where it begins; a multiple of a page's size.
        size: In bytes; likewise.
        access: `mmap.PROT_READ`, `PROT_WRITE` and `PROT_EXEC`, those that are wanted.

    Raises:
        OSError: The kernel refused.
    """
    result = _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), access)
    _check(result, "mprotect")

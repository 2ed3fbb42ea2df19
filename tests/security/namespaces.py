"""An arena: namespaces of every kind, in which nothing that succeeds harms the machine.

Every folder of the machine is read-only there, but for those that attempts write to: these are empty
and in memory. Only loopback is there, with two addresses that stand for the world outside.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import shutil
import signal
import socket
import struct
import sys
from pathlib import Path

INTERNET, METADATA = "203.0.113.1", "169.254.169.254"
"""On the arena's loopback: an address that stands for the internet, and that of a cloud's credentials."""

COVERED = ("/tmp", "/var/tmp", "/root", "/home", "/run", "/dev/shm")
ROOM = "size=1g,mode=1777"
"""What the attempts may fill, which bounds the bombs among them."""

_NEWNS, _NEWUTS, _NEWIPC = 0x20000, 0x4000000, 0x8000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
_MOUNT_SETATTR, _AT_FDCWD, _RDONLY = 442, -100, 1
_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _IFF_UP = 0x8913, 0x8914, 0x8916, 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    arguments = (text.encode() if text else None for text in (source, target, kind))
    data = options.encode() if options else None
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), data), f"mount {target}")


def _die_with_parent() -> None:
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")


def enter(checkout: Path, scratch: Path) -> None:
    """Enters an arena: what comes back is its pid 1, in a child of this process, which waits for it.

    Args:
        checkout: Where this project is: it stays to be seen.
        scratch: A folder below /tmp that is made there.

    Raises:
        OSError: This machine does not allow it.
    """
    _die_with_parent()
    uid, gid = os.getuid(), os.getgid()
    if uid:
        _check(_libc.unshare(_NEWUSER), "unshare(CLONE_NEWUSER)")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            Path(f"/proc/self/{name}").write_text(text)
    _check(_libc.unshare(_NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS), "unshare")
    child = os.fork()
    if child:
        # Its last descriptors would keep the pipes to the tests open.
        os.closerange(0, 3)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    _die_with_parent()
    for limit, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 1 << 30)):
        resource.setrlimit(limit, (most, most))
    socket.sethostname("arena")
    _furnish([checkout, Path(sys.prefix), Path(sys.base_prefix)])
    scratch.mkdir(mode=0o711)
    _cover_programs()
    _cover_passwords(scratch)
    _mount("proc", "/proc", "proc")
    _raise_loopback()


def _furnish(kept: list[Path]) -> None:
    """Makes the machine's folders read-only, and covers some; what is needed from below those comes back."""
    _mount("", "/", flags=_MS_REC | _MS_PRIVATE)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point.split("/")[1] not in ("proc", "sys", "dev"):
            attributes = struct.pack("QQQQ", _RDONLY, 0, 0, 0)
            # A mount that another hides can't be reached, by nobody else either.
            _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, point.encode(), 0, attributes, len(attributes))
    folders = {Path(each).resolve() for each in COVERED if Path(each).is_dir()}
    hidden = [
        (path, os.open(path, os.O_PATH))
        for path in dict.fromkeys(each.resolve() for each in kept)
        if any(folder in path.parents for folder in folders)
    ]
    for folder in sorted(folders):
        _mount("tmpfs", str(folder), "tmpfs", options=ROOM)
    for path, fd in hidden:
        path.mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{fd}", str(path), flags=_MS_BIND | _MS_REC)
        os.close(fd)


def programs() -> Path | None:
    """The folder of programs that the server's interpreter lies in, where that is a virtual environment."""
    return Path(sys.prefix) / "bin" if sys.prefix != sys.base_prefix else None


def _cover_programs() -> None:
    folder = programs()
    if folder is None:
        return
    with contextlib.ExitStack() as stack:
        copy = Path("/tmp/programs")
        shutil.copytree(folder, copy, symlinks=True)
        stack.callback(shutil.rmtree, copy)
        _mount("tmpfs", str(folder), "tmpfs", options=ROOM)
        shutil.copytree(copy, folder, symlinks=True, dirs_exist_ok=True)


def _cover_passwords(scratch: Path) -> None:
    if Path("/etc/shadow").exists():
        passwords = scratch / "shadow"
        passwords.touch(0o600)
        _mount(str(passwords), "/etc/shadow", flags=_MS_BIND)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = bytearray(struct.pack("16sh22x", b"lo", 0))
        fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("h", request, 16)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))
        for name, address in ((b"lo:1", INTERNET), (b"lo:2", METADATA)):
            packed = struct.pack("=H2x4s8x", socket.AF_INET, socket.inet_aton(address))
            fcntl.ioctl(any_socket, _SIOCSIFADDR, struct.pack("16s16s8x", name, packed))


def pass_pids(count: int) -> None:
    """Uses up the first pids of the arena, so that a context's own are never taken for others'."""
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

"""What the code of every attempt finds around it: this file is sent along with it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import re
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_PARENT = 0x20000, 0x10000000, 0x20000000, 0x8000
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
PR_SET_NAME, PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 15, 1, 36

# name: x86_64, aarch64
NUMBERS = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clone": (56, 220),
    "clone3": (435, 435),
    "fanotify_init": (300, 262),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "inotify_add_watch": (254, 27),
    "inotify_init1": (294, 26),
    "io_uring_setup": (425, 425),
    "ioperm": (173, -1),
    "mount": (165, 40),
    "msgrcv": (70, 188),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "prctl": (157, 167),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "reboot": (169, 142),
    "rt_sigqueueinfo": (129, 138),
    "semctl": (66, 191),
    "setns": (308, 268),
    "shmat": (30, 196),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "syslog": (103, 116),
    "tgkill": (234, 131),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}


class Stopped(Exception):
    """The attempt has not succeeded, and why."""


def syscall(name: str, *arguments: Any) -> int:
    """Makes a system call, past everything that Python or the C library would check before.

    Raises:
        OSError: The kernel refused.
    """
    number = NUMBERS[name][os.uname().machine == "aarch64"]
    LIBC.syscall.restype = ctypes.c_long
    ctypes.set_errno(0)
    result: int = LIBC.syscall(
        ctypes.c_long(number),
        *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments),
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def in_child(work: Callable[[], object]) -> str:
    """Does something in a forked child, from which there is no way back, and returns what it returned.

    Raises:
        OSError: The child was refused something.
        Stopped: It did not succeed, or was killed.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = {"value": str(work())}
        except OSError as error:
            answer = {"errno": error.errno or 0, "text": str(error)}
        except BaseException as error:
            answer = {"stopped": f"{type(error).__name__}: {error}"}
        os.write(writer, json.dumps(answer).encode()[:4096])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as end:
        content = end.read()
    os.waitpid(pid, 0)
    if not content:
        raise Stopped("the child was killed")
    answer = json.loads(content)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["text"])
    if "stopped" in answer:
        raise Stopped(answer["stopped"])
    return str(answer["value"])


def name_process(name: str) -> None:
    """Gives this process the name that it is looked for by."""
    LIBC.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def start_daemon(
    tag: str, prepare: Callable[[], object] = lambda: None, life_s: float = 60
) -> None:
    """Leaves a process behind that nobody waits for, and returns once it is there."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            try:
                prepare()
                name_process(tag)
                os.write(writer, b"x")
                time.sleep(life_s)
            finally:
                os._exit(0)
        os._exit(0)
    os.wait()
    os.close(writer)
    if not os.read(reader, 1):
        raise Stopped("it could not be started")
    os.close(reader)


def fill(folder: str, most: int) -> str:
    """Writes so many MiB into a file of a folder, and removes it.

    Raises:
        OSError: There is no room for so much.
    """
    path = Path(folder, f"planted-{os.getpid()}")
    piece = b"x" * (4 << 20)
    try:
        with open(path, "wb") as file:
            file.writelines(piece for _ in range(0, most, 4))
    finally:
        path.unlink(missing_ok=True)
    return f"{most} MiB"


def own_sockets() -> list[int]:
    """Finds the descriptors of this process that are sockets."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.append(int(name))
        except OSError:
            continue
    return found


def banner(family: int, address: Any, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> str:
    """Connects, and returns what the other side says."""
    with socket.socket(family, kind, protocol) as end:
        end.settimeout(3)
        end.connect(address)
        if kind == socket.SOCK_DGRAM:
            end.send(b"hello")
        return end.recv(4096).decode(errors="replace")


def tell(work: Callable[..., object], facts: dict[str, Any]) -> None:
    """Makes the attempt, and prints in one line how it went."""
    try:
        escaped, detail = True, str(work(**facts))
    except Stopped as error:
        escaped, detail = False, str(error)
    except OSError as error:
        escaped, detail = False, f"{errno.errorcode.get(error.errno or 0, 'OSError')}: {error}"
    except MemoryError:
        escaped, detail = False, "MemoryError"
    line = json.dumps({"escaped": escaped, "detail": detail[:1000]})
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

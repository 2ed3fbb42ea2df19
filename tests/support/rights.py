"""What a process still has and can, and what the machine gives it; the standard library alone."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import importlib
import os
import pickle
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from codecontext_service.workers import mounts, probes, selftest, syscalls, tiers
from codecontext_service.workers.confinement import ConfinementError, confine
from support.attempts import error_of, list_folder, use_device

_libc = ctypes.CDLL(None, use_errno=True)


def status() -> dict[str, str]:
    """What the kernel says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: rest.strip() for name, _, rest in (line.partition(":") for line in lines)}


def limits() -> dict[str, tuple[int, int]]:
    return {
        name: resource.getrlimit(getattr(resource, name))
        for name in dir(resource)
        if name.startswith("RLIMIT_")
    }


def become_root() -> None:
    os.setuid(0)


def raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard + 1))
    except ValueError as error:
        raise PermissionError(errno.EPERM, str(error)) from None


def fork_many(count: int) -> None:
    """Has so many children at once."""
    read, write = os.pipe()
    children = []
    try:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                os.close(write)
                os.read(read, 1)
                os._exit(0)
            children.append(pid)
    finally:
        os.close(write)
        for pid in children:
            os.waitpid(pid, 0)


def allocate(size: int) -> int:
    try:
        return len(bytearray(size))
    except MemoryError:
        raise OSError(errno.ENOMEM, "memory") from None


def spin_for_ever() -> None:
    while True:
        pass


def fail_to_confine(confinement: Any) -> tuple[str, str]:
    """The layer that fails, and what the error says."""
    try:
        confine(confinement)
    except ConfinementError as error:
        return error.layer, str(error)
    return "", ""


def write_bytes(path: str, size: int) -> None:
    with open(path, "wb", buffering=0) as file:
        written = file.write(bytes(size))
        file.write(bytes(size - written))


def dumpable() -> int:
    return int(_libc.prctl(3, 0, 0, 0, 0))


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)


def own_host_name(name: str) -> str:
    syscalls.unshare(syscalls.CLONE_NEWUTS)
    syscalls.set_hostname(name)
    return os.uname().nodename


def child_dies_with_parent(confinement: Any) -> bool:
    """Whether a confined grandchild ends when the child ends that forked it."""
    read, write = os.pipe()
    syscalls.become_subreaper()
    child_pid = os.fork()
    if child_pid == 0:
        parent = os.getpid()
        if os.fork() == 0:
            confine(dataclasses.replace(confinement, parent_pid=parent))
            os.write(write, b"%d\n" % os.getpid())
            while True:
                signal.pause()
        signal.pause()
    grandchild = int(os.read(read, 20))
    os.kill(child_pid, signal.SIGKILL)
    os.waitpid(child_pid, 0)
    return os.WTERMSIG(os.waitpid(grandchild, 0)[1]) == signal.SIGKILL


def imported_from_elsewhere() -> list[str]:
    """Modules that are neither of the standard library nor of the workers, after all were imported."""
    for name in ("tiers", "probes", "confinement", "mounts", "control_groups", "syscalls"):
        importlib.import_module(f"codecontext_service.workers.{name}")
    known = (*sys.stdlib_module_names, "support", "__main__", "__mp_main__")
    loaded = {name for name in sys.modules if name.partition(".")[0] not in known}
    workers = "codecontext_service.workers"
    return sorted(
        name for name in loaded if not workers.startswith(name) and not name.startswith(workers)
    )


def build_jail() -> dict[str, Any]:
    """Builds a jail in namespaces of its own and tells what it is like in there."""
    syscalls.unshare(syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = pickle.dumps(_in_jail())
        except BaseException:
            said = pickle.dumps(traceback.format_exc())
        os.write(write, said)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as end:
        found: dict[str, Any] = pickle.loads(end.read())
    os.waitpid(pid, 0)
    return found


def _in_jail() -> dict[str, Any]:
    mounts.make_private()
    jail = tempfile.gettempdir()
    mounts.mount_tmpfs(jail, size_bytes=1 << 20, inodes=64, mode=0o755)
    for name in ("bound", "old", "proc", "small"):
        os.mkdir(f"{jail}/{name}")
    mounts.bind("/dev", f"{jail}/bound")
    mounts.restrict_mount(jail, read_only=True)
    mounts.mount_tmpfs(
        f"{jail}/small", size_bytes=1 << 20, inodes=8, uid=os.getuid(), gid=os.getgid()
    )
    mounts.mount_proc(f"{jail}/proc")
    mounts.change_root(jail, f"{jail}/old")

    def many_files() -> None:
        for number in range(8):
            write_bytes(f"/small/{number}", 0)

    return {
        "root": list_folder("/"),
        "old": list_folder("/old"),
        "write to bound": error_of(lambda: os.mkdir("/bound/new")),
        "fill small": error_of(lambda: write_bytes("/small/big", 2 << 20)),
        "many files": error_of(many_files),
        "pids": [name for name in list_folder("/proc") if name.isdigit()],
        "device": error_of(lambda: use_device("/bound/zero")),
    }


def assess_machine() -> dict[str, Any]:
    found = tiers.assess(probes.probe_layers(), no_memory_group="")
    try:
        os.waitpid(-1, os.WNOHANG)
        children = 1
    except ChildProcessError:
        children = 0
    return found.as_dict() | {"children_left": children, "strongest": found.strongest.name}


def assess_without_user_namespaces() -> dict[str, Any]:
    """In a user namespace that may have none below it: as where a sysctl forbids them."""
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    write_text("/proc/self/setgroups", "deny")
    write_text("/proc/self/uid_map", "0 0 1")
    write_text("/proc/self/gid_map", "0 0 1")
    write_text("/proc/sys/user/max_user_namespaces", "0")
    return assess_machine()


def write_text(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def probe_badly() -> list[tuple[bool, str]]:
    probes.PROBE_TIMEOUT_S = 1
    found = [
        probes.probe("hangs", signal.pause),
        probes.probe("dies", lambda: os.kill(os.getpid(), signal.SIGKILL)),
    ]
    return [(each.works, each.reason) for each in found]


def self_test(options: dict[str, Any]) -> set[str]:
    """What a server's self-test says of this process: in words, what it could do."""
    return {words for _, words in selftest.broken_guarantees(options)}


def self_test_in_disguise(options: dict[str, Any], uid: int) -> set[str]:
    """The same of one that is another user and still has all of root's rights."""
    os.setresuid(uid, 0, 0)
    return self_test(options)

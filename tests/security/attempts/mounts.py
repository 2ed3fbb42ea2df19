"""Mounts and namespaces: other views of the machine's files."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path

from security.attempt import attempt
from security.attempts.inside import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    Stopped,
    in_child,
    syscall,
)
from security.judges import reveals


@attempt("no_foreign_files", root_only="only root mounts outside of a user namespace")
def mounts_a_file_system() -> str:
    """Mounts a file system of its own."""

    def work() -> int:
        syscall("unshare", CLONE_NEWNS)
        return syscall("mount", b"planted", b".", b"tmpfs", 0, 0)

    return in_child(work)


@attempt("no_foreign_files", unless="this machine allows no user namespaces")
def mounts_in_a_user_namespace() -> str:
    """Makes itself root of a user namespace, and mounts a file system there."""

    def work() -> int:
        syscall("unshare", CLONE_NEWUSER | CLONE_NEWNS)
        return syscall("mount", b"planted", b".", b"tmpfs", 0, 0)

    return in_child(work)


@attempt("no_foreign_files", unless="this machine allows no user namespaces")
def makes_a_user_namespace_by_clone() -> str:
    """Starts a process in a user namespace of its own, with all capabilities there."""
    pid = syscall("clone", CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "made"


@attempt("no_foreign_files", unless="this machine allows no user namespaces")
def makes_a_user_namespace_by_clone3() -> str:
    """Does the same by clone3, whose flags a filter of system calls can't see."""
    arguments = struct.pack("8Q", CLONE_NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = syscall("clone3", arguments, len(arguments))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "made"


@attempt("no_foreign_files", root_only="only root mounts outside of a user namespace")
def uses_the_newer_mount_calls() -> str:
    """Opens a file system by fsopen, which filters of mount do not know."""
    return str(syscall("fsopen", b"tmpfs", 0))


@attempt("no_foreign_files", root_only="only root changes its root folder")
def changes_its_root_folder() -> str:
    """Calls chroot, which is the first half of a known way out of one."""
    return in_child(lambda: syscall("chroot", b"."))


@attempt(
    "no_foreign_processes",
    judge=reveals("neighbour_env"),
)
def looks_beneath_its_proc(neighbour_pid: int) -> str:
    """Takes its /proc away, in namespaces of its own, to see the processes of the one beneath."""

    def work() -> str:
        try:
            syscall("unshare", CLONE_NEWNS)
        except OSError:
            syscall("unshare", CLONE_NEWUSER | CLONE_NEWNS)
        detach = 2
        for _ in range(4):
            try:
                return Path(f"/proc/{neighbour_pid}/environ").read_text()
            except FileNotFoundError:
                syscall("umount2", b"/proc", detach)
        raise Stopped("it is nowhere beneath")

    try:
        return Path(f"/proc/{neighbour_pid}/environ").read_text()
    except OSError:
        return in_child(work)


@attempt("no_foreign_processes", root_only="only root enters another's mount namespace")
def enters_a_foreign_mount_namespace(neighbour_pid: int) -> str:
    """Enters the mount namespace of a process that is none of its own."""

    def work() -> int:
        fd = os.open(f"/proc/{neighbour_pid}/ns/mnt", os.O_RDONLY)
        return syscall("setns", fd, CLONE_NEWNS)

    return in_child(work)


@attempt("no_foreign_processes", root_only="only root enters another's mount namespace")
def enters_a_foreign_namespace_by_pidfd(neighbour_pid: int) -> str:
    """Does the same without any file of /proc."""

    def work() -> int:
        return syscall("setns", os.pidfd_open(neighbour_pid), CLONE_NEWNS)

    return in_child(work)

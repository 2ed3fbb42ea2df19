"""What code may try, each as a function that raises OSError where it is denied; the standard library alone.

All is imported ahead: who is confined may be unable to read the interpreter's files.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import pty
import resource
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codecontext_service.workers import filters, landlock, syscalls
from codecontext_service.workers.syscalls import system_call

_libc = ctypes.CDLL(None, use_errno=True)

IPC_PRIVATE, IPC_RMID = 0, 0


def raw(number: int, *arguments: int) -> int:
    """A system call by its number."""
    result: int = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(each) for each in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def call_as_i386() -> int:
    """getpid by int 0x80, the way of 32-bit programs, in machine code of x86_64."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    result: int = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if result < 0:
        raise OSError(-result, os.strerror(-result))  # a kernel without 32-bit calls
    return result


def with_filter_alone(
    policy: Any, attempt: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    """Makes an attempt under a filter, with all capabilities."""
    syscalls.set_no_new_privs()
    filters.install(policy)
    attempt(*arguments)


def errors_of(names: list[str]) -> dict[str, str]:
    """The errno's name, or `ok`, of each of these system calls with arguments that make no sense."""
    return {
        name: error_of(lambda name=name: system_call(name, -1, -1, -1, -1, -1, -1))
        for name in names
    }


def errors_in_namespaces(names: list[str]) -> dict[str, str]:
    """As `errors_of`, where what works by chance harms nothing outside."""
    syscalls.unshare(
        syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWNET
    )
    return errors_of(names)


def error_of(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


# Sockets


def open_socket(family: int, kind: int = socket.SOCK_STREAM) -> None:
    socket.socket(family, kind).close()


def open_socket_pair(family: int) -> None:
    for end in socket.socketpair(family):
        end.close()


def talk_over_loopback() -> bytes:
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        client.sendall(b"hello")
        with server.accept()[0] as accepted:
            return accepted.recv(5)


def talk_over_own_loopback() -> bytes:
    syscalls.unshare(syscalls.CLONE_NEWNET)
    syscalls.bring_up_loopback()
    return talk_over_loopback()


def connect_tcp(port: int) -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", port))


def connect_abstract(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + name)


# Processes


def clone_with(flags: int) -> None:
    pid = system_call("clone", flags | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def unshare(flags: int) -> None:
    syscalls.unshare(flags)


def trace_child() -> None:
    """PTRACE_ATTACH to a child of this process."""
    with child() as pid:
        system_call("ptrace", 16, pid, 0, 0)


def read_memory_of_child() -> None:
    """process_vm_readv from a child, at an address that both have."""
    secret = ctypes.create_string_buffer(b"secret")
    found = ctypes.create_string_buffer(6)
    local = struct.pack("PN", ctypes.addressof(found), 6)
    remote = struct.pack("PN", ctypes.addressof(secret), 6)
    with child() as pid:
        assert system_call("process_vm_readv", pid, local, 1, remote, 1, 0) == 6
    assert found.raw == b"secret"


class child:  # noqa: N801  # reads as a function
    """A child that waits until it is ended."""

    def __enter__(self) -> int:
        read, self._write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
        return self._pid

    def __exit__(self, *error: object) -> None:
        os.close(self._write)  # its end
        os.waitpid(self._pid, 0)


def signal_child() -> None:
    with child() as pid:
        os.kill(pid, 0)


def own_child_by_signal(number: int) -> int:
    """Ends a child by a signal, and returns the one that ended it."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    os.kill(pid, number)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


def signal_pid(pid: int) -> None:
    os.kill(pid, 0)


def signal_parent() -> None:
    os.kill(os.getppid(), 0)


def signal_self() -> list[str]:
    """In each way that code has; `signal.raise_signal` and threads use the others."""
    came: list[int] = []
    worked = []
    signal.signal(signal.SIGUSR1, lambda number, frame: came.append(number))
    for way, action in (
        ("kill", lambda: os.kill(os.getpid(), signal.SIGUSR1)),
        ("group", lambda: os.killpg(0, signal.SIGUSR1)),
        ("own group", lambda: os.killpg(os.getpid(), signal.SIGUSR1)),
        ("raise", lambda: signal.raise_signal(signal.SIGUSR1)),
        ("thread", lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)),
    ):
        action()
        if came:
            worked.append(way)
            came.clear()
    return worked


def signal_by_descriptor(pid: int) -> None:
    """Has the kernel send a signal to another process, when there is something to read."""
    read, write = os.pipe()
    fcntl.fcntl(read, fcntl.F_SETOWN, pid)
    os.close(read)
    os.close(write)


def signal_by_pidfd(pid: int) -> None:
    signal.pidfd_send_signal(os.pidfd_open(pid), 0)


def limit_other(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_CORE, resource.prlimit(os.getpid(), resource.RLIMIT_CORE))


def pin_other(pid: int) -> None:
    os.sched_setaffinity(pid, os.sched_getaffinity(0))


def renice(which: int, who: int) -> None:
    os.setpriority(which, who, os.getpriority(os.PRIO_PROCESS, 0))


def schedule_self() -> None:
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    os.sched_setaffinity(os.getpid(), os.sched_getaffinity(0))
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.prlimit(os.getpid(), resource.RLIMIT_CORE, (0, 0))


def leave_session() -> None:
    """setsid in a child, which leads no group yet."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if error_of(os.setsid) == "ok" else errno.EPERM)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(status, "setsid")


def open_pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


# Memory, devices and files


def make_memfd() -> None:
    os.close(os.memfd_create("memory"))


def make_sysv_segment() -> None:
    segment = system_call("shmget", IPC_PRIVATE, 4096, 0o600)
    system_call("shmctl", segment, IPC_RMID, None)


def watch(path: str) -> None:
    """Adds an inotify watch."""
    fd = _libc.inotify_init1(os.O_CLOEXEC)
    syscalls.check(fd, "inotify_init1")
    syscalls.check(_libc.inotify_add_watch(fd, os.fsencode(path), 0x100), "inotify_add_watch")


def type_into_terminal(request: int) -> None:
    """Pushes a byte into a terminal's input, which must be this session's own."""
    _, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    fcntl.ioctl(slave, request, b"x")


def set_line_discipline() -> None:
    _, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSETD, struct.pack("i", 0))


def terminal_size() -> os.terminal_size:
    """An ioctl that is nobody's danger."""
    _, slave = pty.openpty()
    return os.get_terminal_size(slave)


def set_personality(persona: int) -> int:
    return system_call("personality", persona)


def make_node(mode: int, device: int = 0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.mknod(f"{folder}/node", mode, device)


def truncate_by_path(path: str) -> int:
    os.truncate(path, 1)
    return os.stat(path).st_size


def truncate_by_open(path: str) -> int:
    """Opens to read, and truncates all the same."""
    os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))
    return os.stat(path).st_size


def read_file(path: str) -> bytes:
    return Path(path).read_bytes()


def list_folder(path: str) -> list[str]:
    return sorted(os.listdir(path))


def write_file(path: str) -> None:
    Path(path).write_bytes(b"written")


def rename(source: str, target: str) -> None:
    os.rename(source, target)


def run_program(path: str) -> int:
    return subprocess.run([path], check=False).returncode


def use_device(path: str) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.write(b"x")


def use_folder(path: str) -> list[str]:
    """Everything that files and folders are for."""
    os.makedirs(f"{path}/a/b")
    write_file(f"{path}/a/file")
    os.rename(f"{path}/a/file", f"{path}/a/b/file")
    os.truncate(f"{path}/a/b/file", 3)
    os.symlink("file", f"{path}/a/b/link")
    os.link(f"{path}/a/b/file", f"{path}/a/other")
    os.mkfifo(f"{path}/fifo")
    assert read_file(f"{path}/a/b/link") == b"wri"
    os.unlink(f"{path}/a/b/link")
    os.unlink(f"{path}/a/b/file")
    os.rmdir(f"{path}/a/b")
    return list_folder(path)


def with_landlock(
    rules: Any, version: int, attempt: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    """Makes an attempt under the rules of one version of Landlock."""
    syscalls.set_no_new_privs()
    landlock.restrict(rules, version)
    attempt(*arguments)


def landlock_without_no_new_privs() -> None:
    landlock.restrict(landlock.Ruleset(paths=()))


def landlock_abi() -> int:
    return landlock.abi()

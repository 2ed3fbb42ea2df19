"""What code may try, each as a function that raises OSError where it is denied; the standard library alone.

All is imported ahead: who is confined may be unable to read the interpreter's files.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import dataclasses
import errno
import fcntl
import importlib
import mmap
import multiprocessing
import multiprocessing.pool
import multiprocessing.popen_fork
import multiprocessing.queues
import multiprocessing.synchronize
import os
import pickle
import pty
import resource
import select
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import traceback
import zipfile
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

from codecontext_service.workers import filters, landlock, mounts, probes, syscalls, tiers
from codecontext_service.workers.confinement import ConfinementError, confine
from codecontext_service.workers.syscalls import system_call

_libc = ctypes.CDLL(None, use_errno=True)

_LOADED_LATE = (
    multiprocessing.queues,
    concurrent.futures.ThreadPoolExecutor,
    multiprocessing.pool,
    multiprocessing.synchronize,
)
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
    filters.install(policy, os.getpid())
    attempt(*arguments)


def errors_of(names: list[str]) -> dict[str, str]:
    """The errno's name, or `ok`, of each of these system calls with arguments that make no sense."""
    return {
        name: _error_of(lambda name=name: system_call(name, -1, -1, -1, -1, -1, -1))
        for name in names
    }


def errors_in_namespaces(names: list[str]) -> dict[str, str]:
    """As `errors_of`, where what works by chance harms nothing outside."""
    syscalls.unshare(
        syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWNET
    )
    return errors_of(names)


def _error_of(action: Callable[[], object]) -> str:
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
        os._exit(0 if _error_of(os.setsid) == "ok" else errno.EPERM)
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


# What ordinary code does


def use_threads() -> int:
    found: list[int] = []
    threads = [threading.Thread(target=found.append, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(found)


def use_subprocess() -> bytes:
    shell = "trap 'echo ended; exit' TERM; echo began; read line"
    with subprocess.Popen(
        ["/bin/sh", "-c", shell],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        began = process.stdout.readline()
        process.terminate()
        return began + process.communicate(b"\n")[0]


def _double(number: int) -> int:
    return 2 * number


def use_multiprocessing(method: str) -> list[int]:
    """A pool, with its semaphores, pipes and signals."""
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(_double, range(4))


def use_shared_memory() -> bytes:
    memory = shared_memory.SharedMemory(create=True, size=16)
    try:
        pid = os.fork()
        if pid == 0:
            memory.buf[:5] = b"hello"
            os._exit(0)
        os.waitpid(pid, 0)
        return bytes(memory.buf[:5])
    finally:
        memory.close()
        memory.unlink()


def use_asyncio() -> bytes:
    async def talk() -> bytes:
        process = await asyncio.create_subprocess_exec(
            "/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        await asyncio.to_thread(os.getpid)
        return (await process.communicate(b"hello"))[0]

    return asyncio.run(talk())


def use_epoll() -> int:
    read, write = os.pipe()
    with select.epoll() as poll:
        poll.register(read, select.EPOLLIN)
        os.write(write, b"x")
        return len(poll.poll(10))


def use_sqlite(folder: str) -> list[tuple[int]]:
    with sqlite3.connect(f"{folder}/data.db") as database:
        database.execute("pragma journal_mode = wal")
        database.execute("create table numbers (number integer)")
        database.executemany("insert into numbers values (?)", [(1,), (2,)])
        found = database.execute("select sum(number) from numbers").fetchall()
    database.close()
    return found


def use_memory() -> bytes:
    """Memory that is shared with a child, and huge files that are mapped."""
    with mmap.mmap(-1, 4096) as shared:
        pid = os.fork()
        if pid == 0:
            shared[:5] = b"hello"
            os._exit(0)
        os.waitpid(pid, 0)
        return shared[:5]


def use_terminal() -> bytes:
    """A shell on a terminal of its own, which needs a new session."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv("/bin/echo", ["echo", "hello"])
    said = os.read(master, 100)
    os.waitpid(pid, 0)
    return said


def run_python(interpreter: str, code: str, *flags: str) -> str:
    """Another interpreter, which exec'd code confines as well."""
    command = [interpreter, "-I", *flags, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def make_wheel(folder: str) -> str:
    """Makes a package of one module."""
    path = f"{folder}/tiny-1.0-py3-none-any.whl"
    meta = "tiny-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "answer = 42\n")
        wheel.writestr(f"{meta}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(
            f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(
            f"{meta}/RECORD", f"tiny.py,,\n{meta}/METADATA,,\n{meta}/WHEEL,,\n{meta}/RECORD,,\n"
        )
    return path


# What is left of a process's rights


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


def python_prefixes() -> list[str]:
    """Where this interpreter's files are."""
    return sorted({sys.base_prefix, sys.prefix})


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
        "write to bound": _error_of(lambda: os.mkdir("/bound/new")),
        "fill small": _error_of(lambda: write_bytes("/small/big", 2 << 20)),
        "many files": _error_of(many_files),
        "pids": [name for name in list_folder("/proc") if name.isdigit()],
        "device": _error_of(lambda: use_device("/bound/zero")),
    }


def assess_machine() -> dict[str, Any]:
    found = tiers.assess(probes.probe_layers())
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

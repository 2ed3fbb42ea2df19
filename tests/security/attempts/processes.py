"""Other processes: that they are there, what is in them, and what they hold."""

from __future__ import annotations

import ctypes
import os
import re
import resource
from pathlib import Path

from security.attempt import ALWAYS, attempt
from security.attempts.inside import PTRACE_SEIZE, Stopped, in_child, syscall
from security.judges import neighbour_has_other_memory, neighbour_is_nicer, reveals

_YAMA = "this machine lets a process look into its own children alone"


@attempt("no_foreign_processes")
def finds_a_foreign_process() -> str:
    """Finds a process of the machine in /proc, by its command."""
    for name in os.listdir("/proc"):
        try:
            if (
                name.isdigit()
                and b"security.neighbour" in Path(f"/proc/{name}/cmdline").read_bytes()
            ):
                return name
        except OSError:
            continue
    raise Stopped("it is not there")


@attempt("no_foreign_processes")
def probes_for_a_foreign_process(neighbour_pid: int) -> str:
    """Asks the kernel for the session of a process of the machine."""
    return str(os.getsid(neighbour_pid))


@attempt(
    "no_foreign_processes",
    judge=reveals("server_env"),
    unless="the server keeps itself from being looked into",
)
def reads_the_servers_environment(server_pid: int) -> str:
    """Reads the environment that the server was started with."""
    return Path(f"/proc/{server_pid}/environ").read_text()


@attempt("no_foreign_processes", judge=reveals("neighbour_env"))
def reads_a_foreign_environment(neighbour_pid: int) -> str:
    """Reads the environment of another process of the server's user."""
    return Path(f"/proc/{neighbour_pid}/environ").read_text()


@attempt("no_foreign_processes", judge=reveals("neighbour_memory"))
def reads_foreign_memory(neighbour_pid: int, memory_address: int, memory_length: int) -> str:
    """Reads the memory of another process as a file."""
    with open(f"/proc/{neighbour_pid}/mem", "rb", buffering=0) as memory:
        memory.seek(memory_address)
        return memory.read(memory_length).decode()


@attempt("no_foreign_processes", judge=reveals("neighbour_memory"))
def copies_foreign_memory(neighbour_pid: int, memory_address: int, memory_length: int) -> str:
    """Copies the memory of another process by a system call."""
    buffer = ctypes.create_string_buffer(memory_length)
    ours = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), memory_length)
    theirs = (ctypes.c_ulong * 2)(memory_address, memory_length)
    syscall("process_vm_readv", neighbour_pid, ours, 1, theirs, 1, 0)
    return buffer.value.decode()


@attempt("no_foreign_processes", judge=neighbour_has_other_memory)
def changes_foreign_memory(neighbour_pid: int, memory_address: int) -> str:
    """Writes into the memory of another process."""
    buffer = ctypes.create_string_buffer(b"PLANTED-")
    ours = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), 8)
    theirs = (ctypes.c_ulong * 2)(memory_address, 8)
    return str(syscall("process_vm_writev", neighbour_pid, ours, 1, theirs, 1, 0))


@attempt("no_foreign_processes", judge=reveals("victim_memory"), unless=_YAMA)
def reads_another_contexts_memory(victim_pid: int, victim_address: int, victim_length: int) -> str:
    """Reads a variable of another context."""
    with open(f"/proc/{victim_pid}/mem", "rb", buffering=0) as memory:
        memory.seek(victim_address)
        return memory.read(victim_length).decode()


@attempt("no_foreign_processes")
def traces_a_foreign_process(neighbour_pid: int) -> str:
    """Becomes the debugger of another process."""
    return in_child(lambda: syscall("ptrace", PTRACE_SEIZE, neighbour_pid, 0, 0))


@attempt("no_foreign_processes", unless=_YAMA)
def traces_its_keeper() -> str:
    """Becomes the debugger of the process that holds its context together, which may do more than it."""
    keeper = os.getppid()
    return in_child(lambda: syscall("ptrace", PTRACE_SEIZE, keeper, 0, 0))


@attempt("no_foreign_processes", unless=_YAMA)
def opens_its_keepers_memory() -> str:
    """Opens the memory of the process that holds its context together, for writing."""
    os.close(os.open(f"/proc/{os.getppid()}/mem", os.O_RDWR))
    return "open"


@attempt("no_foreign_processes")
def looks_up_what_its_keeper_holds() -> str:
    """Looks up what lies behind the descriptors of the process that holds its context together."""
    folder = f"/proc/{os.getppid()}/fd"
    return str([os.readlink(f"{folder}/{name}") for name in os.listdir(folder)])


@attempt("no_foreign_processes", judge=reveals("victim_file"))
def goes_through_a_foreign_root(victim_pid: int, victim_workspace: str) -> str:
    """Reads a file of another context through the root folder of its process."""
    return Path(f"/proc/{victim_pid}/root{victim_workspace}/secret.txt").read_text()


@attempt("no_foreign_processes", judge=reveals("victim_file"))
def goes_through_a_foreign_folder(victim_pid: int) -> str:
    """Reads a file of another context through the working directory of its process."""
    return Path(f"/proc/{victim_pid}/cwd/secret.txt").read_text()


@attempt("no_foreign_processes", judge=reveals("neighbour_file"))
def opens_a_foreign_descriptor(neighbour_pid: int, open_fd: int) -> str:
    """Opens a file without a name that another process holds open."""
    return Path(f"/proc/{neighbour_pid}/fd/{open_fd}").read_text()


@attempt("no_foreign_processes", judge=reveals("neighbour_file"))
def takes_a_foreign_descriptor(neighbour_pid: int, open_fd: int) -> str:
    """Takes a copy of a descriptor of another process."""
    fd = syscall("pidfd_getfd", os.pidfd_open(neighbour_pid), open_fd, 0)
    return os.pread(fd, 1000, 0).decode()


@attempt("no_foreign_processes")
def changes_foreign_limits(neighbour_pid: int) -> str:
    """Changes a limit of another process, to what it is."""
    limit = resource.RLIMIT_NOFILE
    return str(resource.prlimit(neighbour_pid, limit, resource.prlimit(neighbour_pid, limit)))


@attempt("no_foreign_processes")
def moves_a_foreign_process(neighbour_pid: int) -> str:
    """Says on which processors another process runs: on those that it has."""
    os.sched_setaffinity(neighbour_pid, os.sched_getaffinity(neighbour_pid))
    return "moved"


@attempt("no_foreign_processes", judge=neighbour_is_nicer)
def slows_all_processes_of_its_user() -> str:
    """Gives all processes of its user a lower priority at once, without knowing any."""
    os.setpriority(os.PRIO_USER, os.getuid(), os.getpriority(os.PRIO_PROCESS, 0) + 1)
    return "slowed"


@attempt(ALWAYS, judge=reveals("server_env"))
def finds_the_servers_secret_in_its_environment() -> str:
    """Looks for the server's secrets in its own environment, and in the one that it was started with."""
    own = Path("/proc/self/environ").read_bytes().decode(errors="replace")
    return " ".join([*os.environ.values(), *own.split("\0")])[-900:]


@attempt(ALWAYS, judge=reveals("server_env"))
def finds_the_servers_secret_in_its_memory() -> str:
    """Looks for the server's secrets in its own memory, most of which was there before its context."""
    pattern = re.compile(rb"planted-server_env-[0-9a-f]{16}")
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, mode = line.split()[:2]
            start, end = (int(each, 16) for each in span.split("-"))
            if mode.startswith("rw"):
                try:
                    memory.seek(start)
                    if found := pattern.search(memory.read(end - start)):
                        return found[0].decode()
                except (OSError, ValueError):
                    continue
    raise Stopped("it is not there")

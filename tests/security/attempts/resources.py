"""More processes, memory and disk than a context may have. Each is bounded, for where it succeeds."""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from pathlib import Path

from security.attempt import attempt
from security.attempts.inside import LIBC, Stopped, fill, in_child

_MEMORY = ("memory_limit_hard", "memory_limit_soft")
_MIB = 1 << 20
_LIMITS = {
    "memory_bytes": 256 * _MIB,
    "processes": 64,
    "workspace_bytes": 32 * _MIB,
    "workspace_inodes": 1000,
}


@attempt("process_limit", limits=_LIMITS)
def has_too_many_processes() -> str:
    """Has 300 processes at a time."""
    children: list[int] = []
    try:
        while len(children) < 300:
            children.append(os.posix_spawn("/bin/sleep", ["sleep", "60"], {}))
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
    return f"{len(children)} processes"


@attempt("process_limit", limits=_LIMITS)
def has_too_many_threads() -> str:
    """Has 300 threads at a time."""
    done = threading.Event()
    threads: list[threading.Thread] = []
    try:
        while len(threads) < 300:
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            threads.append(thread)
    except RuntimeError as error:
        raise Stopped(f"{len(threads)} threads: {error}") from error
    finally:
        done.set()
        for thread in threads:
            thread.join()
    return f"{len(threads)} threads"


@attempt(*_MEMORY, limits=_LIMITS)
def takes_too_much_memory() -> str:
    """Takes 512 MiB of memory of its own, and holds it for two seconds."""

    def work() -> str:
        taken = [bytearray(b"x" * (16 << 20)) for _ in range(32)]
        time.sleep(2)
        return f"{len(taken) * 16} MiB"

    return in_child(work)


@attempt(*_MEMORY, limits=_LIMITS)
def takes_too_much_memory_out_of_sight() -> str:
    """Takes 512 MiB of memory in a process that has closed what tells how much it has."""

    def work() -> str:
        pr_set_dumpable = 4
        LIBC.prctl(pr_set_dumpable, 0, 0, 0, 0)
        taken = [bytearray(b"x" * (16 << 20)) for _ in range(32)]
        time.sleep(2)
        return f"{len(taken) * 16} MiB"

    return in_child(work)


@attempt(*_MEMORY, limits=_LIMITS)
def takes_too_much_shared_memory() -> str:
    """Takes 512 MiB of memory that is nobody's own, and holds it for two seconds."""

    def work() -> str:
        taken = []
        for _ in range(32):
            piece = mmap.mmap(-1, 16 << 20)
            piece.write(b"x" * (16 << 20))
            taken.append(piece)
        time.sleep(2)
        return f"{len(taken) * 16} MiB"

    return in_child(work)


@attempt(*_MEMORY, limits=_LIMITS)
def takes_too_much_memory_as_files() -> str:
    """Takes 512 MiB of memory as files without a name, which no limit of a process counts."""

    def work() -> str:
        files = []
        for _ in range(32):
            fd = os.memfd_create("planted")
            piece = b"x" * (16 << 20)
            if os.write(fd, piece) < len(piece):
                raise Stopped(f"{len(files) * 16} MiB")
            files.append(fd)
        time.sleep(2)
        return f"{len(files) * 16} MiB"

    return in_child(work)


@attempt(*_MEMORY, limits=_LIMITS)
def takes_too_much_memory_together() -> str:
    """Takes 512 MiB of memory with four processes, each of which takes what one may have."""
    reader, writer = os.pipe()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                taken = b"x" * (128 << 20)
                time.sleep(2)
                os.write(writer, taken[:1])
            finally:
                os._exit(0)
        children.append(child)
    os.close(writer)
    with open(reader, "rb") as end:
        held = len(end.read())
    for child in children:
        os.waitpid(child, 0)
    if held < len(children):
        raise Stopped(f"{held} of {len(children)} could hold it")
    return "512 MiB"


@attempt(
    *_MEMORY,
    root_only="an ordinary user can't make itself less likely to be killed",
    unless="root itself can't make itself less likely to be killed here",
    limits=_LIMITS,
)
def has_others_die_for_its_memory() -> str:
    """Tells the kernel to kill every other process first when memory runs out."""

    def work() -> int:
        return Path("/proc/self/oom_score_adj").write_text("-1000")

    return in_child(work)


@attempt("disk_limit", limits=_LIMITS)
def fills_its_workspace() -> str:
    """Writes 128 MiB into its workspace."""
    return fill(".", 128)


@attempt("disk_limit", limits=_LIMITS)
def fills_its_workspace_without_a_name() -> str:
    """Writes 128 MiB into files of its workspace that it has removed, but holds open."""
    files = []
    for number in range(8):
        file = open(f"planted-{number}", "wb", buffering=0)  # noqa: SIM115  # held open
        os.unlink(file.name)
        piece = b"x" * (16 << 20)
        if (written := file.write(piece)) < len(piece):
            raise Stopped(f"{number * 16 + (written >> 20)} MiB")
        files.append(file)
    return f"{len(files) * 16} MiB"


@attempt("disk_limit", limits=_LIMITS)
def makes_too_many_files() -> str:
    """Makes 5000 files in its workspace."""
    for number in range(5000):
        os.close(os.open(f"planted-{number}", os.O_CREAT | os.O_WRONLY))
    return "5000 files"


@attempt("disk_limit", limits=_LIMITS)
def fills_the_temporary_folder() -> str:
    """Writes 400 MiB into /tmp, by which others would have no room left."""
    return fill("/tmp", 400)


@attempt("disk_limit", limits=_LIMITS)
def fills_the_folder_of_shared_memory() -> str:
    """Writes 400 MiB into /dev/shm, which is memory of the machine."""
    return fill("/dev/shm", 400)


@attempt("disk_limit", limits=_LIMITS)
def fills_another_folder_of_the_machine(home: str) -> str:
    """Writes 128 MiB into any folder of the machine where it may write at all."""
    for folder in (home, "/var/tmp", "/run", "/home", "/root"):
        try:
            return f"{folder}: {fill(folder, 128)}"
        except OSError:
            continue
    raise Stopped("none takes that much")

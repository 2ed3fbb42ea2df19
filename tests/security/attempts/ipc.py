"""What processes share in the kernel's tables: segments, queues and semaphores."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from security.attempt import attempt
from security.attempts.inside import LIBC, Stopped, syscall
from security.judges import reveals, shared_memory_is_left


@attempt("no_foreign_files", judge=reveals("shm"))
def reads_a_segment_of_shared_memory(shm_id: int) -> str:
    """Reads a segment of System V shared memory of another process, by its id."""
    address = syscall("shmat", shm_id, 0, 0o10000)
    return ctypes.string_at(address).decode()


@attempt("no_foreign_files", judge=reveals("shm"))
def finds_a_segment_of_shared_memory(shm_key: int) -> str:
    """Reads a segment of System V shared memory of another process, by its key."""
    address = syscall("shmat", syscall("shmget", shm_key, 4096, 0), 0, 0o10000)
    return ctypes.string_at(address).decode()


@attempt("no_foreign_files", judge=reveals("posix_shm"))
def reads_a_file_of_shared_memory(shm_name: str) -> str:
    """Reads the POSIX shared memory of another process."""
    return Path(f"/dev/shm/{shm_name}").read_text()


@attempt("no_foreign_files", judge=reveals("queue"))
def reads_a_message_queue(queue_id: int) -> str:
    """Takes a copy of a message that waits for another process in a System V queue."""
    buffer = ctypes.create_string_buffer(1000)
    no_wait, copy = 0o4000, 0o40000
    syscall("msgrcv", queue_id, buffer, 900, 0, no_wait | copy)
    return buffer.raw[8:].rstrip(b"\0").decode()


@attempt("no_foreign_files")
def reads_a_semaphore(semaphore_id: int) -> str:
    """Reads a semaphore of another process."""
    get_value = 12
    return str(syscall("semctl", semaphore_id, 0, get_value, 0))


@attempt("no_foreign_files", then="delete", judge=shared_memory_is_left)
def leaves_a_segment_of_shared_memory() -> str:
    """Makes a segment of System V shared memory, which outlives its processes."""
    create, key = 0o1000, int(time.time()) & 0xFFFFFF | 0x40000000
    if LIBC.shmget(key, 4096, create | 0o600) < 0:
        raise Stopped(os.strerror(ctypes.get_errno()))
    return str(key)

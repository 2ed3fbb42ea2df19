"""What ordinary code does every day; the standard library alone.

All is imported ahead: who is confined may be unable to read the interpreter's files.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import mmap
import multiprocessing
import multiprocessing.pool
import multiprocessing.popen_fork
import multiprocessing.queues
import multiprocessing.synchronize
import os
import pty
import select
import sqlite3
import subprocess
import threading
import zipfile
from multiprocessing import shared_memory

_LOADED_LATE = (
    multiprocessing.queues,
    concurrent.futures.ThreadPoolExecutor,
    multiprocessing.pool,
    multiprocessing.synchronize,
)


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

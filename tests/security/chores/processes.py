"""Threads, processes, signals, and how they talk to each other."""

from __future__ import annotations

from security.chore import chore

_LOCKS = "shared memory has names that all processes of the machine share"
_SOCKETS = "the network is the machine's"


@chore()
def runs_threads() -> None:
    """Runs some threads, and gathers what they return."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda number: number * number, range(100))) == 328_350


@chore(cells_only=_LOCKS)
def runs_a_pool_of_processes() -> None:
    """Spreads work over a pool of processes, with its locks and queues."""
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, range(-10, 0)) == list(range(10, 0, -1))


@chore()
def runs_a_program() -> None:
    """Starts a program, writes to it, and reads its output and exit status."""
    import subprocess

    done = subprocess.run(["tr", "a-z", "A-Z"], input="hello", capture_output=True, text=True)  # noqa: PLW1510
    assert (done.returncode, done.stdout) == (0, "HELLO")


@chore()
def runs_a_pipeline() -> None:
    """Joins programs by a pipe in a shell."""
    import subprocess

    out = subprocess.check_output("seq 1 100 | grep 7 | wc -l", shell=True, text=True)  # noqa: S602
    assert out.strip() == "19"


@chore()
def runs_another_python() -> None:
    """Starts another Python, which has the same libraries."""
    import subprocess
    import sys

    code = "import numpy; print(numpy.arange(4).sum())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "6\n"


@chore()
def forks() -> None:
    """Forks, and waits for the child."""
    import os

    pid = os.fork()
    if pid == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@chore()
def ends_a_process_of_its_own() -> None:
    """Terminates a program that it has started."""
    import signal
    import subprocess

    with subprocess.Popen(["sleep", "60"]) as process:
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM


@chore()
def handles_signals() -> None:
    """Handles a signal that it sends to itself, and a timer's."""
    import os
    import signal

    got = []
    signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGALRM, lambda number, frame: got.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    assert got == [signal.SIGUSR1, signal.SIGALRM]


@chore(cells_only=_LOCKS)
def shares_memory() -> None:
    """Shares memory with a child process by its name."""
    import multiprocessing
    from multiprocessing.shared_memory import SharedMemory

    memory = SharedMemory(create=True, size=100)
    try:

        def work(name: str) -> None:
            other = SharedMemory(name)
            other.buf[:2] = b"ok"
            other.close()

        process = multiprocessing.get_context("fork").Process(target=work, args=(memory.name,))
        process.start()
        process.join(20)
        assert bytes(memory.buf[:2]) == b"ok"
    finally:
        memory.close()
        memory.unlink()


@chore(cells_only=_LOCKS)
def waits_for_each_other() -> None:
    """Has processes wait for each other with a semaphore and a queue."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    queue, semaphore = context.Queue(), context.Semaphore(0)

    def work() -> None:
        semaphore.acquire()
        queue.put("done")

    process = context.Process(target=work)
    process.start()
    semaphore.release()
    assert queue.get(timeout=20) == "done"
    process.join(20)


@chore(cells_only=_SOCKETS)
def serves_on_loopback() -> None:
    """Serves and asks on its own loopback, with asyncio."""
    import asyncio

    async def talk() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            line = await reader.read()
            writer.close()
            return line

    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(talk()) == b"hello\n"
    finally:
        loop.close()


@chore(cells_only=_SOCKETS)
def talks_over_a_pair_of_sockets() -> None:
    """Talks over a pair of unix sockets, and over one with a file in its working directory."""
    import socket

    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"x")
        assert right.recv(1) == b"x"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as end:
        listener.bind("socket")
        listener.listen()
        end.connect("socket")


@chore()
def runs_a_program_of_its_own() -> None:
    """Writes a script, makes it executable, and runs it."""
    import subprocess
    from pathlib import Path

    Path("script.sh").write_text("#!/bin/sh\necho $((6 * 7))\n")
    Path("script.sh").chmod(0o700)
    assert subprocess.check_output(["./script.sh"], text=True) == "42\n"

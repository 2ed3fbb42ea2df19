"""The floor of a create, a fork and a delete: a bare fork of a process that has loaded what the zygote has.

Prints a line once it is ready; then, for each number that it reads, the seconds of so many forks; a second
number on the line has it hold arrays of so many MiB from then on. For `end` it prints how long a fork that has
done what a run does takes to be gone.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time

from codecontext_service.runtime_config import RuntimeConfig
from codecontext_service.workers.python.interpreter import Interpreter

MIB = 1 << 20

_PAUSE_S = 0.01
"""How long a child waits for its end: as a context does, out of the processor."""


def fork_once() -> float:
    """Returns the time from before a fork to the child's first byte; the child is reaped after that."""
    read, write = os.pipe()
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"x")
        os._exit(0)
    os.read(read, 1)
    elapsed = time.perf_counter() - began
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)
    return elapsed


def end_once(loaded: Interpreter) -> float:
    """Returns the time from before SIGKILL until a child is reaped, which has rehearsed a run."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        loaded.rehearse()
        os.write(write, b"x")
        signal.pause()
    os.read(read, 1)
    time.sleep(_PAUSE_S)
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    elapsed = time.perf_counter() - began
    os.close(read)
    os.close(write)
    return elapsed


def main() -> None:
    """Forks as often as it is told to, until standard input ends."""
    loaded = Interpreter(list(RuntimeConfig().preload))
    gc.collect()
    gc.freeze()
    print(json.dumps({"missing": loaded.missing}), flush=True)
    blocks: list[object] = []
    for line in sys.stdin:
        if line == "end\n":
            print(json.dumps(end_once(loaded)), flush=True)
            continue
        count, *sizes = map(int, line.split())
        if sizes and sizes[0] != len(blocks):
            import numpy  # loaded above, where it is installed

            blocks = [numpy.ones(MIB // 8) for _ in range(sizes[0])]
        print(json.dumps([fork_once() for _ in range(count)]), flush=True)


if __name__ == "__main__":
    main()

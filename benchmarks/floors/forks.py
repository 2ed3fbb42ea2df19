"""The floor of a create and of a fork: a bare fork of a process that has loaded what the zygote has loaded.

Prints a line once it is ready; then, for each number that it reads, the seconds of so many forks. A second
number on the line has it hold arrays of so many MiB from then on.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time

from codecontext_service.config import RuntimeConfig
from codecontext_service.workers.python.interpreter import Interpreter

MIB = 1 << 20


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


def main() -> None:
    """Forks as often as it is told to, until standard input ends."""
    loaded = Interpreter(list(RuntimeConfig().preload))
    gc.collect()
    gc.freeze()
    print(json.dumps({"missing": loaded.missing}), flush=True)
    blocks: list[object] = []
    for line in sys.stdin:
        count, *sizes = map(int, line.split())
        if sizes and sizes[0] != len(blocks):
            import numpy  # loaded above, where it is installed

            blocks = [numpy.ones(MIB // 8) for _ in range(sizes[0])]
        print(json.dumps([fork_once() for _ in range(count)]), flush=True)


if __name__ == "__main__":
    main()

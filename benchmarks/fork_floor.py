"""The floor of a create: a bare fork of a process that has loaded what the zygote has. Prints seconds."""

from __future__ import annotations

import gc
import json
import os
import sys
import time

import matplotlib.pyplot
import numpy
import pandas
from IPython.core.interactiveshell import InteractiveShell

LOADED = (matplotlib.pyplot, numpy, pandas, InteractiveShell)


def fork_once() -> float:
    """Returns the time from before a fork to the child's first byte."""
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


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps([fork_once() for _ in range(int(line))]), flush=True)

"""The start of a server until it is SERVING, with all that contexts find loaded, and what it takes then."""

from __future__ import annotations

import subprocess
import sys
import time

import grpc
from calls import create, delete, run, wait_for_pool
from effort import Effort
from figures import Expectation, Figures
from memory import tree
from processes import server

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

_OWN_OF_A_CELL = "own memory of a cell that nobody uses: its keeper"

EXPECTATIONS = (
    Expectation("start until SERVING", 1500.0),
    Expectation(_OWN_OF_A_CELL, 1.3),
)

_IMPORTS = "import IPython, numpy, pandas, matplotlib.pyplot"


def measure(figures: Figures, effort: Effort) -> None:
    """Measures starts in turns with the start of a Python that imports the same."""
    for _ in range(effort.times(10)):
        with figures.timed("python -c 'import IPython, numpy, pandas, …'"):
            subprocess.run([sys.executable, "-c", _IMPORTS], check=True)
        began = time.perf_counter()
        with server():
            taken = time.perf_counter() - began
        floor = "python -c 'import IPython, numpy, pandas, …'"
        figures.add("start until SERVING", taken, floor=floor)
    with server("--pool-size", "0") as served, grpc.insecure_channel(served.target) as channel:
        stub = CodeContextServiceStub(channel)
        for runtime in stub.GetServerInfo(pb.GetServerInfoRequest()).runtimes:
            if not runtime.failure:  # those of other languages
                wait_for_pool(stub, runtime.name)
        without = tree(served.pid)
        figures.add("memory of the server's process", without.root_bytes, unit="byte")
        figures.add("memory of all, without contexts", without.bytes, unit="byte")
        for size in without.zygotes_bytes:
            figures.add("memory of the zygote", size, unit="byte")
        for size in without.keepers_bytes:
            figures.add("memory of a cell that nobody uses: its keeper", size, unit="byte")
        for size in without.keepers_own_bytes:
            figures.add(_OWN_OF_A_CELL, size, unit="byte")
        contexts = [create(stub) for _ in range(20)]
        idle = (tree(served.pid).bytes - without.bytes) / len(contexts)
        for context_id in contexts:
            run(stub, context_id, "1+1")
        used = (tree(served.pid).bytes - without.bytes) / len(contexts)
        figures.add("memory of a context that has not run yet", idle, unit="byte")
        figures.add("memory of a context that has run 1+1", used, unit="byte")
        for context_id in contexts:
            delete(stub, context_id)

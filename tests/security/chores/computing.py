"""Libraries for arrays, tables and plots, memory, output, and IPython's own words."""

from __future__ import annotations

from security.chore import Chore, chore


@chore()
def computes_with_arrays() -> None:
    """Computes with numpy, linear algebra and random numbers among it."""
    import numpy as np

    matrix = np.random.default_rng(1).random((200, 200))
    assert np.allclose(matrix @ np.linalg.inv(matrix), np.eye(200))


@chore()
def works_with_tables() -> None:
    """Writes, reads and groups tables with pandas."""
    import pandas as pd

    pd.DataFrame({"a": [1, 1, 2], "b": [1.5, 2.5, 3.5]}).to_csv("table.csv", index=False)
    assert pd.read_csv("table.csv").groupby("a").b.sum().to_dict() == {1: 4.0, 2: 3.5}


@chore()
def draws_a_plot() -> None:
    """Draws a plot with text into a file, which needs fonts."""
    from pathlib import Path

    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.plot([1, 2, 3])
    axes.set_title("title")
    figure.savefig("plot.png")
    plt.close(figure)
    assert Path("plot.png").read_bytes().startswith(b"\x89PNG")


@chore()
def calls_a_c_library() -> None:
    """Calls the C library by ctypes, with a callback."""
    import ctypes

    libc = ctypes.CDLL(None)
    numbers = (ctypes.c_int * 3)(3, 1, 2)
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)
    )
    libc.qsort(numbers, 3, ctypes.sizeof(ctypes.c_int), kind(lambda a, b: a[0] - b[0]))
    assert list(numbers) == [1, 2, 3]


@chore()
def takes_some_memory() -> None:
    """Takes 200 MiB of memory, and gives them back."""
    taken = bytearray(b"x") * (200 << 20)
    assert len(taken) == 200 << 20


@chore()
def writes_much_output() -> None:
    """Writes 5 MB of output."""
    import sys

    for number in range(50_000):
        sys.stdout.write(f"{number:099}\n")


runs_a_shell_command = Chore(
    "runs_a_shell_command",
    "Runs a command of the shell from a cell, and takes its output.",
    "lines = !echo one; echo two\nassert list(lines) == ['one', 'two'], lines\n!true\n",
)


awaits_in_a_cell = Chore(
    "awaits_in_a_cell",
    "Awaits at the top level of a cell.",
    "import asyncio\nawait asyncio.sleep(0.01)\nassert await asyncio.to_thread(sum, [1, 2]) == 3\n",
)


uses_magics = Chore(
    "uses_magics",
    "Uses magics of IPython: writes a file by one, and times something.",
    "%env ANSWER=42\nimport os\nassert os.environ['ANSWER'] == '42'\n%timeit -n1 -r1 pass\n%pwd\n",
)

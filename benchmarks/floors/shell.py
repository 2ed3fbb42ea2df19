"""The floor of a run: the same code in IPython's own shell, and a byte to another process and back.

Prints a line once it is ready. For a number it answers with seconds by name, measured so often at once;
for `table` with the seconds that the representations of a table of 100 rows take.
"""

from __future__ import annotations

import json
import os
import sys
import time

import pandas as pd
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output


def start_echo() -> tuple[int, int]:
    """Starts a process that sends back each byte; returns where to write and where to read."""
    (their_read, write), (read, their_write) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(write)
        while content := os.read(their_read, 1):
            os.write(their_write, content)
        os._exit(0)
    os.close(their_read)
    os.close(their_write)
    return write, read


def main() -> None:
    """Answers until the standard input ends."""
    write, read = start_echo()
    shell = InteractiveShell.instance()
    table = pd.DataFrame({"n": range(100), "half": [n / 2 for n in range(100)]})
    print("ready", flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        if line.strip() == "table":
            shell.display_formatter.format(table)
            print(time.perf_counter() - began, flush=True)
            continue
        count = int(line)
        with capture_output():
            for _ in range(count):
                shell.run_cell("1+1", store_history=True)
        middle = time.perf_counter()
        for _ in range(count):
            os.write(write, b"x")
            os.read(read, 1)
        end = time.perf_counter()
        seconds = {
            "IPython.run_cell('1+1') in process": (middle - began) / count,
            "a byte by pipes and back": (end - middle) / count,
        }
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()

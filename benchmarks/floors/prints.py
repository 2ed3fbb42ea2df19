"""Floor of many prints: a bare Python that prints lines into a pipe, each of them at once.

For each line of standard input, a number of lines, it answers how long it took to read them all, in
seconds; the start of the bare Python is not counted.
"""

from __future__ import annotations

import subprocess
import sys
import time

PRINTS = "print(); import sys\nfor number in range(int(sys.argv[1])): print(number, flush=True)"


def main() -> None:
    """Answers until the standard input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        command = [sys.executable, "-u", "-c", PRINTS, line.strip()]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            began = time.perf_counter()
            size = len(process.stdout.read())
            taken = time.perf_counter() - began
        assert size == sum(len(str(number)) + 1 for number in range(int(line))), size
        print(taken, flush=True)


if __name__ == "__main__":
    main()

"""The code that is run, in each language: the same thing in the words of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from codecontext.v1 import code_context_service_pb2 as pb


@dataclass(frozen=True)
class Snippets:
    """What is run in one language; empty where the language has no such thing."""

    run: str
    """The least that shows a value."""
    print: str
    """Writes a short line, and nothing else."""
    slow: str
    """Writes a short line, then waits for a moment."""
    forever: str
    """Never ends by itself."""
    children: str
    """Leaves 50 child processes."""
    writes: Callable[[int, int], str]
    """By a number and a size: so many writes to standard output of so many bytes each."""
    result: str = ""
    """Has a result of 10 MB."""
    table: str = ""
    """Shows a table of 100 rows, which `before` has made."""
    plot: str = ""
    """Draws a plot."""
    before: str = ""
    """Is run once, before all others."""


_NODE = Snippets(
    run="1+1",
    print="console.log(1)",
    slow="console.log('x'); await new Promise((done) => setTimeout(done, 3))",
    forever="while (true);",
    children=(
        "for (let n = 0; n < 50; n++) require('node:child_process')"
        ".spawn('sleep', ['1000'], { stdio: 'ignore' }).unref()"
    ),
    writes=lambda count, size: (
        f"for (let n = 0; n < {count}; n++) process.stdout.write('x'.repeat({size})); undefined"
    ),
    result="'x'.repeat(1e7)",
)

SNIPPETS = {
    "python": Snippets(
        run="1+1",
        print="print(1)",
        slow="print('x', flush=True); import time; time.sleep(0.003)",
        forever="while True: pass",
        children="import subprocess\n_ = [subprocess.Popen(['sleep', '1000']) for _ in range(50)]",
        writes=lambda count, size: (
            f"import sys\nfor _ in range({count}): _ = sys.stdout.write('x' * {size})"
        ),
        result="'x' * 10_000_000",
        table="table",
        plot="from matplotlib import pyplot as plt\n_ = plt.plot(range(100)); plt.show()",
        before=(
            "import pandas as pd\n"
            "table = pd.DataFrame({'n': range(100), 'half': [n / 2 for n in range(100)]})"
        ),
    ),
    "javascript": _NODE,
    "typescript": _NODE,
    "bash": Snippets(
        run="echo 2",
        print="echo 1",
        slow="echo x; sleep 0.003",
        forever="while :; do :; done",
        children="for ((n = 0; n < 50; n++)); do sleep 1000 & done",
        writes=lambda count, size: (
            f"printf -v x '%*s' {size}; for ((n = 0; n < {count}; n++)); do printf %s \"$x\"; done"
        ),
    ),
}


def request(context_id: str, code: str) -> pb.RunCodeStreamRequest:
    """Returns what asks for a streamed run."""
    return pb.RunCodeStreamRequest(context_id=context_id, code=code)

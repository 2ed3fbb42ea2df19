"""The demo: starts a server and does the main job with it, on real data. `make demo` runs it."""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from local_server import local_server
from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax

from codecontext import (
    CodeContext,
    CodeContextClient,
    CodeContextError,
    ContextDeletedError,
    ContextExecutingError,
    Execution,
)

DATA = Path(__file__).resolve().parent / "data"
OUTPUT = Path("demo-output")

LOAD = """\
import pandas as pd
quartet = pd.read_csv("anscombe.csv")
quartet.shape"""

STATE = """\
points = quartet.groupby("dataset")
points.agg(["mean", "std"]).round(2)"""

LIVE = """\
import time
for name, group in points:
    print(f"data set {name:3}: correlation {group.x.corr(group.y):.2f}")
    time.sleep(0.3)"""

PLOT = """\
import matplotlib.pyplot as plt
figure, axes = plt.subplots(2, 2, sharex=True, sharey=True, figsize=(7, 5))
for axis, (name, group) in zip(axes.flat, points):
    axis.scatter(group.x, group.y)
    axis.set_title(name)
figure.savefig("quartet.svg")
codecontext.publish("quartet.svg")"""

ERROR = """\
def mean(column, rows):
    return sum(column) / rows

mean([7.46, 6.77, 12.74], rows=0)"""

ENDLESS = """\
print("it runs", flush=True)
while True:
    pass"""

SUMS = {
    "bash": "cut -d, -f1 anscombe.csv | sort | uniq -c",
    "javascript": "require('fs').readFileSync('anscombe.csv', 'utf8').trim().split('\\n').length - 1",
    "typescript": "const rows: string = require('fs').readFileSync('anscombe.csv', 'utf8'); rows.length",
}
"""What other languages do with a file that Python has read, where the server has them."""

KERNEL = "jupyter-python3"
COUNT = "len(open('anscombe.csv').readlines()) - 1"
"""What a Jupyter kernel does with it; ipykernel's, if that is installed."""

console = Console(highlight=False)


def show_code(code: str, language: str = "python") -> None:
    """Prints code that is about to run."""
    console.print(Padding(Syntax(code, language, background_color="default"), (0, 2)))


def run(client: CodeContextClient, context: CodeContext, code: str) -> Execution:
    """Runs code, and shows it with what it writes, while it writes, and with its results."""
    show_code(code, context.language)
    execution = client.run_code(
        code,
        context=context,
        on_stdout=lambda text: console.print(text, end="", markup=False),
        on_stderr=lambda text: console.print(text, end="", markup=False, style="red"),
    )
    for result in execution.results:
        if result.png is not None:
            OUTPUT.mkdir(exist_ok=True)
            picture = OUTPUT / "quartet.png"
            picture.write_bytes(result.png)
            console.print(f"a plot of {len(result.png)} bytes, saved as {picture}", style="green")
        elif result.file is not None:
            OUTPUT.mkdir(exist_ok=True)
            local = OUTPUT / result.file.path
            result.download(local)
            console.print(f"a file: {result.text}, downloaded as {local}", style="green")
        else:
            console.print(result.text, markup=False)
            console.print(f"a result as {', '.join(result.formats())}", style="green")
    if execution.error is not None:
        console.print("\n".join(execution.error.traceback), markup=False, style="red")
        console.print(f"line {execution.error.line_number} raised {execution.error.name}")
    took_ms = execution.duration.total_seconds() * 1000
    console.print(f"→ {execution.outcome}, {took_ms:.0f} ms\n", style="dim", markup=False)
    return execution


def title(text: str) -> None:
    """Begins a part of the demo."""
    console.rule(f"[bold]{text}", align="left")


def show_work(client: CodeContextClient, context: CodeContext) -> list[Execution]:
    """Loads a table, looks at it, plots it, and makes a mistake."""
    title("A file goes into the context's workspace")
    csv = DATA / "anscombe.csv"
    uploaded = client.files.upload(context, csv.name, csv)
    console.print(f"{uploaded.path}, {uploaded.size_bytes} bytes\n", style="green")

    executions = []
    for heading, code in (
        ("A real table", LOAD),
        ("State stays from run to run, and tables come as tables", STATE),
        ("Output comes while the code runs", LIVE),
        ("A plot comes as PNG, and the file that the code made is downloaded", PLOT),
        ("An error of the code is an answer, and the context lives on", ERROR),
    ):
        title(heading)
        executions.append(run(client, context, code))
    return executions


def show_contexts(client: CodeContextClient) -> None:
    """Lists the contexts that are there."""
    for each in client.list_code_contexts():
        runs = f"{each.execution_count} runs"
        console.print(f"{each.id}  {each.language}  {each.state}  {runs}", markup=False)


def show_delete(client: CodeContextClient, context: CodeContext) -> Execution:
    """Deletes: refused while code runs, and done with force."""
    title("A delete is refused while code runs")
    show_code(ENDLESS)
    written: queue.Queue[str] = queue.Queue()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            client.run_code, ENDLESS, context=context, timeout=60, on_stdout=written.put
        )
        console.print(written.get(timeout=60), end="", markup=False)
        show_contexts(client)
        try:
            client.delete_code_context(context)
        except ContextExecutingError as error:
            show_refusal("delete", error)
        client.delete_code_context(context, force=True)
        ended = running.result(timeout=60)
    console.print(f"delete with force: OK, and the run ended as {ended.outcome}")
    try:
        client.delete_code_context(context)
    except ContextDeletedError as error:
        show_refusal("delete once more", error)
    return ended


def show_languages(client: CodeContextClient, context: CodeContext) -> None:
    """Runs a piece of each other language that is there, on the files of a Python context."""
    runtimes = [each for each in client.get_server_info().runtimes if not each.failure]
    own = [each for each in runtimes if each.is_default and each.language in SUMS]
    there = [(each.name, SUMS[each.language]) for each in own]
    there += [(each.name, COUNT) for each in runtimes if each.name == KERNEL]
    for runtime, code in there:
        title(f"The same files, in {runtime}")
        other = client.create_code_context(runtime=runtime, sandbox_id=context.sandbox_id)
        run(client, other, code)
        client.delete_code_context(other)


def show_refusal(what: str, error: CodeContextError) -> None:
    """Shows how a call was refused."""
    console.print(f"{what}: {error.code.name}, {error.reason}", markup=False)


def main() -> None:
    """Shows the main job."""
    with (
        local_server() as target,
        CodeContextClient(target) as client,
    ):
        info = client.get_server_info()
        python = info.runtimes[0]
        console.print(f"codecontext {info.version} on {target}, Python {python.version}")
        console.print(f"contexts are contained in the tier {info.isolation.tier}\n")
        idle = client.create_code_context(labels={"demo": "idle"})
        context = client.create_code_context(labels={"demo": "work"})
        executions = show_work(client, context)

        show_languages(client, context)

        title("Contexts are listed until they are deleted")
        show_contexts(client)
        client.delete_code_context(idle)
        console.print(f"delete {idle.id}: OK\n", markup=False)

        executions.append(show_delete(client, context))
        left = len(list(client.list_code_contexts()))
    console.print()
    title("Summary")
    outcomes = ", ".join(execution.outcome for execution in executions)
    console.print(f"{len(executions)} runs: {outcomes}")
    console.print(f"contexts left: {left}; the server has ended, and nothing is left running")
    console.print(f"the plot: {OUTPUT / 'quartet.png'}", markup=False)


if __name__ == "__main__":
    main()

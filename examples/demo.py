"""The demo: starts a server and does the main job with it, on real data. `make demo` runs it."""

from __future__ import annotations

import threading
from pathlib import Path

from local_server import local_server
from rich.console import Console
from rich.syntax import Syntax

from codecontext import CodeContext, CodeContextClient, ContextExecutingError, Execution

DATA = Path(__file__).parent / "data"
OUTPUT = Path("demo-output")

console = Console(highlight=False)


def run(client: CodeContextClient, context: CodeContext, code: str) -> Execution:
    """Runs code, and shows it with what it writes, live, and its results."""
    console.print(Syntax(code, "python", padding=(0, 2)))
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
            console.print(f"→ a plot, saved as {picture} ({len(result.png)} bytes)")
        elif result.is_main_result:
            console.print(result.text, markup=False)
    if execution.error is not None:
        console.print("\n".join(execution.error.traceback), markup=False, style="red")
        console.print(f"→ line {execution.error.line_number} raised {execution.error.name}")
    console.print(f"→ {execution.outcome.name}, run {execution.execution_count}\n", style="dim")
    return execution


def title(text: str) -> None:
    """Begins a part of the demo."""
    console.rule(text, align="left")


def show_work(client: CodeContextClient, context: CodeContext) -> None:
    """Loads a table, looks at it, plots it, and makes a mistake."""
    title("A table, and state that stays from run to run")
    run(client, context, "import pandas as pd\nquartet = pd.read_csv('anscombe.csv')\nlen(quartet)")
    run(client, context, "quartet.groupby('dataset').agg(['mean', 'std']).round(2)")

    title("Output comes while the code runs")
    loop = "import time\nfor name, group in quartet.groupby('dataset'):\n"
    loop += "    print(name, round(group.x.corr(group.y), 3))\n    time.sleep(0.2)"
    run(client, context, loop)

    title("A plot")
    plot = "grid = quartet.plot.scatter(x='x', y='y', c=quartet.dataset.map("
    plot += "{'I': 0, 'II': 1, 'III': 2, 'IV': 3}), colormap='viridis')"
    run(client, context, plot)

    title("An error of the code is an answer, not a failure of the call")
    run(client, context, "total = quartet.y.sum()\ntotal / (len(quartet) - 44)\nquartet['z']")


def show_delete(client: CodeContextClient, context: CodeContext) -> None:
    """Deletes: refused while code runs, done with force."""
    title("Contexts, and how they end")
    for each in client.list_code_contexts():
        console.print(f"{each.id}  {each.language}  {each.state.name}  {each.execution_count} runs")
    running = threading.Event()
    ended: list[Execution] = []

    def wait_for_ever() -> None:
        code = "print('running')\nwhile True: pass"
        ended.append(client.run_code(code, context=context, on_stdout=lambda text: running.set()))

    thread = threading.Thread(target=wait_for_ever)
    thread.start()
    running.wait()
    try:
        client.delete_code_context(context)
    except ContextExecutingError as error:
        console.print(f"delete while it runs: {error.code.name} {error.reason}")
    client.delete_code_context(context, force=True)
    thread.join()
    console.print(f"delete with force: OK, and the run ended as {ended[0].outcome.name}")
    console.print(f"contexts left: {len(list(client.list_code_contexts()))}")


def main() -> None:
    """Shows the main job."""
    with local_server() as target, CodeContextClient(target) as client:
        info = client.get_server_info()
        console.print(f"codecontext {info.version} on {target}, Python {info.runtimes[0].version}")
        context = client.create_code_context(cwd=str(DATA.resolve()))
        show_work(client, context)
        show_delete(client, context)
    console.print("the server has ended, and nothing is left running")


if __name__ == "__main__":
    main()

"""A tree search over a live table: which steps of cleaning let us guess best how heavy a penguin is?

The table is loaded and prepared once. Every node of the tree is a fork of the one above it, which tries one
step more; the best nodes are forked again, the others are deleted. Nothing is computed twice. At the end it
prints the tree, what the search took, and the time of all runs had each node begun at the start.

Start a server first (`make serve`), or give the address of one: `python tree_search.py HOST:PORT`. The picture
of the tree goes to `tree-search-output/tree.png`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from codecontext import CodeContext, CodeContextClient, Execution

DEPTH, BEAM = 3, 2
DATA = Path(__file__).parent / "data" / "penguins.csv"

# What is dear and needed by every node: here a bootstrap of the guess that knows nothing but means.
PREPARE = """
import io
import numpy as np, pandas as pd
table = pd.read_csv(io.StringIO(text), parse_dates=["egg_date"])
weights = table.pop("body_mass_g")
known = weights.notna()
draws = np.random.default_rng(7).integers(0, known.sum(), (2000, known.sum()))
spread = np.median([np.abs(weights[known].to_numpy()[draw] - weights[known].mean()).mean() for draw in draws])
parts = np.random.default_rng(11).integers(0, 10, len(table))

def guess():
    \"\"\"The mean error of the guesses in grams, each tenth of the birds guessed from the others.\"\"\"
    numbers = table.select_dtypes("number").astype(float)
    usable = known.reindex(numbers.index) & numbers.notna().all(axis=1)
    errors = []
    for part in range(10):
        test = known & (parts == part)
        train = usable & (parts[numbers.index] != part)
        columns = np.column_stack([np.ones(len(numbers)), numbers.to_numpy()])
        fit = np.linalg.lstsq(columns[train.to_numpy()], weights[train.index[train]], rcond=None)[0]
        guessed = pd.Series(columns @ fit, numbers.index).reindex(weights.index)
        guessed = guessed.fillna(weights[train.index[train]].mean())  # a bird that was dropped, or has gaps
        errors.append((guessed - weights)[test].abs())
    return float(pd.concat(errors).mean())
"""

STEPS = {
    "drop rows with gaps": "table = table.dropna()",
    "fill gaps with means": "table = table.fillna(table.select_dtypes('number').mean())",
    "fill gaps by species": (
        "columns = table.select_dtypes('number').columns\n"
        "table[columns] = table.groupby('species')[columns].transform(lambda c: c.fillna(c.mean()))"
    ),
    "species as numbers": "table = table.join(pd.get_dummies(table.species, dtype=float).iloc[:, 1:])",
    "island as numbers": "table = table.join(pd.get_dummies(table.island, dtype=float).iloc[:, 1:])",
    "sex as a number": "table['male'] = table.sex.map({'MALE': 1.0, 'FEMALE': 0.0}).fillna(0.5)",
    "day of the egg": "table['day'] = table.egg_date.dt.dayofyear.astype(float)",
    "cut outliers": (
        "columns = table.select_dtypes('number').columns\n"
        "table[columns] = table[columns].clip(*table[columns].quantile([0.01, 0.99]).to_numpy(), axis=1)"
    ),
}

PICTURE = """
import json
import matplotlib.pyplot as plt
nodes = json.loads(text)
figure, axes = plt.subplots(figsize=(11, 0.32 * len(nodes) + 1))
best = min(range(len(nodes)), key=lambda n: nodes[n]["error"])
path, n = set(), best
while n is not None:
    path.add(n)
    n = nodes[n]["parent"]
for row, node in enumerate(nodes):
    color = "tab:green" if row in path else "0.6"
    if node["parent"] is not None:
        above = nodes[node["parent"]]["depth"]
        axes.plot([above, above, node["depth"]], [-node["parent"], -row, -row], color=color, zorder=1)
    axes.scatter([node["depth"]], [-row], color=color, zorder=2)
    axes.text(node["depth"] + 0.06, -row, f"{node['step']}: {node['error']:.0f} g", va="center")
axes.set_xlim(-0.2, max(node["depth"] for node in nodes) + 1.4)
axes.set_title("Mean error of the guessed weight after each step of cleaning")
axes.axis("off")
plt.show()
"""


@dataclass(eq=False)
class Node:
    """A context, and how it came to be."""

    context: CodeContext
    step: str
    error: float
    run_s: float
    """How long its own step took, the guesses included."""
    above: Node | None = None
    below: list[Node] = field(default_factory=list)

    @property
    def path(self) -> list[Node]:
        """The nodes from the root to this one."""
        return [*(self.above.path if self.above else ()), self]


def main(target: str) -> None:
    """Searches, and shows what was found."""
    with CodeContextClient(target) as client, ThreadPoolExecutor(8) as pool:
        began = time.perf_counter()
        context = client.create_code_context(labels={"example": "tree search"})
        root = run_step(
            client, context, "as it is", f"text = {DATA.read_text()!r}\n{PREPARE}", None
        )
        beam, nodes = [root], [root]
        for _ in range(DEPTH):
            jobs = []
            for node in beam:
                steps = [name for name in STEPS if name not in {each.step for each in node.path}]
                forks = client.fork_code_context(node.context, count=len(steps))
                jobs += [
                    pool.submit(run_step, client, fork, name, STEPS[name], node)
                    for fork, name in zip(forks, steps, strict=True)
                ]
            found = sorted((job.result() for job in jobs), key=lambda node: node.error)
            nodes += found
            # The same steps in another order are no other way.
            ways = {frozenset(each.step for each in node.path): node for node in reversed(found)}
            beam = sorted(ways.values(), key=lambda node: node.error)[:BEAM]
            for node in found:
                if node not in beam:
                    client.delete_code_context(node.context)
        took_s = time.perf_counter() - began
        show(root, "")
        best = min(nodes, key=lambda node: node.error)
        print(f"best: {' + '.join(node.step for node in best.path[1:])}: {best.error:.0f} g")
        again_s = sum(each.run_s for node in nodes for each in node.path)
        once_s = sum(node.run_s for node in nodes)
        print(f"{len(nodes)} nodes in {took_s:.1f} s, with {once_s:.1f} s of runs")
        print(f"each from the start: {again_s:.1f} s of runs; forks saved {again_s - once_s:.1f} s")
        draw(client, root)
        for context in client.list_code_contexts(sandbox_id=root.context):
            client.delete_code_context(context)


def run_step(
    client: CodeContextClient, context: CodeContext, name: str, code: str, above: Node | None
) -> Node:
    """Runs a step in a context of its own."""
    execution = client.run_code(f"{code}\nguess()", context=context)
    node = Node(
        context,
        name,
        float(checked(execution).text or "inf"),
        execution.duration.total_seconds(),
        above,
    )
    if above is not None:
        above.below.append(node)
    return node


def checked(execution: Execution) -> Execution:
    """Returns an execution that has succeeded."""
    if execution.error is not None:
        raise RuntimeError("\n".join(execution.error.traceback))
    return execution


def show(node: Node, indent: str) -> None:
    """Prints a node and all below it, the best first."""
    print(f"{indent}{node.step}: {node.error:.0f} g")
    for each in sorted(node.below, key=lambda node: node.error):
        show(each, indent + "    ")


def listed(
    node: Node, nodes: list[dict[str, object]], parent: int | None = None
) -> Sequence[dict[str, object]]:
    """Returns a node and all below it as plain data, parents first."""
    number = len(nodes)
    depth = len(node.path) - 1
    nodes.append({"step": node.step, "error": node.error, "depth": depth, "parent": parent})
    for each in sorted(node.below, key=lambda node: node.error):
        listed(each, nodes, number)
    return nodes


def draw(client: CodeContextClient, root: Node) -> None:
    """Draws the tree in a fork of the root, which has matplotlib, and saves the picture here."""
    with client.branch(root.context) as drawing:
        text = json.dumps(listed(root, []))
        execution = checked(client.run_code(f"text = {text!r}\n{PICTURE}", context=drawing))
    folder = Path("tree-search-output")
    folder.mkdir(exist_ok=True)
    for result in execution.results:
        if result.png:
            (folder / "tree.png").write_bytes(result.png)
            print(f"picture: {folder / 'tree.png'}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051")

"""Charts as data: plots in a context, and draws the plot again here, as text.

Start a server first (`make serve`), or give the address of one: `python charts.py HOST:PORT`.
"""

from __future__ import annotations

import sys

from codecontext import CodeContextClient

PLOT = """\
import matplotlib.pyplot as plt
figure, (left, right) = plt.subplots(1, 2)
left.barh(["walk", "run", "cycle"], [5.1, 9.7, 18.4])
left.set(title="Speed", xlabel="Speed [km/h]")
right.plot([0, 10, 20], [90, 71.5, 60], label="cup")
right.set(title="Cooling", xlabel="Time (min)", ylabel="Temperature (°C)")"""


def main(target: str) -> None:
    """Shows each chart of a figure."""
    with CodeContextClient(target) as client:
        context = client.create_code_context()
        execution = client.run_code(PLOT, context=context)
        client.delete_code_context(context)
    (figure,) = (result for result in execution.results if result.chart is not None)
    for chart in figure.chart["charts"]:
        print(f"{chart['title']}: {chart['type']}, {chart['x']['label']}")
        for series in chart["series"]:
            for bar in series.get("bars", ()):
                print(f"{bar['position']:>6} {'#' * round(bar['value'])} {bar['value']}")
            for x, y in series.get("points", ()):
                print(f"{series['name']:>6} {x:g} {chart['x']['unit']}: {y:g} {chart['y']['unit']}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051")

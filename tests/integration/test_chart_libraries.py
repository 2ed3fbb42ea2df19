"""Charts as data: those that seaborn and plotly draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.charts import Plotter, checked

from codecontext import CodeContext, CodeContextClient

DAYS = ["Thu", "Fri", "Sat"]
TIPS = {
    "day": DAYS * 8,
    "sex": ["m", "f"] * 12,
    "bill": [float(n * n % 37) for n in range(24)],
    "size": [n % 4 for n in range(24)],
}
SEABORN = f"import seaborn as sns, pandas as pd\ntips = pd.DataFrame({TIPS})\n"
PLOTLY = "import plotly.graph_objects as go\nfrom plotly.subplots import make_subplots\n"


@pytest.fixture
def plot(client: CodeContextClient, context: CodeContext) -> Plotter:
    """A context that draws."""
    return Plotter(client, context)


def bills(**wanted: object) -> list[float]:
    """Returns the bills of the rows that have some values."""
    return [
        bill
        for row, bill in enumerate(TIPS["bill"])
        if all(TIPS[name][row] == value for name, value in wanted.items())
    ]


def by_name(series: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns series by their names."""
    return {each["name"]: each for each in series}


def test_seaborn_bars(plot: Plotter) -> None:
    """Bars of seaborn have their categories, the means of the data, and the names of their colours."""
    chart = plot.chart(SEABORN + "sns.barplot(tips, x='day', y='bill', hue='sex');")
    assert (chart["type"], chart["layout"]) == ("bar", "grouped")
    assert (chart["x"]["label"], chart["x"]["categories"]) == ("day", DAYS)
    series = by_name(chart["series"])
    assert set(series) == {"m", "f"}
    for sex, each in series.items():
        assert [bar["position"] for bar in each["bars"]] == DAYS
        means = [np.mean(bills(day=day, sex=sex)) for day in DAYS]
        assert [bar["value"] for bar in each["bars"]] == pytest.approx(means)
    (counts,) = plot.series(SEABORN + "sns.countplot(tips, y='day');")
    assert counts["orientation"] == "horizontal"
    assert [(bar["position"], bar["value"]) for bar in counts["bars"]] == [(day, 8) for day in DAYS]


def test_seaborn_lines_and_points(plot: Plotter) -> None:
    """Lines and points of seaborn are told apart by the names that the legend gives their colours."""
    lines = plot.chart(SEABORN + "sns.lineplot(tips, x='size', y='bill', hue='sex');")
    assert lines["type"] == "line"
    for sex, each in by_name(lines["series"]).items():
        sizes = sorted(
            {size for size, one in zip(TIPS["size"], TIPS["sex"], strict=True) if one == sex}
        )
        expected = [[size, pytest.approx(np.mean(bills(size=size, sex=sex)))] for size in sizes]
        assert each["points"] == expected
    points = by_name(plot.series(SEABORN + "sns.scatterplot(tips, x='size', y='bill', hue='sex');"))
    assert set(points) == {"m", "f"}
    assert [y for _, y in points["f"]["points"]] == bills(sex="f")
    strip = plot.series(SEABORN + "sns.stripplot(tips, x='day', y='bill');")
    assert [{x for x, _ in each["points"]} for each in strip] == [{day} for day in DAYS]
    assert [[y for _, y in each["points"]] for each in strip] == [bills(day=day) for day in DAYS]


def test_seaborn_distributions(plot: Plotter) -> None:
    """Histograms and boxes of seaborn have what numpy computes from the same data."""
    chart = plot.chart(SEABORN + "sns.histplot(tips, x='bill', bins=4, kde=True);")
    assert chart["type"] == "mixed"
    histogram, density = chart["series"]
    counts, edges = np.histogram(TIPS["bill"], bins=4)
    assert [each["value"] for each in histogram["bins"]] == counts.tolist()
    assert [each["start"] for each in histogram["bins"]] == pytest.approx(edges[:-1])
    assert (density["type"], density["count"]) == ("line", 200)
    boxes = by_name(plot.series(SEABORN + "sns.boxplot(tips, x='day', y='bill', hue='sex');"))
    assert set(boxes) == {"m", "f"}
    for sex, each in boxes.items():
        assert [box["position"] for box in each["boxes"]] == DAYS
        for box in each["boxes"]:
            quartiles = np.percentile(bills(day=box["position"], sex=sex), [25, 50, 75])
            assert [box["q1"], box["median"], box["q3"]] == pytest.approx(quartiles)


def test_a_seaborn_heat_map(plot: Plotter) -> None:
    """A heat map of seaborn has the names of its rows and columns, and no chart for its colour bar."""
    code = "sns.heatmap(pd.DataFrame([[1, 2], [3, nan]], columns=['a', 'b'], index=['p', 'q']), annot=True);"
    chart = plot.chart(SEABORN + code)
    (series,) = chart["series"]
    assert chart["type"] == "heatmap"
    assert (series["x"], series["y"], series["values"]) == (
        ["a", "b"],
        ["p", "q"],
        [[1, 2], [3, None]],
    )


def test_a_seaborn_grid(plot: Plotter) -> None:
    """A grid of seaborn is a figure with subplots."""
    chart = plot.chart(SEABORN + "sns.relplot(tips, x='size', y='bill', hue='sex', col='day');")
    assert (chart["type"], chart["chart_count"]) == ("subplots", 3)
    for day, each in zip(DAYS, chart["charts"], strict=True):
        assert each["title"] == f"day = {day}"
        series = by_name(each["series"])
        assert {sex: [y for _, y in one["points"]] for sex, one in series.items()} == {
            sex: bills(day=day, sex=sex) for sex in ("m", "f")
        }


def plotly_chart(plot: Plotter, code: str) -> dict[str, Any]:
    """Returns the chart of the one figure that code shows, which came beside plotly's own JSON."""
    (result,) = plot.results(PLOTLY + code)
    assert "application/vnd.plotly.v1+json" in result.data
    return checked(result)


@pytest.mark.parametrize(
    "end", ["\nf", "\ndisplay(f)", "\ndisplay(f._repr_mimebundle_(), raw=True)"]
)
def test_plotly_lines(plot: Plotter, end: str) -> None:
    """A figure of plotly comes once, as its own JSON and as a chart, with what arrays it has."""
    chart = plotly_chart(
        plot,
        "f = go.Figure([go.Scatter(x=np.array([1, 2, 3]), y=[0.5, nan, inf], name='l'),\n"
        "go.Scatter(y=np.array([1.5, 2.5], dtype='f4'), mode='markers')])\n"
        "f.update_layout(title='<b>T</b>', xaxis_title='Time (s)', yaxis_type='log')" + end,
    )
    assert (chart["type"], chart["title"], chart["library"]) == ("mixed", "T", "plotly")
    assert chart["x"] == {"label": "Time (s)", "unit": "s", "scale": "linear"}
    assert chart["y"]["scale"] == "log"
    line, points = chart["series"]
    assert (line["type"], line["name"]) == ("line", "l")
    assert line["points"] == [[1, 0.5], [2, None], [3, None]]
    assert (points["type"], points["points"]) == ("scatter", [[0, 1.5], [1, 2.5]])


def test_plotly_bars_and_pies(plot: Plotter) -> None:
    """Bars and pies of plotly have their names and values; dates and categories are told apart."""
    bars = plotly_chart(
        plot,
        "go.Figure([go.Bar(x=['a', 'b'], y=[1, 2], name='u'), go.Bar(x=['a', 'b'], y=[3, 4])],\n"
        "layout={'barmode': 'stack'})",
    )
    assert (bars["type"], bars["layout"], bars["x"]["categories"]) == ("bar", "stacked", ["a", "b"])
    assert bars["series"][0]["bars"] == [
        {"position": "a", "value": 1},
        {"position": "b", "value": 2},
    ]
    flat = plotly_chart(plot, "go.Figure(go.Bar(y=['2024-01-01'], x=[5], orientation='h'))")
    assert (flat["series"][0]["orientation"], flat["y"]["scale"]) == ("horizontal", "date")
    pie = plotly_chart(plot, "go.Figure(go.Pie(labels=['a', 'b'], values=[1, 3]))")
    assert pie["series"][0]["slices"] == [
        {"name": "a", "fraction": 0.25, "value": 1},
        {"name": "b", "fraction": 0.75, "value": 3},
    ]


def test_plotly_subplots_and_the_rest(plot: Plotter) -> None:
    """Charts of a plotly figure are told apart; traces of other kinds are named, and huge ones bounded."""
    chart = plotly_chart(
        plot,
        "f = make_subplots(1, 2)\nf.add_scatter(y=np.arange(100_000), row=1, col=1)\n"
        "f.add_histogram(x=[1, 2, 2], name='h', row=1, col=2)\nf",
    )
    assert (chart["type"], chart["truncated"], chart["chart_count"]) == ("subplots", True, 2)
    line, other = chart["charts"]
    assert line["series"][0]["count"] == 100_000
    assert line["series"][0]["points"][-1] == [99_999, 99_999]
    assert other["type"] == "unknown"
    assert other["others"] == [{"artist": "histogram", "name": "h", "count": 1}]


def test_what_only_looks_like_plotly(plot: Plotter) -> None:
    """Anything under plotly's MIME type is passed on; what is no figure of plotly has no chart."""
    results = plot.results(
        "for value in ({}, [1], 'text', None, {'data': 3}, {'data': [{'x': 5, 'y': {'dtype': 'f8'}}]}):\n"
        "    display({'text/plain': 'x', 'application/vnd.plotly.v1+json': value}, raw=True)"
    )
    assert len(results) == 6
    assert [result.chart for result in results[:5]] == [None] * 5
    assert checked(results[5])["type"] == "unknown"

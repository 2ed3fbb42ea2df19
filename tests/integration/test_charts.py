"""Charts as data: what a figure shows comes beside its image, as it was plotted."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from support.charts import Plotter

from codecontext import CodeContext, CodeContextClient


@pytest.fixture
def plot(client: CodeContextClient, context: CodeContext) -> Plotter:
    """A context that draws."""
    return Plotter(client, context)


def test_a_line(plot: Plotter) -> None:
    """A line comes with its name and points, and the chart with title, labels, units and scales."""
    chart = plot.chart(
        "plt.plot([1, 10, 100], [0.1, 0.2, 0.30000000000000004], label='first')\n"
        "plt.plot([1, 5], [2, 7])\nplt.title('Title ☃'); plt.xlabel('Time (ms)')\n"
        "plt.ylabel('Mass [kg] ')\nplt.xscale('log'); plt.yscale('symlog')"
    )
    assert chart["type"] == "line"
    assert (chart["version"], chart["library"], chart["title"]) == (1, "matplotlib", "Title ☃")
    assert chart["x"] == {"label": "Time (ms)", "unit": "ms", "scale": "log"}
    assert chart["y"] == {"label": "Mass [kg]", "unit": "kg", "scale": "symlog"}
    first, second = chart["series"]
    assert (first["name"], first["count"], second["name"]) == ("first", 3, None)
    assert first["points"] == [[1, 0.1], [10, 0.2], [100, 0.30000000000000004]]
    assert second["points"] == [[1, 2], [5, 7]]
    assert plot.chart("plt.plot([1], [2]); plt.suptitle('over all')")["title"] == "over all"
    assert (
        plot.chart("plt.plot([1]); plt.title('at its side', loc='left')")["title"] == "at its side"
    )


def test_points(plot: Plotter) -> None:
    """Points come as they are, with the values of their colours, and so does a line of marks alone."""
    chart = plot.chart(
        "s = plt.scatter([1, 2, nan], [4, 5, 6], c=[7, 8, 9], label='dots')\n"
        "plt.colorbar(s, label='Depth (m)')\nplt.plot([3, 4], [5, 6], 'o', label='marks')"
    )
    assert chart["type"] == "scatter"
    dots, marks = chart["series"]
    assert dots["points"] == [[1, 4], [2, 5], [None, None]]
    assert (dots["values"], dots["value_label"]) == ([7, 8, None], "Depth (m)")
    assert (marks["name"], marks["points"]) == ("marks", [[3, 5], [4, 6]])


def test_what_json_does_not_have_is_null(plot: Plotter) -> None:
    """NaN, infinities and masked values are null."""
    code = "plt.plot([0, 1, 2, 3], [nan, inf, -inf, 5])\nplt.plot([0, 1], np.ma.masked_equal([6, 7], 7))"
    line, masked = plot.series(code)
    assert line["points"] == [[0, None], [1, None], [2, None], [3, 5]]
    assert masked["points"] == [[0, 6], [1, None]]


@pytest.mark.parametrize("orientation", ["vertical", "horizontal"])
def test_bars(plot: Plotter, orientation: str) -> None:
    """Bars have the names, values and orientation that they were plotted with, equal ones too."""
    bar = "bar" if orientation == "vertical" else "barh"
    side, other = ("x", "y") if orientation == "vertical" else ("y", "x")
    for values in ([3, -5, 2.5], [4, 4, 4]):
        chart = plot.chart(f"plt.{bar}(['a', 'b', 'c'], {values}, label='sold')")
        (series,) = chart["series"]
        assert (chart["type"], series["name"], series["orientation"]) == (
            "bar",
            "sold",
            orientation,
        )
        assert [each["position"] for each in series["bars"]] == ["a", "b", "c"]
        assert [each["value"] for each in series["bars"]] == values
        assert chart[side]["categories"] == ["a", "b", "c"]
        assert (chart[side]["scale"], chart[other]["scale"]) == ("category", "linear")
        assert "layout" not in chart
    (numeric,) = plot.series(f"plt.{bar}([0.1, 0.2, 0.3], [1, 2, nan], 0.05)")
    assert numeric["bars"] == [
        {"position": 0.1, "value": 1},
        {"position": 0.2, "value": 2},
        {"position": 0.3, "value": None},
    ]


def test_stacked_and_grouped_bars(plot: Plotter) -> None:
    """Stacked bars have their bases, grouped ones the name of their group, and the chart tells which."""
    stacked = plot.chart(
        "plt.bar(['a', 'b'], [1, 2], label='u'); plt.bar(['a', 'b'], [3, 4], bottom=[1, 2], label='v')"
    )
    assert stacked["layout"] == "stacked"
    assert [each["name"] for each in stacked["series"]] == ["u", "v"]
    assert stacked["series"][1]["bars"] == [
        {"position": "a", "value": 3, "base": 1},
        {"position": "b", "value": 4, "base": 2},
    ]
    grouped = plot.chart(
        "x = np.arange(2)\nplt.bar(x - 0.2, [1, 2], 0.4, label='u')\n"
        "plt.bar(x + 0.2, [3, 4], 0.4, label='v')\nplt.xticks(x, ['a', 'b'])"
    )
    assert (grouped["layout"], grouped["x"]["categories"]) == ("grouped", ["a", "b"])
    assert [
        [(each["position"], each["value"]) for each in series["bars"]]
        for series in grouped["series"]
    ] == [[("a", 1), ("b", 2)], [("a", 3), ("b", 4)]]
    overlaid = plot.chart("plt.bar([1, 2], [3, 4]); plt.bar([1, 2], [1, 1])")
    assert overlaid["layout"] == "overlaid"


def test_labels_at_some_ticks_name_no_bars_between_them(plot: Plotter) -> None:
    """Bars that have no tick of their own keep their numbers."""
    (series,) = plot.series("plt.bar(range(5), range(5)); plt.xticks([0, 4], ['low', 'high'])")
    assert [each["position"] for each in series["bars"]] == [0, 1, 2, 3, 4]
    (bins,) = plot.series("plt.hist(range(10), bins=5); plt.xticks([0, 9], ['low', 'high'])")
    assert bins["bins"][1]["start"] == pytest.approx(1.8)
    (line,) = plot.series(
        "plt.plot([0, 0.5, 1]); plt.yticks([0, 0.5, 1], ['0 %', '50 %', '100 %'])"
    )
    assert line["points"] == [[0, 0], [1, 0.5], [2, 1]]


@pytest.mark.parametrize("orientation", ["vertical", "horizontal"])
@pytest.mark.parametrize("kind", ["bar", "step", "stepfilled"])
def test_a_histogram(plot: Plotter, kind: str, orientation: str) -> None:
    """A histogram has the edges and counts that numpy computes from the same data."""
    data = np.random.default_rng(1).normal(size=200).round(3).tolist()
    counts, edges = np.histogram(data, bins=7)
    (series,) = plot.series(
        f"plt.hist({data}, bins=7, histtype='{kind}', orientation='{orientation}', label='n')"
    )
    assert (series["type"], series["name"]) == ("histogram", "n")
    assert series["orientation"] == orientation
    assert [each["value"] for each in series["bins"]] == counts.tolist()
    assert [each["start"] for each in series["bins"]] == pytest.approx(edges[:-1])
    assert [each["end"] for each in series["bins"]] == pytest.approx(edges[1:])


def test_stacked_histograms_and_stairs(plot: Plotter) -> None:
    """A histogram upon another has its own counts and its bases; stairs are a histogram too."""
    chart = plot.chart(
        "plt.hist([[1, 1, 2], [2, 2, 2]], bins=[1, 2, 3], stacked=True, label=['u', 'v'])"
    )
    assert (chart["type"], chart["layout"]) == ("histogram", "stacked")
    assert [each["name"] for each in chart["series"]] == ["u", "v"]
    assert chart["series"][1]["bins"] == [
        {"start": 1, "end": 2, "value": 0, "base": 2},
        {"start": 2, "end": 3, "value": 3, "base": 1},
    ]
    (stairs,) = plot.series("plt.stairs([5, 6], [0, 1, 3], baseline=1)")
    assert stairs["bins"] == [
        {"start": 0, "end": 1, "value": 5, "base": 1},
        {"start": 1, "end": 3, "value": 6, "base": 1},
    ]


def test_a_pie(plot: Plotter) -> None:
    """A pie has the names and shares of its slices, whatever way round, and each ring is a series."""
    for options in ("", ", counterclock=False, startangle=90, explode=[0, 0.1, 0], shadow=True"):
        (series,) = plot.series(
            f"plt.pie([1, 2, 5], labels=['a', 'b', 'c'], autopct='%d'{options})"
        )
        assert series["type"] == "pie"
        assert series["slices"] == [
            {"name": "a", "fraction": 0.125},
            {"name": "b", "fraction": 0.25},
            {"name": "c", "fraction": 0.625},
        ]
    rings = plot.series("plt.pie([1, 1]); plt.pie([1, 3], radius=0.5)")
    shares = [[each["fraction"] for each in ring["slices"]] for ring in rings]
    assert shares == [[0.5, 0.5], [0.25, 0.75]]


@pytest.mark.parametrize(
    "options",
    [
        "",
        "patch_artist=True",
        "notch=True, bootstrap=100",
        "showcaps=False",
        "orientation='horizontal'",
        "orientation='horizontal', patch_artist=True, notch=True",
        "showfliers=False",
        "showmeans=True",
        "showmeans=True, meanline=True",
        "showmeans=True, showfliers=False, showcaps=False",
    ],
)
def test_boxes(plot: Plotter, options: str) -> None:
    """A box plot has the quartiles, whiskers, means and outliers of its data, however it is drawn."""
    data = [[1, 2, 3, 4, 5, 6, 7, 30, 40], [5, 6, 7, 8], [2, 2, 2]]
    chart = plot.chart(f"plt.boxplot({data}, tick_labels=['a', 'b', 'c'], {options})")
    (series,) = chart["series"]
    assert (chart["type"], series["count"]) == ("box", 3)
    horizontal = "horizontal" in options
    assert series["orientation"] == ("horizontal" if horizontal else "vertical")
    assert chart["y" if horizontal else "x"]["categories"] == ["a", "b", "c"]
    for name, values, box in zip("abc", data, series["boxes"], strict=True):
        quartiles = np.percentile(values, [25, 50, 75]).tolist()
        outliers = [value for value in values if value >= 30]
        assert box["position"] == name
        assert [box["q1"], box["median"], box["q3"]] == quartiles
        assert (box["low"], box["high"]) == (min(values), max(set(values) - set(outliers)))
        assert box["outliers"] == ([] if "showfliers" in options else outliers)
        assert box["outlier_count"] == len(box["outliers"])
        assert box["mean"] == (pytest.approx(np.mean(values)) if "showmeans" in options else None)


def test_an_empty_box_is_no_line(plot: Plotter) -> None:
    """A box without data hides nothing of the others."""
    chart = plot.chart("plt.boxplot([[1, 2, 3], []], tick_labels=['a', 'b'])")
    assert (chart["type"], chart["series_count"]) == ("box", 1)
    assert [box["position"] for box in chart["series"][0]["boxes"]] == ["a"]


def test_a_heat_map(plot: Plotter) -> None:
    """An image of values has them row by row, with the middles of its cells or their names."""
    chart = plot.chart(
        "plt.imshow([[1, 2, nan], [4, 5, 6]]); plt.colorbar(label='Heat [K]')\n"
        "plt.xticks(range(3), ['a', 'b', 'c'])"
    )
    (series,) = chart["series"]
    assert (chart["type"], series["rows"], series["columns"]) == ("heatmap", 2, 3)
    assert series["values"] == [[1, 2, None], [4, 5, 6]]
    assert (series["x"], series["y"]) == (["a", "b", "c"], [0, 1])
    assert series["value_label"] == "Heat [K]"
    (placed,) = plot.series("plt.imshow([[1], [2]], extent=(0, 10, 0, 4), origin='lower')")
    assert (placed["x"], placed["y"], placed["values"]) == ([5], [1, 3], [[1], [2]])
    (upper,) = plot.series("plt.imshow([[1], [2]], extent=(0, 10, 0, 4))")
    assert (upper["x"], upper["y"], upper["values"]) == ([5], [3, 1], [[1], [2]])
    (mesh,) = plot.series("plt.pcolormesh([0, 1, 10], [0, 2, 3], [[1, 2], [3, 4]])")
    assert (mesh["x"], mesh["y"], mesh["values"]) == ([0.5, 5.5], [1, 2.5], [[1, 2], [3, 4]])


def test_dates(plot: Plotter) -> None:
    """Dates are ISO strings to the microsecond, as plotted, with an offset if they had a time zone."""
    times = [
        datetime.datetime.fromisoformat("2024-02-29T01:20"),
        datetime.datetime.fromisoformat("1970-01-01"),
        datetime.datetime.fromisoformat("2038-01-19T03:14:07.123456"),
    ]
    code = f"import datetime, zoneinfo\ntimes = {times!r}\n"
    chart = plot.chart(code + "plt.plot(times, [1, 2, 3]); plt.gca().xaxis.get_major_formatter()")
    assert chart["x"]["scale"] == "date"
    points = chart["series"][0]["points"]
    assert [datetime.datetime.fromisoformat(x) for x, _ in points] == times
    assert [y for _, y in points] == [1, 2, 3]
    code += "zone = zoneinfo.ZoneInfo('Asia/Kolkata')\n"
    (zoned,) = plot.series(code + "plt.scatter([t.replace(tzinfo=zone) for t in times], [1, 2, 3])")
    offset = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    assert zoned["points"][0][0] == "2024-02-29T01:20:00+05:30"
    assert [datetime.datetime.fromisoformat(x) for x, _ in zoned["points"]] == [
        each.replace(tzinfo=offset) for each in times
    ]
    (bars,) = plot.series(
        "plt.bar([np.datetime64('2024-01-01'), np.datetime64('2024-01-02')], [1, 2])"
    )
    assert [each["position"] for each in bars["bars"]] == [
        "2024-01-01T00:00:00",
        "2024-01-02T00:00:00",
    ]
    (gantt,) = plot.series("plt.barh(['task'], [3], left=[np.datetime64('2024-01-05')])")
    assert gantt["bars"] == [{"position": "task", "value": 3, "base": "2024-01-05T00:00:00"}]


def test_categories(plot: Plotter) -> None:
    """What is plotted by name comes by name, on either axis."""
    chart = plot.chart("plt.plot(['z', 'a', 'm', 'z'], [1, 2, 3, 4])")
    assert chart["x"] == {
        "label": None,
        "unit": None,
        "scale": "category",
        "category_count": 3,
        "categories": ["z", "a", "m"],
    }
    assert chart["series"][0]["points"] == [["z", 1], ["a", 2], ["m", 3], ["z", 4]]
    (dots,) = plot.series("plt.scatter([1, 2], ['low', 'high'])")
    assert dots["points"] == [[1, "low"], [2, "high"]]
    (named,) = plot.series("plt.plot([5, 6]); plt.xticks([0, 1], ['a', 'b'])")
    assert named["points"] == [["a", 5], ["b", 6]]


def test_pandas(plot: Plotter) -> None:
    """What pandas plots is what its tables hold: by date, by month, by name, stacked."""
    code = "import pandas as pd\n"
    days = "pd.Series([1, 2, 3], index=pd.date_range('2024-02-28', periods=3)).plot()"
    (line,) = plot.series(f"{code}{days};")
    assert line["points"] == [
        ["2024-02-28T00:00:00", 1],
        ["2024-02-29T00:00:00", 2],
        ["2024-03-01T00:00:00", 3],
    ]
    months = "pd.Series([1, 2], index=pd.period_range('2024-01', periods=2, freq='M')).plot()"
    (line,) = plot.series(f"{code}{months};")
    assert line["points"] == [["2024-01-01T00:00:00", 1], ["2024-02-01T00:00:00", 2]]
    table = "pd.DataFrame({'u': [1, 2], 'v': [3, 4]}, index=['p', 'q'])"
    chart = plot.chart(f"{code}{table}.plot.barh(stacked=True, xlabel='Sum');")
    assert (chart["layout"], chart["x"]["label"]) == ("stacked", "Sum")
    assert [each["name"] for each in chart["series"]] == ["u", "v"]
    assert chart["series"][1]["bars"][1] == {"position": "q", "value": 4, "base": 2}
    table = "pd.DataFrame({'u': [1, 2, 3], 'v': [4, 5, 6]}, index=['p', 'q', 'r'])"
    chart = plot.chart(f"{code}{table}.plot();")
    assert [each["name"] for each in chart["series"]] == ["u", "v"]
    assert chart["series"][1]["points"] == [["p", 4], ["q", 5], ["r", 6]]


def test_several_types_in_one_chart(plot: Plotter) -> None:
    """A chart with series of several types is mixed; what explains them is beside them."""
    chart = plot.chart(
        "plt.bar(['a', 'b'], [1, 2], yerr=[0.1, 0.2])\nplt.plot(['a', 'b'], [3, 4], label='trend')\n"
        "plt.axhline(2); plt.plot([0, 1], [2, 2]); plt.fill_between([0, 1], [0, 0], [1, 1], label='area')"
    )
    assert chart["type"] == "mixed"
    assert [each["type"] for each in chart["series"]] == ["bar", "line"]
    assert {each["artist"]: (each["name"], each["count"]) for each in chart["others"]} == {
        "ErrorbarContainer": (None, 1),
        "FillBetweenPolyCollection": ("area", 1),
        "Line2D": (None, 2),
    }
    (points,) = plot.series(
        "plt.errorbar([1, 2], [3, 4], yerr=0.1, xerr=0.2, capsize=2, label='e')"
    )
    assert (points["type"], points["name"], points["points"]) == ("line", "e", [[1, 3], [2, 4]])
    (stem,) = plot.series("plt.stem([5, 6], label='s')")
    assert (stem["type"], stem["name"], stem["points"]) == ("scatter", "s", [[0, 5], [1, 6]])


def test_subplots(plot: Plotter) -> None:
    """A figure of several charts has each with its place; colour bars are none of them."""
    chart = plot.chart(
        "figure, axes = plt.subplots(2, 2)\nfigure.suptitle('All')\n"
        "axes[0, 0].plot([1, 2]); axes[0, 0].set_title('A')\naxes[0, 1].bar(['x'], [3])\n"
        "figure.colorbar(axes[1, 0].imshow([[4]]), label='of C')\naxes[1, 1].set_visible(False)\n"
        "twin = axes[0, 0].twinx(); twin.plot([5, 6]); twin.set_ylabel('right (%)')"
    )
    assert (chart["type"], chart["title"], chart["chart_count"]) == ("subplots", "All", 4)
    places = [(each["row"], each["column"], each["type"]) for each in chart["charts"]]
    assert places == [(0, 0, "line"), (0, 1, "bar"), (1, 0, "heatmap"), (0, 0, "line")]
    first, second, third, twin = chart["charts"]
    assert (first["title"], first["series"][0]["points"]) == ("A", [[0, 1], [1, 2]])
    assert second["series"][0]["bars"] == [{"position": "x", "value": 3}]
    assert third["series"][0]["value_label"] == "of C"
    assert (twin["y"]["unit"], twin["series"][0]["points"]) == ("%", [[0, 5], [1, 6]])


@pytest.mark.parametrize(
    ("code", "known"),
    [
        (
            "plt.subplot(projection='3d').scatter([1], [2], [3]); plt.gca().set_zlabel('Up (m)')",
            "3d",
        ),
        ("plt.contourf([[1, 2], [3, 4]])", "rectilinear"),
        ("plt.imshow(np.zeros((2, 2, 3)))", "rectilinear"),
        ("plt.violinplot([1, 2, 3])", "rectilinear"),
        ("plt.axes()", "rectilinear"),
        ("plt.plot([], [])", "rectilinear"),
        ("plt.bar([], [])", "rectilinear"),
        ("plt.scatter([], [])", "rectilinear"),
        ("plt.text(0.5, 0.5, 'only text')", "rectilinear"),
    ],
)
def test_what_is_not_understood(plot: Plotter, code: str, known: str) -> None:
    """A chart that is empty or of another kind comes with what is known, and never with an error."""
    chart = plot.chart(f"{code}; plt.title('T');")
    assert chart["title"] == "T"
    assert chart["projection"] == known
    assert not [each for each in chart["series"] if each["count"]]
    assert chart["type"] in ("unknown", "bar", "scatter")
    if known == "3d":
        assert (chart["type"], chart["z"]) == ("unknown", {"label": "Up (m)"})


def test_a_polar_chart(plot: Plotter) -> None:
    """A polar chart has its points as angle and radius, and says that it is polar."""
    chart = plot.chart("plt.subplot(projection='polar').plot([0, 1], [2, 3]);")
    assert (chart["projection"], chart["type"]) == ("polar", "line")
    assert chart["series"][0]["points"] == [[0, 2], [1, 3]]


def test_a_figure_without_axes_has_no_chart(plot: Plotter) -> None:
    """A figure that shows nothing at all has no chart, as it has no image."""
    (result,) = plot.results("figure = plt.figure(); figure")[:1]
    assert (result.png, result.chart) == (None, None)
    assert [each.chart for each in plot.results("display(1)\n'text'")] == [None, None]

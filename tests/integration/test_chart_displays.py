"""Where charts come, what they leave alone, and what they cost."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from support.charts import PLT, Plotter, checked
from support.runs import LiveRun
from support.servers import ServerProcess

from codecontext import CodeContext, CodeContextClient, Outcome
from codecontext.results import CHART_MIME_TYPE

CHART = f"get_ipython().display_formatter.formatters['{CHART_MIME_TYPE}']"

BROKEN = """
from matplotlib.lines import Line2D
class Broken(Line2D):
    def get_linestyle(self): raise RuntimeError('broken')
"""


@pytest.fixture
def plot(client: CodeContextClient, context: CodeContext) -> Plotter:
    """A context that draws."""
    return Plotter(client, context)


@pytest.mark.parametrize(
    "end",
    [
        "",
        "\nplt.show()",
        "\ndisplay(plt.gcf()); plt.close()",
        "\nfigure = plt.gcf(); plt.close()\nfigure",
        "\nplt.close(); f = __import__('matplotlib.figure').figure.Figure(); f.subplots().plot([1, 2, 3])\nf",
    ],
)
def test_a_chart_comes_wherever_a_figure_does(plot: Plotter, end: str) -> None:
    """However a figure is displayed, its image and its chart come once, as one result."""
    (result,) = plot.results(f"plt.plot([1, 2, 3]);{end}")
    assert result.png is not None
    assert checked(result)["series"][0]["points"] == [[0, 1], [1, 2], [2, 3]]


def test_an_update_has_a_chart_too(plot: Plotter) -> None:
    """A display that is updated with a figure gets its chart, and what was asked for alone comes alone."""
    plot.results("figure, axes = plt.subplots(); axes.plot([1, 2]); plt.close()")
    (shown,) = plot.results("handle = display(figure, display_id=True)")
    assert len(checked(shown)["series"]) == 1
    (update,) = plot.results("axes.plot([3, 4]); handle.update(figure)")
    assert update.is_update
    assert len(checked(update)["series"]) == 2
    (alone,) = plot.results("display(figure, include=['image/png'])")
    assert alone.formats() == ["png"]
    (without,) = plot.results(f"display(figure, exclude=['{CHART_MIME_TYPE}'])")
    assert without.chart is None


def test_other_image_formats_have_it_too(plot: Plotter) -> None:
    """A figure that is shown as SVG or at double resolution has its chart, and is set so once for all."""
    plot.results("%config InlineBackend.figure_formats = ['svg', 'retina']")
    (result,) = plot.results("plt.plot([1, 2]);")
    assert result.svg is not None
    assert result.png is not None
    assert checked(result)["series"][0]["points"] == [[0, 1], [1, 2]]


def test_a_figure_stays_as_it_is(plot: Plotter) -> None:
    """Describing a figure changes nothing in it: neither its state nor how it is drawn."""
    (result,) = plot.results(
        """
import io, pickle, pickletools
from matplotlib.figure import Figure
figure = Figure()
(a, b), (c, d) = figure.subplots(2, 2)
a.plot(['x', 'y'], [1, nan], label='l'); a.legend(); a.set_xlabel('s (s)')
b.bar([np.datetime64('2024-01-01')], [3]); b.set_yscale('log')
figure.colorbar(c.imshow([[1, 2]]))
d.boxplot([[1, 2, 30]]); d.twinx().bar([1, 2], [3, 4])

def drawn():
    content = io.BytesIO()
    figure.savefig(content, format='raw')
    return content.getvalue()

def state():
    parts = pickletools.genops(pickle.dumps(figure))
    parts = [(part.name, value) for part, value, _ in parts if 'INT' not in part.name]  # pickling counts
    return parts, figure.stale, plt.rcParams.copy(), np.geterr()

drawn(); before = state()
assert state() == before
charts = FORMATTER(figure)['charts']
same_state = state() == before
image, figures = drawn(), len(figure.axes)
fresh = pickle.loads(pickle.dumps(figure))
FORMATTER(fresh)
figure = fresh
same_state, drawn() == image, [chart['type'] for chart in charts], figures
""".replace("FORMATTER", CHART)
    )
    assert result.text == "(True, True, ['line', 'bar', 'heatmap', 'box', 'bar'], 6)"


def test_a_million_points_cost_little(plot: Plotter) -> None:
    """Of a huge series an evenly spread sample comes, with the full count, and sooner than the image."""
    chart = plot.chart("plt.plot(np.arange(1_000_000) * 2)")
    (series,) = chart["series"]
    assert (chart["truncated"], series["truncated"], series["count"]) == (True, True, 1_000_000)
    points = series["points"]
    assert (len(points), points[0], points[-1]) == (1000, [0, 0], [999_999, 1_999_998])
    assert all(y == 2 * x for x, y in points)
    steps = [after[0] - before[0] for before, after in itertools.pairwise(points)]
    assert max(steps) - min(steps) <= 1
    (result,) = plot.results(
        f"""
import time, json
plt.plot(np.arange(1_000_000)); plt.scatter(np.arange(100_000), np.arange(100_000))
figure = plt.gcf(); plt.close(); png = get_ipython().display_formatter.formatters['image/png']
times = [time.perf_counter()]
for format in (png, {CHART}):
    made = format(figure)
    times.append(time.perf_counter())
len(json.dumps(made)) < 100_000, times[2] - times[1] < times[1] - times[0]
"""
    )
    assert result.text == "(True, True)"


def test_everything_is_bounded(plot: Plotter) -> None:
    """However much a figure has, its chart has at most what is documented, and says what it leaves out."""
    chart = plot.chart("plt.plot(np.zeros((1000, 30)));")
    assert sum(len(series["points"]) for series in chart["series"]) == 10_000
    assert chart["truncated"]
    assert [series["truncated"] for series in chart["series"]] == [False] * 10 + [True] * 20
    chart = plot.chart("plt.plot(np.zeros((2, 300)));")
    assert (len(chart["series"]), chart["series_count"], chart["truncated"]) == (200, 300, True)
    chart = plot.chart("plt.imshow(np.arange(600_000).reshape(300, 2000));")
    (image,) = chart["series"]
    assert (image["rows"], image["columns"], image["count"]) == (300, 2000, 600_000)
    assert len(image["values"]) == len(image["y"])
    assert len(image["values"]) * len(image["x"]) <= 1000
    for y, row in zip(image["y"], image["values"], strict=True):
        assert row == [y * 2000 + x for x in image["x"]]
    chart = plot.chart("plt.bar([f'{n:05}' for n in range(1500)], range(1500)); plt.xticks([]);")
    assert (len(chart["series"][0]["bars"]), chart["series"][0]["count"]) == (1000, 1500)
    chart = plot.chart(
        "plt.plot([1]); texts = plt.title('☃' * 100_000), plt.ylabel('\\ud800')\n"
        "plt.setp(texts, visible=False);"
    )
    assert len(chart["title"]) == 300
    assert chart["y"]["label"] == "\ufffd"


def test_a_broken_artist_is_left_out(plot: Plotter) -> None:
    """What raises when it is described is left out, in silence; its image and all else come."""
    plot.results(BROKEN)
    chart = plot.chart("plt.plot([1, 2]); plt.gca().add_line(Broken([0, 1], [1, 2]))")
    assert [series["points"] for series in chart["series"]] == [[[0, 1], [1, 2]]]
    assert [each["artist"] for each in chart["others"]] == ["Broken"]
    broken = "def broken(*_, **__): raise RuntimeError('broken')\n"
    chart = plot.chart(f"{broken}plt.plot([1, 2]); plt.gca().get_title = broken")
    assert chart["type"] == "unknown"
    (result,) = plot.results(f"{broken}plt.plot([1, 2]); plt.gcf()._suptitle = 3")
    assert (result.chart, result.png is not None) == (None, True)
    chart = plot.chart("np.seterr(all='raise'); plt.plot([1, inf, nan])")
    assert chart["series"][0]["points"][2] == [2, None]


def test_describing_can_be_interrupted(client: CodeContextClient, context: CodeContext) -> None:
    """A figure that takes for ever to describe is interrupted like any other code, and the context lives."""
    endless = BROKEN.replace(
        "raise RuntimeError('broken')", "print('begun\\n', end=''); time.sleep(1000)"
    )
    code = f"{PLT}import time{endless}plt.plot([1, 2]); plt.gca().add_line(Broken([0, 1], [1, 2]))"
    with LiveRun(client, context, code) as run:
        run.begun()
        client.interrupt_code_context(context)
        assert run.outcome is Outcome.INTERRUPTED
    assert client.run_code("1 + 1", context=context).text == "2"


def test_matplotlib_is_not_loaded_for_it(tmp_path: Path) -> None:
    """Where matplotlib is not preloaded nothing loads it but the code, and then its figures have charts."""
    with (
        ServerProcess(tmp_path, "--preload", "json") as server,
        CodeContextClient(server.target) as client,
    ):
        context = client.create_code_context()
        code = "class Thing: _repr_html_ = lambda self: 'x'\ndisplay(Thing(), 1, [2]); import sys\n"
        code += "[name for name in sys.modules if name.split('.')[0] in ('matplotlib', 'numpy')]"
        assert client.run_code(code, context=context).results[-1].text == "[]"
        code = "from matplotlib.figure import Figure\nf = Figure(); f.subplots().plot([1, 2, 3]); f"
        execution = client.run_code(code, context=context)
        assert (execution.error, execution.stderr) == (None, "")
        assert checked(execution.results[0])["series"][0]["points"] == [[0, 1], [1, 2], [2, 3]]
        shown = client.run_code(f"%matplotlib inline\n{PLT}plt.plot([4, 5]);", context=context)
        (result,) = shown.results
        assert result.png is not None
        assert checked(result)["series"][0]["points"] == [[0, 4], [1, 5]]

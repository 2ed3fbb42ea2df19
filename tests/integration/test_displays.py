"""What a Jupyter user's objects look like as results."""

from __future__ import annotations

import pytest
from support.runs import LiveRun

from codecontext import CodeContext, CodeContextClient, GapReason, Outcome, Result
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"


def shown(client: CodeContextClient, context: CodeContext, code: str) -> list[Result]:
    """Runs code that must write nothing and raise nothing, and returns its results."""
    execution = client.run_code(code, context=context)
    assert (execution.outcome, execution.error) == (Outcome.SUCCEEDED, None)
    assert (execution.stdout, execution.stderr, execution.gaps) == ("", "", [])
    return execution.results


@pytest.mark.parametrize(
    ("make", "mime_type", "content"),
    [
        ("HTML('<b>x</b>')", "text/html", "<b>x</b>"),
        ("Markdown('*x*')", "text/markdown", "*x*"),
        ("Latex('$x$')", "text/latex", "$x$"),
        ("Math('x')", "text/latex", "$\\displaystyle x$"),
        ("Javascript('1')", "application/javascript", "1"),
        ("SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"><g/></svg>')", "image/svg+xml", "<svg"),
        ("GeoJSON({'a': [1, 2]})", "application/geo+json", '{"a": [1, 2]}'),
        ("Pretty('x')", "text/plain", "x"),
        ("Code('x = 1', language='python')", "text/html", "<style>"),
        ("Audio(b'RIFF', rate=8000)", "text/html", "<audio"),
        ("Video(b'abc', embed=True, mimetype='video/mp4')", "text/html", "<video"),
        ("IFrame('http://127.0.0.1/', 1, 2)", "text/html", "<iframe"),
        ("ProgressBar(3)", "text/html", "<progress"),
    ],
)
def test_objects_of_ipython(
    client: CodeContextClient, context: CodeContext, make: str, mime_type: str, content: str
) -> None:
    """Each kind of display object of IPython comes in the type that it has in a notebook."""
    (result,) = shown(client, context, f"from IPython.display import *\n{make}")
    value = result.data[mime_type]
    assert isinstance(value, str)
    assert content in value
    assert "text/plain" in result.data


def test_styled_tables(client: CodeContextClient, context: CodeContext) -> None:
    """A styled table comes as HTML with its styles; a long one is shortened by pandas itself."""
    code = "import pandas as pd\npd.DataFrame({'a': [1, 2]}).style.highlight_max(color='gold')"
    (result,) = shown(client, context, code)
    assert "background-color: gold" in (result.html or "")
    (result,) = shown(client, context, "pd.DataFrame({'a': range(1_000_000)})")
    assert "1000000 rows" in (result.html or "")
    (result,) = shown(client, context, "pd.Series([1, 2], name='s')")
    assert result.formats() == ["text"]


def test_figures_of_plotly(client: CodeContextClient, context: CodeContext) -> None:
    """A figure, as the last expression or shown, comes as plotly's JSON, without megabytes of JavaScript."""
    code = "import plotly.graph_objects as go\nfigure = go.Figure(go.Bar(y=[1, 2]))\n"
    for end in ("figure", "figure.show()"):
        execution = client.run_code(code + end, context=context)
        assert (execution.error, execution.stderr) == (None, "")
        figures = [r for r in execution.results if "application/vnd.plotly.v1+json" in r.data]
        assert len(figures) == 1
        assert '"type": "bar"' in str(figures[0].data["application/vnd.plotly.v1+json"])
        assert sum(len(r.html or "") for r in execution.results) < 100_000


def test_images_of_pillow(client: CodeContextClient, context: CodeContext) -> None:
    """An image of Pillow comes as the bytes of a PNG and of a JPEG."""
    (result,) = shown(client, context, "from PIL import Image\nImage.new('RGB', (4, 4), 'red')")
    assert (result.png or b"").startswith(PNG)
    assert (result.jpeg or b"").startswith(JPEG)


def test_formulas_of_sympy(client: CodeContextClient, context: CodeContext) -> None:
    """A formula comes as LaTeX."""
    (result,) = shown(client, context, "import sympy\nsympy.sqrt(sympy.Symbol('x')) / 2")
    assert (result.latex, result.text) == ("$\\displaystyle \\frac{\\sqrt{x}}{2}$", "sqrt(x)/2")


def test_plots_in_other_formats(client: CodeContextClient, context: CodeContext) -> None:
    """A plot comes in the formats that the code asks for: SVG as text, PDF as bytes, sizes as metadata."""
    code = "%config InlineBackend.figure_formats = ['svg', 'pdf']\n"
    code += "import matplotlib.pyplot as plt\nplt.plot([1]);"
    (result,) = shown(client, context, code)
    assert "<svg" in (result.svg or "")
    pdf = result.data["application/pdf"]
    assert isinstance(pdf, bytes)
    assert pdf.startswith(b"%PDF")
    code = "%config InlineBackend.figure_formats = ['retina']\nplt.plot([1]);"
    (result,) = shown(client, context, code)
    assert set(result.metadata["image/png"]) == {"width", "height"}


def test_bundles_of_any_type(client: CodeContextClient, context: CodeContext) -> None:
    """A bundle keeps all its types, unknown ones too: text, bytes, and JSON for what is a structure."""
    code = (
        "class Bundle:\n"
        "    def _repr_mimebundle_(self, include=None, exclude=None):\n"
        "        return {'text/plain': 'p', 'text/html': b'<b>', 'application/x-bytes': b'\\x00\\xff',\n"
        "            'application/x-any': {'a': [1]}, 'x/number': 5, 'image/png': 'no base64!',\n"
        "            'application/x+json': b'[1]', 'text/broken': b'\\xff'}\n"
        "Bundle()"
    )
    (result,) = shown(client, context, code)
    assert result.data == {
        "text/plain": "p",
        "text/html": "<b>",
        "application/x-bytes": b"\0\xff",
        "application/x-any": '{"a": [1]}',
        "x/number": "5",
        "image/png": "no base64!",
        "application/x+json": "[1]",
        "text/broken": b"\xff",
    }


def test_numbers_that_are_no_json(
    stub: CodeContextServiceStub, client: CodeContextClient, context: CodeContext
) -> None:
    """NaN, infinities and huge integers come as text in metadata, and JSON stays valid; nothing is lost."""
    code = (
        "nan, inf = float('nan'), float('inf')\n"
        "display({'application/json': {'n': nan, 'big': 10**30}, 'text/plain': 'x'}, raw=True, metadata={\n"
        "    'n': nan, 'i': [-inf, {'d': inf}], 'big': 10**400, 'max': 2**53, 'x': 1.5, 'o': object})"
    )
    (result,) = shown(client, context, code)
    assert result.metadata == {
        "n": "nan",
        "i": ["-inf", {"d": "inf"}],
        "big": str(10**400),
        "max": 2**53,
        "x": 1.5,
        "o": "<class 'object'>",
    }
    assert result.data["application/json"] == '{"n": "nan", "big": ' + str(10**30) + "}"
    request = pb.RunCodeRequest(context_id=context.id, code=code)
    assert stub.RunCode(request).execution.results[0].metadata["n"] == "nan"


def test_an_update_replaces_all_that_it_updates(
    stub: CodeContextServiceStub, client: CodeContextClient, context: CodeContext
) -> None:
    """In a gathered execution an update takes the place of all results of its id, however often it comes."""
    code = (
        "handle = display('first', display_id='d')\ndisplay('second', display_id='d')\ndisplay('other')\n"
        "for number in range(2000): handle.update({'text/plain': f'{number} ' + 'x' * 2000}, raw=True)\n"
        "'main'"
    )
    expected = ["1999 " + "x" * 2000] * 2 + ["'other'", "'main'"]
    execution = client.run_code(code, context=context)
    assert [result.text for result in execution.results] == expected
    answer = stub.RunCode(pb.RunCodeRequest(context_id=context.id, code=code)).execution
    assert [result.parts[0].text for result in answer.results] == expected
    assert [result.is_main_result for result in answer.results] == [False, False, False, True]
    assert list(answer.gaps) == []
    later = client.run_code("handle.update({'text/plain': 'late'}, raw=True)", context=context)
    assert [(r.text, r.is_update) for r in later.results] == [("late", True)]


def test_an_empty_display_is_a_place(client: CodeContextClient, context: CodeContext) -> None:
    """A display of nothing with an id is a result that a later update fills."""
    code = "handle = display(display_id=True)\nprint(end='')\nhandle.update('filled')"
    (result,) = shown(client, context, code)
    assert (result.text, bool(result.display_id)) == ("'filled'", True)


def test_output_that_the_code_captures(client: CodeContextClient, context: CodeContext) -> None:
    """What the code captures is not shown, until the code shows it."""
    assert shown(client, context, "%%capture caught\ndisplay('x')\nprint('y')") == []
    execution = client.run_code("caught.show()", context=context)
    assert (execution.stdout, [r.text for r in execution.results]) == ("y\n", ["'x'"])


def test_objects_that_display_themselves(client: CodeContextClient, context: CodeContext) -> None:
    """An object with `_ipython_display_` shows what it wants, and is no main result beside that."""
    code = "class Own:\n    def _ipython_display_(self): display('own')\nOwn()"
    assert [(r.text, r.is_main_result) for r in shown(client, context, code)] == [("'own'", False)]


@pytest.mark.parametrize(
    "method", ["__repr__", "_repr_html_", "_repr_mimebundle_", "_ipython_display_"]
)
@pytest.mark.parametrize("use", ["Slow()", "display(Slow())"])
def test_a_repr_without_end_is_interrupted(
    client: CodeContextClient, context: CodeContext, method: str, use: str
) -> None:
    """A representation that takes for ever can be interrupted, and the state is kept."""
    code = (
        "kept = 1\nimport time\nclass Slow:\n"
        f"    def {method}(self, **_):\n        print('begun\\n', end='')\n        time.sleep(1000)\n"
    )
    with LiveRun(client, context, code + use) as run:
        run.begun()
        stopped = client.interrupt_code_context(context)
        assert (stopped.outcome, stopped.state_kept) == (Outcome.INTERRUPTED, True)
        assert run.outcome is Outcome.INTERRUPTED
    assert client.run_code("kept", context=context).text == "1"


def test_a_bundle_that_raises(client: CodeContextClient, context: CodeContext) -> None:
    """Where a bundle or a representation raises or is of a wrong type, the others are shown."""
    code = (
        "class Bad:\n"
        "    def _repr_mimebundle_(self, **_): raise ValueError('in bundle')\n"
        "    def _repr_html_(self): return 5\n"
        "    def __repr__(self): return 'good'\n"
        "Bad()"
    )
    execution = client.run_code(code, context=context)
    assert (execution.outcome, execution.text) == (Outcome.SUCCEEDED, "good")
    assert "in bundle" in execution.stderr


def test_a_text_without_end_is_cut(client: CodeContextClient, context: CodeContext) -> None:
    """A plain text that is larger than any reader could want is cut, and the rest is counted."""
    code = "class Long:\n    def __repr__(self): return '☃' * 20_000_000\nLong()"
    execution = client.run_code(code, context=context)
    (result,) = execution.results
    assert result.is_main_result
    size = len((result.text or "").encode())
    assert 32_000_000 < size <= 32 << 20
    assert set(result.text or "") == {"☃"}
    (gap,) = execution.gaps
    assert gap.reason is GapReason.MESSAGE_SIZE
    assert 0 <= 60_000_000 - size - gap.bytes < 3

"""What code shows, returns and raises: rich results, errors, and their limits."""

from __future__ import annotations

import json
import struct

import pytest
from support.stubs import kinds

from codecontext import CodeContext, CodeContextClient, GapReason, Outcome
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1 import execution_pb2
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

PNG = b"\x89PNG\r\n\x1a\n"


def raw(stub: CodeContextServiceStub, context: CodeContext, code: str) -> execution_pb2.Execution:
    """Runs code by the unary call of a stub that receives nothing larger than promised."""
    return stub.RunCode(pb.RunCodeRequest(context_id=context.id, code=code)).execution


def test_the_last_expression_is_the_main_result(
    client: CodeContextClient, context: CodeContext
) -> None:
    """The value of the last expression is the main result, unless it is None or has a semicolon."""
    execution = client.run_code("display('shown')\n1 + 1", context=context)
    assert [(result.text, result.is_main_result) for result in execution.results] == [
        ("'shown'", False),
        ("2", True),
    ]
    for code in ("None", "1;", "x = 1", "1 if False else None", "for _ in range(3): 1"):
        assert client.run_code(code, context=context).results == []
    assert client.run_code("_", context=context).text is not None


def test_displays_are_updated_and_cleared(client: CodeContextClient, context: CodeContext) -> None:
    """Updates name the display that they are of, also from a later run; clearing is an event."""
    code = (
        "from IPython.display import display, update_display, clear_output\n"
        "handle = display('one', display_id='d1')\nupdate_display('two', display_id='d1')\n"
        "handle.update('three')\nclear_output(wait=True)\nclear_output()"
    )
    events = list(client.run_code_stream(code, context=context))
    assert kinds(events)[1:-1] == [
        "result",
        "display_update",
        "display_update",
        "clear_output",
        "clear_output",
    ]
    assert {events[1].result.display_id, events[2].display_update.display_id} == {"d1"}
    assert [event.clear_output.wait for event in events[4:6]] == [True, False]
    later = list(client.run_code_stream("handle.update('four')", context=context))
    assert [part.text for part in later[1].display_update.parts] == ["'four'"]


def test_images_are_bytes(client: CodeContextClient, context: CodeContext) -> None:
    """An image travels as bytes, not as base64, however the object gives it; its size is metadata."""
    code = (
        "import base64, struct, zlib\n"
        "def chunk(kind, data):\n"
        "    body = kind + data\n"
        "    return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))\n"
        "png = b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 1, 1, 8, 0, 0, 0, 0))\n"
        "png += chunk(b'IDAT', zlib.compress(b'\\0\\0')) + chunk(b'IEND', b'')\n"
        "from IPython.display import Image, display\n"
        "display(Image(png, width=7))\n"
        "class AsText:\n    def _repr_png_(self): return base64.b64encode(png).decode()\n"
        "class AsBytes:\n    def _repr_mimebundle_(self, **_): return {'image/png': png}\n"
        "display(AsText())\ndisplay(AsBytes())\npng.hex()"
    )
    execution = client.run_code(code, context=context)
    assert execution.error is None
    *images, main = execution.results
    assert len(images) == 3
    for image in images:
        assert image.png == bytes.fromhex((main.text or "").strip("'"))
    assert images[0].metadata == {"image/png": {"width": 7}}


def test_a_table_is_html_and_text(client: CodeContextClient, context: CodeContext) -> None:
    """A DataFrame comes as text and as an HTML table."""
    result = client.run_code(
        "import pandas; pandas.DataFrame({'a': [1, 2]})", context=context
    ).results[0]
    assert {"text", "html"} <= set(result.formats())
    assert "<table" in (result.html or "")
    assert "a\n0  1" in (result.text or "")


@pytest.mark.parametrize("end", ["", "\nplt.show()", "\nfig = plt.gcf()\nplt.show()\nprint(1)"])
def test_plots_appear_by_themselves(
    client: CodeContextClient, context: CodeContext, end: str
) -> None:
    """A plot is a PNG result without anyone asking for a backend, once, shown or not."""
    code = f"import matplotlib.pyplot as plt\nplt.plot([1, 2, 3]);{end}"
    execution = client.run_code(code, context=context)
    assert (execution.error, execution.stderr) == (None, "")
    images = [result.png for result in execution.results if result.png is not None]
    assert len(images) == 1
    assert images[0].startswith(PNG)
    width, height = struct.unpack(">II", images[0][16:24])
    assert width > 100
    assert height > 100
    assert client.run_code("1", context=context).results[0].png is None


def test_json_is_json(client: CodeContextClient, context: CodeContext) -> None:
    """JSON travels as JSON text, of any JSON type, with what is none as its repr."""
    code = (
        "from IPython.display import JSON, display\n"
        "display(JSON({'a': [1, 2.5, None, '☃']}))\n"
        "display({'application/vnd.x+json': {'when': object}}, raw=True)\n"
        "display({'application/json': 'already text'}, raw=True)"
    )
    first, second, third = client.run_code(code, context=context).results
    assert first.json == {"a": [1, 2.5, None, "☃"]}
    content = second.data["application/vnd.x+json"]
    assert json.loads(content) == {"when": "<class 'object'>"}
    assert third.data["application/json"] == "already text"


def test_a_repr_that_raises_is_no_error_of_the_run(
    client: CodeContextClient, context: CodeContext
) -> None:
    """A representation that raises is told on stderr, and the run and its other results are good."""
    code = (
        "class Bad:\n    def __repr__(self): raise ValueError('in repr')\n"
        "class BadHtml:\n    def _repr_html_(self): raise ValueError('in html')\n"
        "    def __repr__(self): return 'good'\n"
        "display(Bad())\ndisplay(BadHtml())\nBad()"
    )
    execution = client.run_code(code, context=context)
    assert (execution.outcome, execution.error) == (Outcome.SUCCEEDED, None)
    assert "in repr" in execution.stderr
    assert "in html" in execution.stderr
    assert "good" in [result.text for result in execution.results]


def test_ten_megabytes_come_in_pieces(
    stub: CodeContextServiceStub, client: CodeContextClient, context: CodeContext
) -> None:
    """A result of 10 MB arrives whole in a stream of small messages, text and bytes alike."""
    make = "'text/x': '☃' * 4_000_000, 'application/octet-stream': bytes(range(256)) * 40_000"
    code = f"display({{{make}}}, metadata={{'of': 'all'}}, raw=True); print('after')"
    request = pb.RunCodeStreamRequest(context_id=context.id, code=code)
    events = [response.event for response in stub.RunCodeStream(request)]  # none over 3 MiB
    results = [event.result for event in events if event.HasField("result")]
    assert len(results) > 10
    assert [result.continued for result in results] == [True] * (len(results) - 1) + [False]
    (result,) = client.run_code(code, context=context).results
    assert result.data["text/x"] == "☃" * 4_000_000
    assert result.data["application/octet-stream"] == bytes(range(256)) * 40_000
    assert result.metadata == {"of": "all"}


def test_a_unary_answer_is_cut(stub: CodeContextServiceStub, context: CodeContext) -> None:
    """The unary call leaves out what fits into no message, counts it in a gap, and keeps the rest."""
    code = "print('kept')\n'x' * 10_000_000"
    answer = raw(stub, context, code)
    assert answer.stdout == b"kept\n"
    assert [(gap.events, gap.reason) for gap in answer.gaps] == [
        (1, execution_pb2.GAP_REASON_MESSAGE_SIZE)
    ]
    assert answer.gaps[0].bytes == 10_000_002
    answer = raw(stub, context, "import sys\nfor _ in range(10): sys.stdout.write('x' * 1_000_000)")
    assert len(answer.stdout) > 2_000_000
    (gap,) = answer.gaps
    assert len(answer.stdout) + gap.bytes == 10_000_000


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError('x' * 10_000_000)",
        "raise ValueError('\\n' * 3_000_000)",
        "raise ValueError('☃' * 3_000_000)",
        "raise type('X' * 10_000_000, (Exception,), {})",
        "print('x' * 2_900_000)\nraise ValueError('\\N{GRINNING FACE}' * 200_000)",
        "raise ExceptionGroup('g', [ValueError(str(n) * 1000) for n in range(5_000)])",
        "display({'text/plain': 'x'}, metadata={'big': 'x' * 10_000_000}, raw=True)",
        "for _ in range(100): display({'text/plain': 'x'}, metadata={'big': 'x' * 100_000}, raw=True)",
        "display({'text/plain': 'x'}, raw=True, display_id='d' * 10_000_000)",
        "display({'text/plain': '\\N{GRINNING FACE}' * 1_000_000}, raw=True)",
        "display({'text/plain': 'x'}, metadata=deep, raw=True)",
        "for _ in range(100): display({'text/plain': 'x'}, metadata={'big': 'x' * 60_000}, raw=True)",
        "display({'x/' + 'y' * 10_000_000: 'x'}, raw=True)",
        "display({f'x/{n}': 'x' for n in range(300_000)}, raw=True)",
        "for n in range(20_000): display(n)",
        "input('x' * 10_000_000)",
    ],
)  # fmt: skip
def test_no_message_is_too_large(
    stub: CodeContextServiceStub, context: CodeContext, code: str
) -> None:
    """Whatever code shows, raises or asks, no message exceeds its promised size and none is missing."""
    request = pb.RunCodeStreamRequest(context_id=context.id, code=code, allow_input=True)
    deep = "deep = {}\nfor _ in range(40): deep = {'deeper': deep}"
    raw(stub, context, deep)
    stream = stub.RunCodeStream(request)
    events = []
    for response in stream:
        events.append(response.event)
        if response.event.HasField("input_requested"):
            stub.SendInput(
                pb.SendInputRequest(
                    execution_id=response.event.execution_id, sequence=response.event.sequence
                )
            )
    assert kinds(events)[-1] == "completed"
    raising = "raise" in code
    outcome = events[-1].completed.outcome
    assert outcome == (
        execution_pb2.EXECUTION_OUTCOME_RAISED
        if raising
        else execution_pb2.EXECUTION_OUTCOME_SUCCEEDED
    )
    gathered = stub.GetExecution(pb.GetExecutionRequest(execution_id=events[0].execution_id))
    assert gathered.execution.HasField("error") is raising
    assert raw(stub, context, code.replace("input(", "len(")).outcome == outcome
    assert raw(stub, context, "'alive'").results[0].parts[0].text == "'alive'"


def test_magics_and_await(client: CodeContextClient, context: CodeContext) -> None:
    """Line and cell magics work, and `await` works at the top level, over several runs."""
    assert client.run_code("%time x = 21", context=context).outcome is Outcome.SUCCEEDED
    assert client.run_code("x * 2", context=context).text == "42"
    assert "per loop" in client.run_code("%timeit -n 1 -r 1 pass", context=context).stdout
    assert (
        client.run_code("%%writefile note.txt\nhello", context=context).outcome is Outcome.SUCCEEDED
    )
    assert client.run_code("files = !ls\nlist(files)", context=context).text == "['note.txt']"
    assert client.run_code("%%capture caught\nprint(1)", context=context).stdout == ""
    assert client.run_code("caught.stdout", context=context).text == "'1\\n'"
    code = "import asyncio\nasync def f(): return await asyncio.sleep(0, 'awaited')\nawait f()"
    assert client.run_code(code, context=context).text == "'awaited'"
    assert client.run_code("task = asyncio.create_task(f()); await task", context=context).text == (
        "'awaited'"
    )
    failed = client.run_code("%nosuchmagic", context=context)
    assert failed.outcome is Outcome.RAISED


@pytest.mark.parametrize(
    ("code", "name", "line"),
    [
        ("x = 1\n\n1/0", "ZeroDivisionError", 3),
        ("def f():\n    return 1/0\n\nf()", "ZeroDivisionError", 2),
        ("import json\njson.loads('{')", "JSONDecodeError", 2),
        ("1 +", "SyntaxError", 1),
        ("x = 1\ny = (", "SyntaxError", 2),
        ("if True:\n  x = 1\n y = 2", "IndentationError", 3),
        ("async def f():\n    raise KeyError('k')\nawait f()", "KeyError", 2),
        ("import sys\nsys.exit(3)", "SystemExit", 2),
        ("x = 1\nraise KeyboardInterrupt", "KeyboardInterrupt", 2),
        ("compile('1 +', 'other', 'exec')", "SyntaxError", 1),
        ("def f(n): return f(n + 1)\nf(0)", "RecursionError", 1),
        ("try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ValueError('v') from e", "ValueError", 4),
        ("x = 1\nraise ExceptionGroup('g', [ValueError('one'), KeyError('two')])", "ExceptionGroup", 2),
        ("x = 1\n1\0", "ValueError", None),
    ],
)  # fmt: skip
def test_an_error_names_its_line(
    client: CodeContextClient, context: CodeContext, code: str, name: str, line: int | None
) -> None:
    """An error tells its class, the line of the code that raised it, and a traceback without colours."""
    execution = client.run_code(code, context=context)
    assert execution.outcome is Outcome.RAISED
    assert execution.error is not None
    if name == "ValueError" and line is None:
        assert execution.error.name in ("ValueError", "SyntaxError")
    else:
        assert (execution.error.name, execution.error.line_number) == (name, line)
        assert name in "\n".join(execution.error.traceback)
    assert not any("\x1b" in text or "\n" in text for text in execution.error.traceback)
    assert execution.stderr == ""
    assert client.run_code("1", context=context).text == "1"


def test_a_group_tells_all_of_its_exceptions(
    client: CodeContextClient, context: CodeContext
) -> None:
    """The traceback of an ExceptionGroup has each exception in it."""
    code = "raise ExceptionGroup('several', [ValueError('one'), ExceptionGroup('in', [KeyError('two')])])"
    error = client.run_code(code, context=context).error
    assert error is not None
    text = "\n".join(error.traceback)
    assert all(word in text for word in ("several", "ValueError: one", "KeyError: 'two'"))
    assert error.value == "several (2 sub-exceptions)"


def test_exceptions_that_can_not_be_shown(client: CodeContextClient, context: CodeContext) -> None:
    """An exception whose text can't be made, or is no Unicode, is an error like any other."""
    code = "class Bad(Exception):\n    def __str__(self): raise RuntimeError\nraise Bad"
    error = client.run_code(code, context=context).error
    assert error is not None
    assert (error.name, error.line_number) == ("Bad", 3)
    error = client.run_code("raise ValueError('a\\ud800b')", context=context).error
    assert error is not None
    assert error.value == "a\ufffdb"


def test_results_that_are_no_unicode(client: CodeContextClient, context: CodeContext) -> None:
    """Lone surrogates in results, their types, names and metadata are replaced, never an error."""
    code = (
        "bad = 'a\\ud800b'\n"
        "display({'text/plain': bad, 'x/' + bad: 'y'}, metadata={bad: bad}, raw=True, display_id=bad)\n"
        "class Shown:\n    def __repr__(self): return bad\nShown()"
    )
    execution = client.run_code(code, context=context)
    assert execution.outcome is Outcome.SUCCEEDED
    shown, main = execution.results
    assert shown.data == {"text/plain": "a\ufffdb", "x/a\ufffdb": "y"}
    assert shown.display_id == "a\ufffdb"
    assert shown.metadata == {"a\ufffdb": "a\ufffdb"}
    assert main.text == "a\ufffdb"


def test_a_representation_without_end_is_left_out(
    client: CodeContextClient, context: CodeContext
) -> None:
    """A representation that is larger than any reader could want is left out, and counted."""
    code = "display({'text/plain': 'small', 'text/html': 'x' * 40_000_000}, raw=True)"
    execution = client.run_code(code, context=context)
    assert [result.data for result in execution.results] == [{"text/plain": "small"}]
    assert [(gap.bytes, gap.reason) for gap in execution.gaps] == [
        (40_000_000, GapReason.MESSAGE_SIZE)
    ]


def test_many_results_say_nothing_of_the_cache(
    client: CodeContextClient, context: CodeContext
) -> None:
    """When IPython's cache of results is full, nothing of that is written to the run's output."""
    client.run_code("get_ipython().displayhook.cache_size = 4", context=context)
    for number in range(8):
        execution = client.run_code(str(number), context=context)
        assert (execution.results[0].text, execution.stderr) == (str(number), "")

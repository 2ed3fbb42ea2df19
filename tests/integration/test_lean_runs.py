"""The short way through a run shows what IPython's own way shows."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codecontext import CodeContext, CodeContextClient
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

CHOOSE_A_WAY = (
    "import ast, os\n"
    "if os.environ['FULL']: get_ipython().ast_transformers.append(ast.NodeTransformer())"
)
"""Has all that follows go IPython's way: a transformation that changes nothing, of the user's own."""

STATEMENTS = (
    "1 + 1",
    "x = 5",
    "x",
    "x;",
    "x; # not shown",
    "'a;'",
    "x = 1; x; x + 1",
    "None",
    "# nothing",
    "print('out')",
    "import sys; print('err', file=sys.stderr)",
    "def f(n):\n    return 1 / n",
    "f(1)",
    "f(0)",
    "for n in range(3): n",
    "if x: x",
    "while False: pass",
    "try: f(0)\nexcept ZeroDivisionError as error: print(type(error))",
    "class Shown:\n    def __repr__(self): return 'shown'\n    def _repr_html_(self): return '<b>'",
    "Shown()",
    "[Shown(), {1: 'x' * 30}, 'y' * 60]",
    "class Broken:\n    def __repr__(self):\n        raise ValueError('no text')",
    "Broken()",
    "display(x, 'text'); x",
    "(y := 7)",
    "note: int = 3",
    "__annotations__",
    "'a text alone'",
    "1.0 / 3",
    "10 ** 5000",
    "'\\udc80 and \\u00e9'",
    "b'bytes', 2j, True, range(2), {3}",
    "_, __, ___, _i, _ii, len(Out), len(In), In[-1], _ih[-2]",
    "_ = 'mine'",
    "_",
    "del _",
    "unknown",
    "raise KeyError('a\\nb')",
    "raise SystemExit(3)",
    "exit",
    "exit()",
    "quit(1)",
    "raise KeyboardInterrupt",
    "raise ExceptionGroup('many', [ValueError(1), KeyError(2)])",
    "import bdb; raise bdb.BdbQuit",
    "def deep():\n    deep()\ndeep()",
    "assert x == 0, 'why'",
    "return 1",
    "x = 1\nreturn x",
    "print('before')\nbreak",
    "def g(:",
    "print(",
    "x = ",
    "  x",
    "if x:\nx",
    "'not closed",
    "1 +* 2",
    "x is 1",
    "'\\d'",
    "x is 1 +",
    "f'{x}' f'{unknown}'",
    "from __future__ import annotations",
    "note: Undefined = 4",
    "lambda: (yield)",
    "global x; x = 9",
    "x\n\n\n",
    "\nx",
    "x\r\ny",
    "x\f",
    "1" + " + 1" * 200,
    "(" * 150 + "1" + ")" * 150,
    "(" * 300 + "1" + ")" * 300,
    "-" * 5000 + "1",
    "x" + ".y" * 3000,
    "x" + ".y" * 3000 + "\nx",
    "!echo shell",
    "%precision 3",
    "%precision",
    "%pprint",
    "%who_ls int",
    "%%capture caught\nprint(1)\n2",
    "caught.outputs, caught.stdout",
    "%history -o",
    "len?",
    "import asyncio\nawait asyncio.sleep(0)\n'slept'",
    "async def h(): return 8",
    "await h()",
    "get_ipython().run_cell('x + 1').result",
    "get_ipython().last_execution_result.result, get_ipython().last_execution_succeeded",
    "get_ipython().execution_count",
    "before, sys.displayhook = sys.displayhook, lambda value: print('hook', value)",
    "sys.displayhook = lambda value: print('hook', value)\nx",
    "x",
    "sys.excepthook is get_ipython().excepthook, sys.displayhook is get_ipython().displayhook",
    "def on(*about): print([type(each).__name__ for each in about])",
    "for event in list(get_ipython().events.callbacks): get_ipython().events.register(event, on)",
    "1 / 0",
    "x",
    "def fails(*about): raise ValueError('in a callback')",
    "get_ipython().events.register('post_run_cell', fails)",
    "x",
    "get_ipython().events.unregister('post_run_cell', fails)",
    "get_ipython().display_formatter.formatters['text/html'].for_type(int, lambda n: f'<i>{n}</i>')",
    "x",
    "get_ipython().display_formatter.formatters['text/plain'].for_type(str, lambda s, p, c: p.text('S'))",
    "'plain'",
    "import warnings; warnings.warn('careful')",
    "warnings.warn('careful')",
    "__name__, __builtins__ is not None, __doc__",
    "'the last' if x else ...",
)
"""Code of all kinds; the runs share their state.

None defines a function that fails in the line of its `def`: what is shown around that line is chance.
"""

_VARIES = re.compile(r"0x[0-9a-f]+| at [0-9a-f]{9,}|\(\d+ times\)")
"""Where in memory something is, and how deep a recursion may go."""


@pytest.fixture(scope="module")
def pair(client: CodeContextClient) -> Iterator[tuple[CodeContext, CodeContext]]:
    """Two contexts, the second of which goes IPython's way."""
    lean, full = client.create_code_context(), client.create_code_context()
    for each, is_full in ((lean, ""), (full, "yes")):
        client.run_code(CHOOSE_A_WAY, context=each, env_vars={"FULL": is_full})
    yield lean, full
    for each in (lean, full):
        client.delete_code_context(each)


def events(stub: CodeContextServiceStub, context: CodeContext, code: str) -> list[object]:
    """Runs code, and returns what a caller sees of it: without when, where in memory, and how long."""
    request = pb.RunCodeStreamRequest(context_id=context.id, code=code)
    seen: list[object] = []
    output = {"stdout": b"", "stderr": b""}
    for response in stub.RunCodeStream(request):
        name = response.event.WhichOneof("event")
        if name in output:  # how it is cut is chance, as is what came first of the two
            output[name] += getattr(response.event, name)
            continue
        event = MessageToDict(getattr(response.event, name))
        if name == "completed":
            event = {key: event.get(key) for key in ("outcome", "outcomeMessage", "executionCount")}
        seen.append((name, _VARIES.sub("…", str(event))))
    return [*seen, *(_VARIES.sub("…", text.decode()) for text in output.values())]


@pytest.mark.timeout(300)
def test_both_ways_show_the_same(
    stub: CodeContextServiceStub, pair: tuple[CodeContext, CodeContext]
) -> None:
    """Whatever code is run, its events are those that IPython's own way gives, and so are later ones."""
    for code in STATEMENTS:
        lean, full = (events(stub, context, code) for context in pair)
        assert lean == full, code


@settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.sampled_from(STATEMENTS), min_size=2, max_size=5),
    st.sampled_from(["\n", "; ", "\n\n", "\n    "]),
)
def test_both_ways_show_the_same_of_any_mixture(
    stub: CodeContextServiceStub,
    pair: tuple[CodeContext, CodeContext],
    statements: list[str],
    between: str,
) -> None:
    """Statements in any order, on lines of their own or not, show the same on both ways."""
    code = between.join(statements)
    lean, full = (events(stub, context, code) for context in pair)
    assert lean == full

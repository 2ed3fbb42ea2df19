"""What an interpreter remembers of past runs: what people look back at, and no more."""

from __future__ import annotations

import pytest
from support.processes import interpreter_of
from support.servers import ServerProcess

from codecontext import CodeContext, CodeContextClient
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

COUNTS = (
    "import executing, linecache, stack_data\n"
    "shell = get_ipython(); history = shell.history_manager\n"
    "kinds = [executing.Source, stack_data.Source]\n"
    "counted = {\n"
    "    'names': len(shell.user_ns), 'hidden': len(shell.user_ns_hidden), 'results': len(Out),\n"
    "    'sources': sum(name.startswith('<ipython-input') for name in linecache.cache),\n"
    "    'numbers': len(shell.compile._filename_map),\n"
    "    'code': sum(map(len, In)) + sum(map(len, history.input_hist_raw)),\n"
    "    'history': len(history.db_input_cache) + len(history.outputs) + len(history.exceptions),\n"
    "    'frames': max(len(v) for k in kinds for v in vars(k).values() if isinstance(v, dict)),\n"
    "}\n"
    "max(v for k, v in counted.items() if k != 'code'), counted['code']"
)


class Runs:
    """Runs many small pieces of code."""

    def __init__(self, stub: CodeContextServiceStub, context: CodeContext) -> None:
        """Runs them in a context."""
        self._stub = stub
        self._id = context.id

    def __call__(self, count: int, code: str = "pass") -> None:
        """Runs code so many times; `NUMBER` in it is the number of the run."""
        for number in range(count):
            request = pb.RunCodeRequest(
                context_id=self._id, code=code.replace("NUMBER", str(number)), detach=True
            )
            self._stub.RunCode(request)


@pytest.fixture
def runs(stub: CodeContextServiceStub, context: CodeContext) -> Runs:
    """Runs code in the test's context."""
    return Runs(stub, context)


def test_memory_is_bounded_over_many_runs(
    server: ServerProcess, client: CodeContextClient, context: CodeContext, runs: Runs
) -> None:
    """After thousands of runs that define, return and raise, an interpreter holds no more than after 1,100."""
    code = f"def f():\n    return '{'x' * 3000}'\nf(); 'NUMBER' if NUMBER % 10 else missing"
    runs(1100, code)
    before = interpreter_of(server, context).memory_info().rss
    runs(1500, code)
    text = client.run_code(COUNTS, context=context).text
    entries, characters = eval(text or "")
    assert entries < 2300  # the names of 1,000 runs and of 1,000 results, and what is always there
    assert characters < 2 * 1001 * (len(code) + 10)
    # The same 1,500 runs took over 12 MB while nothing was forgotten.
    assert interpreter_of(server, context).memory_info().rss - before < 6 << 20


def test_large_code_is_forgotten_sooner(
    client: CodeContextClient, context: CodeContext, runs: Runs
) -> None:
    """The code that is remembered is bounded in its size too."""
    runs(40, "'NUMBER'  # " + "x" * 900_000)
    entries, characters = eval(client.run_code(COUNTS, context=context).text or "")
    assert entries < 200
    assert 2 * 7_000_000 < characters < 2 * (8 << 20) + 10_000
    assert client.run_code("Out[1], _1", context=context).text == "('0', '0')"


def test_what_people_look_back_at_stays(
    client: CodeContextClient, context: CodeContext, runs: Runs
) -> None:
    """The code of the last thousand runs and the results are there under their names, older code is not."""
    client.run_code("'first'", context=context)
    client.run_code("_i2 = 'my own'", context=context)
    runs(1100, "'result NUMBER'")
    assert client.run_code("In[1100], _i1100, _1100", context=context).text == (
        "(\"'result 1097'\", \"'result 1097'\", 'result 1097')"
    )
    assert client.run_code("In[1], In[5], len(In) - 1", context=context).text == "('', '', 1104)"
    assert (
        client.run_code("'_i1' in dir(), '_1' in dir()", context=context).text == "(False, False)"
    )
    assert client.run_code("_i2", context=context).text == "'my own'"
    assert client.run_code("_i", context=context).text == "'_i2'"


def test_old_functions_keep_their_lines(
    client: CodeContextClient, context: CodeContext, runs: Runs
) -> None:
    """Tracebacks and sources show the lines of functions of old runs, as long as these are there."""
    code = (
        "import inspect\n"
        "def outer():\n"
        "    class Kept:\n"
        "        def method(self): return [1 / zero for zero in (0,)]  # the method\n"
        "    return Kept()\n"
        "kept = outer()\n"
        "def old():\n    raise ValueError('told')  # the old line\n"
    )
    client.run_code(code, context=context)
    client.run_code("del outer", context=context)
    runs(1100)
    for call, line in (("old()", "# the old line"), ("kept.method()", "# the method")):
        error = client.run_code(call, context=context).error
        assert error is not None
        assert any(line in each for each in error.traceback)
    assert "# the old line" in (
        client.run_code("inspect.getsource(old)", context=context).text or ""
    )


def test_code_that_is_gone_takes_its_lines_along(
    client: CodeContextClient, context: CodeContext, runs: Runs
) -> None:
    """The lines of an old function go when the function does."""
    count = "sum(['def lost(): pass\\n'] == entry[2] for entry in linecache.cache.values() if len(entry) > 2)"
    client.run_code("def lost(): pass", context=context)
    client.run_code("import linecache", context=context)
    runs(1100)
    assert client.run_code(count, context=context).text == "1"
    client.run_code("del lost", context=context)
    runs(10)
    assert client.run_code(count, context=context).text == "0"


def test_a_reset_is_no_harm(client: CodeContextClient, context: CodeContext, runs: Runs) -> None:
    """After the code has emptied the history, runs are remembered again."""
    runs(20, "'NUMBER'")
    client.run_code("%reset -f", context=context)
    runs(1100, "'NUMBER'")
    entries, _ = eval(client.run_code(COUNTS, context=context).text or "")
    assert entries < 2300
    assert client.run_code("In[-1]", context=context).text == "'In[-1]'"

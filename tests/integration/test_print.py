"""`print` in a context: what the builtin does, in one piece, at once, and never lost."""

from __future__ import annotations

import pytest
from support.processes import workspace_of

from codecontext import CodeContext, CodeContextClient, Outcome


def test_it_does_what_the_builtin_does(client: CodeContextClient, context: CodeContext) -> None:
    """Whatever the arguments, the same text comes and the same exception is raised as of the builtin."""
    code = (
        "import io, itertools, sys, codecontext_service.workers.python.streams as streams\n"
        "class Own:\n    def __str__(self): return 'own'\n"
        "class Bad:\n    def __str__(self): raise ValueError('bad')\n"
        "class Nested:\n    def __str__(self): print('inner'); return 'outer'\n"
        "class Text(str):\n    def __str__(self): return 'of a subclass'\n"
        "class NoText:\n    def __str__(self): return 5\n"
        "values = ['', 'x', 'a\\nb', 1, None, 2.5, [Own()], Own(), Bad(), Nested(), Text('t'), NoText(),\n"
        "    'é\\ud800']\n"
        "cases = [(v,) for v in values] + [()] + list(itertools.product(values, repeat=2))\n"
        "options = [{}, {'end': ''}, {'sep': '-'}, {'end': None, 'sep': None}, {'flush': True}, {'end': 5},\n"
        "    {'sep': 5}, {'file': None}, {'file': 5}, {'bad': 1},\n"
        "    {'flush': 0, 'file': None}, {'flush': Bad()}]\n"
        "def told(printer, case, option):\n"
        "    pieces = []; own, error = sys.stdout, None\n"
        "    sys.stdout = streams.OutputStream(pieces.append, 1, '<stdout>')\n"
        "    try: printer(*case, **option)\n"
        "    except BaseException as caught: error = (type(caught), str(caught))\n"
        "    finally: sys.stdout = own\n"
        "    return b''.join(pieces), error\n"
        "different = [(c, o) for c in cases for o in options\n"
        "    if told(print, c, o) != told(print.__wrapped__, c, o)]\n"
        "len(cases) * len(options), different"
    )
    execution = client.run_code(code, context=context)
    assert execution.error is None
    assert execution.text == "(2196, [])"


def test_it_looks_like_the_builtin(client: CodeContextClient, context: CodeContext) -> None:
    """Its documentation, name, signature and pickle are those of the builtin, and it knows redirection."""
    code = (
        "import builtins, contextlib, inspect, io, pickle\n"
        "original = print.__wrapped__\n"
        "assert print is builtins.print and print.__doc__ == original.__doc__\n"
        "assert (print.__name__, print.__qualname__, print.__module__) == ('print', 'print', 'builtins')\n"
        "assert inspect.signature(print) == inspect.signature(original)\n"
        "assert pickle.loads(pickle.dumps(print)) is print\n"
        "with contextlib.redirect_stdout(io.StringIO()) as caught: print('caught'); print(1, 2)\n"
        "assert caught.getvalue() == 'caught\\n1 2\\n'\n"
        "class Bad:\n    def __str__(self): raise ValueError('bad')\n"
        "print(Bad())"
    )
    execution = client.run_code(code, context=context)
    assert execution.error is not None
    assert execution.error.value == "bad"
    assert not any("printing" in line for line in execution.error.traceback)


@pytest.mark.parametrize(
    "end",
    [
        "os._exit(1)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "ctypes.string_at(0)",
    ],
)
def test_nothing_is_lost_in_a_crash(
    client: CodeContextClient, context: CodeContext, end: str
) -> None:
    """All that was printed before a crash arrives, the last line whole."""
    code = (
        f"import ctypes, os, signal\nfor number in range(3000): print(number)\nprint(1, 2)\n{end}"
    )
    execution = client.run_code(code, context=context)
    assert execution.outcome is Outcome.CRASHED
    assert execution.stdout == "".join(f"{number}\n" for number in range(3000)) + "1 2\n"


def test_each_line_is_live(client: CodeContextClient, context: CodeContext) -> None:
    """A line arrives while the code goes on, also the one right after another, with nothing that follows it."""
    client.run_code("import os, sys; os.mkfifo('go')", context=context)
    go = workspace_of(context) / "go"
    seen: list[str] = []

    def on_text(text: str) -> None:
        seen.append(text)
        go.write_text("")

    for target in ("sys.stdout", "sys.stderr"):
        seen.clear()
        code = f"for number in range(200):\n    print(number, file={target})\n    _ = open('go').read()"
        execution = client.run_code(code, context=context, on_stdout=on_text, on_stderr=on_text)
        assert execution.outcome is Outcome.SUCCEEDED
        assert seen == [f"{number}\n" for number in range(200)]


def test_many_lines_are_few_events(client: CodeContextClient, context: CodeContext) -> None:
    """However fast lines are printed, an event comes every few milliseconds, and none of them is late."""
    events = list(
        client.run_code_stream("for number in range(50_000): print(number)", context=context)
    )
    texts = [event for event in events if event.HasField("stdout")]
    assert b"".join(event.stdout for event in texts).count(b"\n") == 50_000
    duration_s = events[-1].completed.duration.ToMicroseconds() / 1e6
    assert len(texts) <= duration_s / 0.004 + 10


def test_threads_do_not_tear_lines(client: CodeContextClient, context: CodeContext) -> None:
    """Lines that several threads print are whole, and each thread's come in its order."""
    code = (
        "import threading\n"
        "def work(name):\n    for number in range(500): print(f'{name} {number}')\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads];"
    )
    lines = client.run_code(code, context=context).stdout.splitlines()
    assert len(lines) == 4000
    for name in range(8):
        mine = [line for line in lines if line.startswith(f"{name} ")]
        assert mine == [f"{name} {number}" for number in range(500)]


def test_order_with_what_is_no_print(client: CodeContextClient, context: CodeContext) -> None:
    """Text that waits for more of it is never overtaken: not by a display, not by the other stream."""
    code = (
        "import sys\n"
        "for number in range(200):\n"
        "    print('a'); print('b'); display(number); print('c'); print('d', file=sys.stderr)"
    )
    story = []
    for event in client.run_code_stream(code, context=context):
        kind = event.WhichOneof("event")
        if kind in ("stdout", "stderr"):
            story.append((event.stdout or event.stderr).decode())
        elif kind == "result":
            story.append(event.result.parts[0].text + "\n")
    assert "".join(story).split() == [
        each for number in range(200) for each in ("a", "b", str(number), "c", "d")
    ]

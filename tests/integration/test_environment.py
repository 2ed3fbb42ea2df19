"""Where and with what code runs: environment, working directory, counts, and what a context keeps."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.processes import has_folder
from support.servers import ServerProcess

from codecontext import (
    CodeContext,
    CodeContextClient,
    InvalidArgumentError,
    Outcome,
    ResourceLimits,
)

LIMITS = ResourceLimits(open_files=128)

VALUES = {
    "QUOTES": "a'b\"c'''d\"\"\"e",
    "LINES": "first\nsecond\r\n\tthird",
    "MAGIC": "%%bash\necho no\n!echo no\n%matplotlib",
    "ESCAPES": "\\n \\x41 \\ {0} %s $HOME `id` $(id)",
    "TEXT": "☃ é \U0001f600",
    "EMPTY": "",
    "SPACES": "  ",
    "LONG": "x" * 100_000,
}
READ = "import os, json; print(json.dumps({name: os.environ.get(name) for name in NAMES}))"
SHOW = READ.replace("NAMES", repr(sorted(VALUES)))


def environment(
    client: CodeContextClient, context: CodeContext, env_vars: dict[str, str] | None = None
) -> object:
    """Runs code that tells the environment, and returns what it told."""
    execution = client.run_code(SHOW, context=context, env_vars=env_vars)
    assert execution.error is None
    return json.loads(execution.stdout)


def test_values_arrive_as_they_are(client: CodeContextClient) -> None:
    """Any value arrives as it is, whether of the context or of a run, in Python and in child processes."""
    context = client.create_code_context(env_vars=VALUES)
    assert environment(client, context) == VALUES
    child = client.run_code('!printf %s "$QUOTES$LINES$MAGIC"', context=context)
    assert child.stdout == VALUES["QUOTES"] + VALUES["LINES"] + VALUES["MAGIC"]
    client.delete_code_context(context)
    context = client.create_code_context()
    assert environment(client, context, env_vars=VALUES) == VALUES
    assert environment(client, context) == dict.fromkeys(VALUES)
    client.delete_code_context(context)


@pytest.mark.parametrize(
    "code",
    [
        "pass",
        "1/0",
        "import sys; sys.exit()",
        "1 +",
        "import os; os.environ['TEXT'] = 'changed'; del os.environ['EMPTY']",
        "import os; os.environ.clear()",
        "while True: pass",
    ],
)
def test_a_runs_variables_go_with_it(client: CodeContextClient, code: str) -> None:
    """However a run ends, its own variables are gone after it, and those of the context are back."""
    context = client.create_code_context(env_vars={"TEXT": "of the context"})
    client.run_code("import os; os.environ['SPACES'] = 'set by code'", context=context)
    names = dict.fromkeys(["TEXT", "EMPTY", "QUOTES"], "of the run")
    client.run_code(code, context=context, env_vars=names, timeout=0.5)
    after = environment(client, context)
    assert isinstance(after, dict)
    assert (after["TEXT"], after["EMPTY"], after["QUOTES"]) == ("of the context", None, None)
    if "clear" not in code:
        assert after["SPACES"] == "set by code"
    client.delete_code_context(context)


def test_nothing_of_the_servers_environment_is_seen(tmp_path: Path) -> None:
    """A context has none of the server's own variables beside those that every program needs."""
    env = os.environ | {
        "SERVER_TOKEN": "secret",
        "CODECONTEXT_LOG_LEVEL": "info",
        "PYTHONPATH": "/x",
    }
    flags = ("--pool-size", "1")
    with (
        ServerProcess(tmp_path, *flags, env=env) as server,
        CodeContextClient(server.target) as client,
    ):
        context = client.create_code_context()
        told = client.run_code(
            "import os; print(sorted(os.environ)); os.environ['HOME']", context=context
        )
        assert "TOKEN" not in told.stdout
        assert "LOG_LEVEL" not in told.stdout
        assert "PYTHONPATH" not in told.stdout
        assert "'PATH'" in told.stdout
        assert told.text == repr(context.cwd)


def test_the_working_directory_is_the_sandboxs_own(client: CodeContextClient) -> None:
    """Without a `cwd` code works in a fresh, empty workspace that no other context shares."""
    one, two = client.create_code_context(), client.create_code_context()
    listing = "import os; print(os.getcwd(), os.listdir())"
    assert client.run_code(listing, context=one).stdout == f"{one.cwd} []\n"
    client.run_code("open('mine', 'w').close(); os.mkdir('d'); os.chdir('d')", context=one)
    assert client.run_code(listing, context=one).stdout == f"{one.cwd}/d []\n"
    assert client.run_code(listing, context=two).stdout == f"{two.cwd} []\n"
    for each in (one, two):
        client.delete_code_context(each)
        assert not has_folder(each)


def test_modules_of_the_working_directory_can_be_imported(
    client: CodeContextClient, context: CodeContext
) -> None:
    """A module that code writes into its working directory can be imported, and so from a new one."""
    client.run_code("%%writefile helper.py\ndef f(): return 'helped'", context=context)
    assert client.run_code("import helper; helper.f()", context=context).text == "'helped'"
    code = "import os; os.mkdir('d'); open('d/other.py', 'w').write('x = 1'); os.chdir('d')"
    client.run_code(code, context=context)
    assert client.run_code("import other; other.x", context=context).text == "1"


def test_runs_are_counted(client: CodeContextClient, context: CodeContext) -> None:
    """Every run that began counts, however it ended, and those of the code's own making do not."""
    codes = ["1", "1/0", "1 +", "get_ipython().run_cell('1'); None", "# nothing", "   \n"]
    counts = [client.run_code(code, context=context).execution_count for code in codes]
    assert counts == [1, 2, 3, 4, 5, 6]
    assert client.get_code_context(context).execution_count == 6


def test_a_restart_is_a_fresh_start(client: CodeContextClient) -> None:
    """A restarted context has its id, options and files, and neither state nor count."""
    context = client.create_code_context(env_vars={"TEXT": "kept"}, labels={"a": "b"})
    client.run_code(
        "import os; os.environ['TEXT'] = 'x'; open('file', 'w').close()", context=context
    )
    again = client.restart_code_context(context)
    assert (again.id, again.cwd, again.labels) == (context.id, context.cwd, context.labels)
    assert again.execution_count == 0
    told = client.run_code("import os; print(os.environ['TEXT'], os.listdir())", context=context)
    assert (told.stdout, told.execution_count) == ("kept ['file']\n", 1)
    client.delete_code_context(context)


def test_contexts_draw_different_numbers(client: CodeContextClient) -> None:
    """Contexts that come from the same process draw different random numbers."""
    code = (
        "import random, os, uuid, numpy\nprint(random.random(), numpy.random.rand(), uuid.uuid4())"
    )
    contexts = [client.create_code_context() for _ in range(3)]
    drawn = [client.run_code(code, context=each).stdout.split() for each in contexts]
    for numbers in zip(*drawn, strict=True):
        assert len(set(numbers)) == 3
    for each in contexts:
        client.delete_code_context(each)


def test_a_context_past_the_pool_gets_what_it_asks_for(tmp_path: Path) -> None:
    """One that is started while its caller waits has its variables, limits and numbers, and no wrong folder."""
    code = (
        "import os, random, resource, numpy\n"
        "print(os.getcwd(), os.environ['TEXT'], resource.getrlimit(resource.RLIMIT_NOFILE)[0],\n"
        "      random.random(), numpy.random.rand())"
    )
    drawn = []
    with (
        ServerProcess(tmp_path / "state", "--pool-size", "0") as server,
        CodeContextClient(server.target) as client,
    ):
        for number in range(2):
            with pytest.raises(InvalidArgumentError, match="cwd"):
                client.create_code_context(cwd="/not/there")
            context = client.create_code_context(
                cwd="/tmp", env_vars={"TEXT": f"{number}"}, resource_limits=LIMITS
            )
            told = client.run_code(code, context=context).stdout.split()
            assert told[:3] == ["/tmp", f"{number}", f"{LIMITS.open_files}"]
            drawn.append(told[3:])
            assert [each.id for each in client.list_code_contexts()] == [context.id]
            client.delete_code_context(context)
    assert all(one != other for one, other in zip(*drawn, strict=True))


def test_signals_work_as_anywhere(client: CodeContextClient, context: CodeContext) -> None:
    """The processes that code starts end by the signals that end any program, and none is blocked."""
    code = (
        "import signal, subprocess\n"
        "def end(number):\n"
        "    child = subprocess.Popen(['sleep', '1000'])\n"
        "    child.send_signal(number)\n"
        "    return child.wait() == -number\n"
        "numbers = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE]\n"
        "[end(number) for number in numbers], signal.pthread_sigmask(signal.SIG_BLOCK, [])"
    )
    execution = client.run_code(code, context=context, timeout=60)
    assert execution.text == "([True, True, True, True, True], set())"
    execution = client.run_code("import os; os.kill(os.getpid(), signal.SIGTERM)", context=context)
    assert execution.outcome is Outcome.CRASHED
    assert "SIGTERM" in execution.outcome_message


def test_a_context_looks_like_a_main_program(
    client: CodeContextClient, context: CodeContext
) -> None:
    """Code runs as `__main__`; its classes can be pickled, its own process pool works."""
    code = (
        "import pickle, multiprocessing\n"
        "class C: pass\n"
        "assert __name__ == '__main__' and type(pickle.loads(pickle.dumps(C()))) is C\n"
        "def double(x): return x * 2\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool: print(pool.map(double, [1, 2, 3]))"
    )
    execution = client.run_code(code, context=context)
    assert (execution.outcome, execution.stdout) == (Outcome.SUCCEEDED, "[2, 4, 6]\n")

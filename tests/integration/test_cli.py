"""The command against a real server, as a process and on a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from support.kernels import NEEDS_KERNELS

HEEDING = ["env", "--default-signal=HUP"]  # whoever runs the tests by nohup ignores it
MODULE = [sys.executable, "-m", "codecontext_service.cli"]
_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>])")


class Cli:
    """The command, pointed at a server."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.label = f"test={uuid.uuid4().hex}"

    @property
    def env(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CODECONTEXT_")}
        return clean | {"CODECONTEXT_TARGET": self.target}

    def __call__(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*MODULE, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            env=self.env,
        )

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """`run` in a fresh context that `left_over` finds."""
        return self("run", "--label", self.label, *arguments, stdin=stdin)

    def create(self, *arguments: str) -> str:
        result = self("create", "--label", self.label, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def left_over(self) -> list[str]:
        """The contexts of this test that are there."""
        return self("ls", "-q", "--label", self.label).stdout.split()

    @contextmanager
    def started(self, code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """`run` of code that goes on, once it has written its first line, `begun`."""
        process = subprocess.Popen(
            [*HEEDING, *MODULE, "run", *(arguments or ("--label", self.label)), "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env,
            start_new_session=True,
        )
        with process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"begun\n"
                yield process
            finally:
                process.kill()


SLEEP = "import time; print('begun', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " + SLEEP


@pytest.fixture
def cli(server) -> Iterator[Cli]:
    cli = Cli(server.target)
    yield cli
    if left := cli.left_over():
        cli("rm", "--force", *left)


def test_run_code(cli: Cli) -> None:
    """Output and the last expression's value go to standard output; the context is deleted."""
    result = cli.run("-c", "import sys; print('a'); print('b', file=sys.stderr); 6 * 7")
    assert (result.returncode, result.stdout, result.stderr) == (0, "a\n42\n", "b\n")
    assert cli.left_over() == []


def test_run_file_and_stdin(cli: Cli, tmp_path: Path) -> None:
    """A file and standard input are run alike, whatever letters are in them."""
    path = tmp_path / "code.py"
    path.write_text("print('é')", encoding="utf-8")
    assert cli.run(str(path)).stdout == "é\n"
    assert cli.run("-", stdin="print('é')").stdout == "é\n"
    assert cli.run(stdin="print('é')").stdout == "é\n"


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("js", "const half = 21; half * 2"),
        ("ts", "enum Half { No = 21 } Half.No * 2"),
        ("sh", 'half=21; echo "$((half * 2))"'),
    ],
)
def test_run_languages(cli: Cli, tmp_path: Path, language: str, code: str) -> None:
    """Each language runs by its name or an alias, and a file by the name that it has."""
    assert cli.run("-l", language, "-c", code).stdout == "42\n"
    path = tmp_path / f"code.{language}"
    path.write_text(code)
    assert cli.run(str(path)).stdout == "42\n"
    assert cli.left_over() == []


@NEEDS_KERNELS
def test_run_a_kernel(cli: Cli) -> None:
    """A Jupyter kernel runs by the name of its runtime."""
    assert cli.run("--runtime", "jupyter-python3", "-c", "6 * 7").stdout == "42\n"
    assert cli.left_over() == []


def test_run_writes_bytes(cli: Cli) -> None:
    """Output that is no text arrives byte by byte."""
    code = "import sys; sys.stdout.buffer.write(bytes(range(256))) and None"
    result = subprocess.run(
        [*MODULE, "run", "-c", code], capture_output=True, check=True, timeout=90, env=cli.env
    )
    assert result.stdout == bytes(range(256))


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-c", "1 / 0"], 1, "ZeroDivisionError: division by zero"),
        (["-c", "def"], 1, "SyntaxError"),
        (["-c", "raise SystemExit(0)"], 1, "SystemExit"),
        (["-c", "import os; os._exit(7)"], 1, "codecontext: CRASHED: "),
        (["--timeout", "200ms", "-c", "while True: pass"], 124, "codecontext: TIMED_OUT"),
        (["--language", "cobol", "-c", "1"], 3, "python"),
        (["--cwd", "/nonexistent", "-c", "1"], 3, "cwd"),
        (["-c", ""], 3, "code"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_run_fails(cli: Cli, arguments: list[str], status: int, message: str) -> None:
    """The exit status tells a failure of the code from one of the service; nothing is left."""
    result = cli.run(*arguments)
    assert result.returncode == status, result.stderr
    assert message in result.stderr
    assert "Traceback (most recent call last)" not in result.stderr or status != 3
    assert cli.left_over() == []


def test_run_in_context(cli: Cli) -> None:
    """Runs in a named context share its state, and leave the context there."""
    context = cli.create()
    assert cli("run", "--context", context, "-c", "x = 40").returncode == 0
    assert cli("run", "--context", context, "-c", "x + 2").stdout == "42\n"
    assert cli.left_over() == [context]


def test_run_environment_and_directory(cli: Cli) -> None:
    """--env and --cwd reach the code."""
    code = "import os; print(os.environ['A'], os.environ['B'], os.getcwd())"
    result = cli.run("--env", "A=1=2", "--env", "B=", "--cwd", "/usr", "-c", code)
    assert result.stdout == "1=2  /usr\n"


def test_run_input(cli: Cli) -> None:
    """What the code asks for comes from standard input, line by line, until its end."""
    code = "a = input('name? '); print(f'<{a}>')\ntry: input()\nexcept EOFError: print('end')"
    result = cli.run("-c", code, stdin="Ada\n")
    assert (result.returncode, result.stdout, result.stderr) == (0, "<Ada>\nend\n", "name? ")


def test_run_saves_images(cli: Cli, tmp_path: Path) -> None:
    """A plot becomes a PNG file with --images, and a remark without."""
    pytest.importorskip("matplotlib")
    code = "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()"
    saved = cli.run("--images", str(tmp_path), "-c", code)
    assert saved.returncode == 0, saved.stderr
    assert (tmp_path / "image-1.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "image-1.png") in saved.stderr
    assert "[image/png, " in cli.run("-c", code).stderr


def test_run_json(cli: Cli) -> None:
    """With --json each event is a line of JSON, the last one with the outcome."""
    result = cli.run("--json", "-c", "print('a\\n', end=''); 1 / 0")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 1
    assert [event["event"] for event in events] == ["started", "stdout", "error", "completed"]
    assert events[1]["text"] == "a\n"
    assert events[2]["name"] == "ZeroDivisionError"
    assert events[3]["outcome"] == "RAISED"
    assert [event["sequence"] for event in events] == [1, 2, 3, 4]


def test_service_error_as_json(cli: Cli) -> None:
    """With --json an error of the service is one JSON object on standard error."""
    result = cli("run", "--json", "--context", "invalid-id", "-c", "1")
    error = json.loads(result.stderr)["error"]
    assert (result.returncode, result.stdout) == (3, "")
    assert (error["code"], error["reason"]) == ("NOT_FOUND", "CONTEXT_NOT_FOUND")


def test_interrupted_run(cli: Cli) -> None:
    """Output is there while the code runs; Ctrl-C stops it, with status 130; nothing is left."""
    with cli.started(SLEEP) as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"KeyboardInterrupt" in err
    assert cli.left_over() == []


def test_interrupt_keeps_named_context(cli: Cli) -> None:
    """Ctrl-C in a named context stops the code and keeps the context with its state."""
    context = cli.create()
    with cli.started("x = 5; " + SLEEP, "--context", context) as process:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert cli("run", "--context", context, "-c", "x").stdout == "5\n"


def test_second_interrupt_gives_up(cli: Cli) -> None:
    """A second Ctrl-C does not wait for code that ignores the first; nothing is left."""
    with cli.started(DEAF) as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            # Two signals may have become one.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                continue
    assert process.returncode == 130
    assert cli.left_over() == []


def test_interrupted_in_queue(cli: Cli) -> None:
    """Ctrl-C while the run is queued ends it, and leaves alone what runs before it."""
    context = cli.create()
    with cli.started(SLEEP, "--context", context) as first:
        second = subprocess.Popen(
            [*MODULE, "run", "--context", context, "-c", "1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=cli.env,
        )
        with second:
            _wait_until(lambda: _listed(cli, context)["queued_executions"] == 1)
            second.send_signal(signal.SIGINT)
            second.communicate(timeout=60)
        assert second.returncode == 130
        _wait_until(lambda: _listed(cli, context)["queued_executions"] == 0)
        assert first.poll() is None
        assert _listed(cli, context)["state"] == "EXECUTING"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminated_run(cli: Cli, number: signal.Signals) -> None:
    """A terminated command still deletes its context."""
    with cli.started(SLEEP) as process:
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert cli.left_over() == []


def test_closed_pipe(cli: Cli) -> None:
    """When the reader of the output goes away, the run ends without a word and nothing is left."""
    with cli.started("print('begun')\nwhile True: print('x' * 1000)") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.wait(60)
        assert process.stderr.read() == b""
    assert process.returncode == 141
    assert cli.left_over() == []


def test_create_list_delete(cli: Cli) -> None:
    """A created context is listed with what it was given, and is gone once deleted."""
    context = cli.create("--idle-timeout", "10m", "--ttl", "1h", "--cwd", "/usr")
    described = _listed(cli, context)
    assert described["language"] == "python"
    assert described["state"] == "IDLE"
    assert described["cwd"] == "/usr"
    assert cli.label.partition("=")[2] == described["labels"]["test"]
    table = cli("ls", "--label", cli.label, "--state", "IDLE").stdout.splitlines()
    assert table[0].split()[:3] == ["ID", "RUNTIME", "STATE"]
    assert table[1].split()[:3] == [context, "python", "IDLE"]
    assert cli("ls", "-q", "--label", cli.label, "--state", "FAILED").stdout == ""
    removed = cli("rm", context)
    assert (removed.returncode, removed.stdout) == (0, context + "\n")
    assert cli.left_over() == []


def test_create_as_json(cli: Cli) -> None:
    """create --json prints the whole context."""
    result = cli("create", "--json", "--label", cli.label)
    assert [json.loads(result.stdout)["id"]] == cli.left_over()


def test_delete_goes_on(cli: Cli) -> None:
    """A failing delete is told of in a line with the next step, and does not stop the others."""
    first, last = cli.create(), cli.create()
    result = cli("rm", first, "invalid-id", last)
    assert (result.returncode, result.stdout.split()) == (3, [first, last])
    assert "CONTEXT_NOT_FOUND" in result.stderr
    assert "`codecontext ls`" in result.stderr
    assert result.stderr.count("\n") == 1


def test_delete_while_executing(cli: Cli) -> None:
    """A context that runs code is refused, and goes with --force; its run ends with status 3."""
    context = cli.create()
    with cli.started(SLEEP, "--context", context) as process:
        refused = cli("rm", context)
        assert refused.returncode == 3
        assert "CONTEXT_EXECUTING" in refused.stderr
        assert "--force" in refused.stderr
        assert cli("rm", "--force", context).returncode == 0
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert b"CONTEXT_DELETED" in err


def _wait_until_serving(target: str) -> None:
    """Waits for the end of a server's start: one that is stopped before has no status of 0."""
    with grpc.insecure_channel(target) as channel:
        watch = HealthStub(channel).Watch(HealthCheckRequest(), wait_for_ready=True, timeout=60)
        assert any(answer.status == HealthCheckResponse.SERVING for answer in watch)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Cli]]:
    """Starts servers by the command itself; they must end well."""
    with ExitStack() as stack:

        def serve(*arguments: str, env: dict[str, str] | None = None) -> Cli:
            # A socket's path is short; pytest's directories need not be.
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="cc"))
            cli = Cli(f"unix:{directory}/s")
            command = [
                *MODULE,
                "serve",
                "--listen",
                cli.target,
                "--accept-no-isolation",
                *arguments,
            ]
            process = stack.enter_context(subprocess.Popen(command, env=cli.env | (env or {})))

            def stop() -> None:
                process.terminate()
                assert process.wait(60) == 0

            stack.callback(stop)
            _wait_until_serving(cli.target)
            return cli

        yield serve


def test_serve_options(serving, tmp_path: Path) -> None:
    """serve takes its options from flags, the environment and the file, in this order."""
    file = tmp_path / "codecontext.toml"
    file.write_text(
        "max_contexts = 1\nmax_queued_executions = 1\nidle_timeout_s = '10m'\n"
        "[runtimes.second]\npool_size = 0\npreload = []\n"
    )
    env = {"CODECONTEXT_MAX_CONTEXTS": "2", "CODECONTEXT_MAX_QUEUED_EXECUTIONS": "2"}
    arguments = ("--config", str(file), "--max-contexts", "3", "--pool-size", "1", "--preload", "")
    info = json.loads(serving(*arguments, env=env)("info", "--json").stdout)
    limits = info["limits"]
    assert (limits["max_contexts"], limits["max_queued_executions"]) == (3, 2)
    assert limits["default_idle_timeout"] == 600
    sizes = {runtime["name"]: runtime["pool_size"] for runtime in info["runtimes"]}
    assert (sizes["python"], sizes["second"]) == (1, 0)


def test_delete_all(serving) -> None:
    """rm --all deletes every context."""
    cli = serving("--pool-size", "1", "--preload", "")
    ids = {cli.create(), cli.create()}
    assert set(cli("rm", "--all").stdout.split()) == ids
    assert cli("ls", "-q").stdout == ""
    assert cli("rm", "--all").returncode == 0


def test_interrupt_and_restart(cli: Cli) -> None:
    """interrupt names what it stopped and keeps the state; restart loses it, and keeps the id."""
    context = cli.create()
    assert cli("interrupt", context).stdout == "nothing runs\n"
    with cli.started("x = 5; " + SLEEP, "--context", context) as process:
        stopped = cli("interrupt", context)
        process.communicate(timeout=60)
    assert re.fullmatch(r"e\S+ ended as INTERRUPTED\n", stopped.stdout)
    assert process.returncode == 1
    assert cli("run", "--context", context, "-c", "x").stdout == "5\n"
    assert cli("restart", context).stdout == context + "\n"
    assert cli("run", "--context", context, "-c", "x").returncode == 1


def test_copy(cli: Cli, tmp_path: Path) -> None:
    """Files and directories go into a workspace and out of it, and come back the same."""
    context = cli.create()
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "x").write_bytes(bytes(range(256)))
    (tmp_path / "d" / "link").symlink_to("e")
    result = cli("cp", "-r", str(tmp_path / "d"), f"{context}:")
    assert (result.returncode, result.stdout) == (0, "d/e/x\n")
    assert "link is left out" in result.stderr
    assert cli("cp", str(tmp_path / "d/e/x"), f"{context}:new/").stdout == "new/x\n"
    assert cli("cp", "-", f"{context}:piped", stdin="hello").stdout == "piped\n"
    assert cli("cp", f"{context}:piped", "-").stdout == "hello"
    assert cli("cp", "-r", f"{context}:", str(tmp_path / "back")).returncode == 0
    found = {
        str(path.relative_to(tmp_path / "back")): path.read_bytes()
        for path in (tmp_path / "back").rglob("*")
        if path.is_file()
    }
    content = bytes(range(256))
    assert found == {"d/e/x": content, "new/x": content, "piped": b"hello"}
    shown = json.loads(cli("cp", "--json", str(tmp_path / "d/e/x"), f"{context}:x").stdout)
    assert (shown["path"], shown["size_bytes"]) == ("x", 256)
    cli("rm", context)


def test_copy_that_fails(cli: Cli, tmp_path: Path) -> None:
    """What can't be copied is said in one line, with a status that tells whose fault it is."""
    context = cli.create()
    (tmp_path / "f").write_text("local")
    for arguments, status, message in (
        (("a", "b"), 2, "one ID:PATH"),
        ((str(tmp_path / "none"), f"{context}:"), 2, "No such file"),
        ((str(tmp_path), f"{context}:"), 2, "--recursive"),
        ((f"{context}:none", str(tmp_path)), 3, "FILE_NOT_FOUND"),
        (("-", f"{context}:"), 2, "no name"),
        (("-n", str(tmp_path / "f"), f"{context}:f"), 0, ""),
        (("-n", str(tmp_path / "f"), f"{context}:f"), 3, "FILE_EXISTS"),
        (("-n", f"{context}:f", str(tmp_path)), 2, "there already"),
    ):
        result = cli("cp", *arguments)
        assert (result.returncode, message in result.stderr) == (status, True), result.stderr
        assert "Traceback" not in result.stderr
    if "disk_limit" in json.loads(cli("info", "--json").stdout)["isolation"]["guarantees"]:
        with (tmp_path / "large").open("wb") as large:
            large.truncate(2 << 30)
        result = cli("cp", str(tmp_path / "large"), f"{context}:")
        assert result.returncode == 3
        assert result.stderr.endswith("delete something (RESOURCE_EXHAUSTED, QUOTA_EXCEEDED)\n")
    cli("rm", context)


@pytest.fixture(scope="module")
def doctor(server) -> subprocess.CompletedProcess[str]:
    """What the doctor says as JSON."""
    return Cli(server.target)("doctor", "--json")


def test_doctor_says_what_a_server_then_reports(cli: Cli, doctor) -> None:
    """The tier and guarantees are those of a server here; what is missing comes with how to get it."""
    found = json.loads(doctor.stdout)
    isolation = json.loads(cli("info", "--json").stdout)["isolation"]
    assert (found["tier"], found["guarantees"]) == (isolation["tier"], isolation["guarantees"])
    assert doctor.returncode == (1 if found["missing"] else 0)
    assert all(found["missing"].values())
    shown = cli("doctor").stdout
    assert all(name in shown for name in (*found["guarantees"], *found["missing"]))


def test_strict_starts_where_the_doctor_says_so(serving, cli: Cli, doctor) -> None:
    """`isolation = strict` starts with all that it stands for, or names what stands in the way."""
    obstacles = json.loads(doctor.stdout)["strict_obstacles"]
    if obstacles:
        done = cli("serve", "--isolation", "strict", "--listen", "127.0.0.1:0")
        assert done.returncode == 2
        assert all(obstacle in done.stderr for obstacle in obstacles)
    else:
        strict = serving("--isolation", "strict")
        _wait_until(lambda: strict("create").returncode == 0)
        isolation = json.loads(strict("info", "--json").stdout)["isolation"]
        assert isolation["tier"] == "cell"
        assert "memory_limit_hard" in isolation["guarantees"]


def test_info(cli: Cli) -> None:
    """info shows the runtimes, and everything with --json."""
    assert re.search(r"^python \*? *python ", cli("info").stdout, re.MULTILINE)
    info = json.loads(cli("info", "--json").stdout)
    assert info["runtimes"][0]["name"] == "python"
    assert info["limits"]["max_contexts"] > 0


class Terminal:
    """A program on a terminal of its own: what a person sees and types."""

    def __init__(self, arguments: list[str], env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 120))
        own_terminal = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", own_terminal, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
            start_new_session=True,
        )
        os.close(slave)
        self._seen = b""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, pattern: str, timeout: float = 30) -> None:
        """Waits until the output since the last match has the pattern."""
        deadline = time.monotonic() + timeout
        while True:
            plain = _ESCAPES.sub(b"", self._seen)
            if match := re.search(pattern.encode(), plain):
                self._seen = plain[match.end() :]
                return
            ready, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            assert ready, f"{pattern!r} did not come; there was: {plain.decode(errors='replace')}"
            try:
                self._seen += os.read(self._master, 65_536)
            except OSError:  # the terminal's other end is closed
                raise AssertionError(f"ended before {pattern!r}: {plain!r}") from None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(cli: Cli, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """A terminal with a repl, of Python or of the language that is the parameter."""
    env = cli.env | {"XDG_STATE_HOME": str(tmp_path)}
    language = getattr(request, "param", "python")
    terminal = Terminal([*MODULE, "repl", "-l", language, "--label", cli.label], env)
    try:
        terminal.expect(r"In \[1\]:")
        yield terminal
    finally:
        terminal.close()


def test_repl(cli: Cli, terminal: Terminal, tmp_path: Path) -> None:
    """The repl takes blocks, keeps the state, shows values, and deletes its context at Ctrl-D."""
    terminal.type("for i in range(3):\r")
    terminal.expect(r"\.\.\.:")
    terminal.type("print('n' * 2, i)\r\r")
    terminal.expect(r"nn 0\s+nn 1\s+nn 2\s")
    terminal.expect(r"In \[2\]:")
    terminal.type("x = 40\r")
    terminal.expect(r"In \[3\]:")
    terminal.type("x + 2\r")
    terminal.expect(r"Out\[3\]: 42\s")
    terminal.expect(r"In \[4\]:")
    terminal.type("1 / 0\r")
    terminal.expect(r"ZeroDivisionError: division by zero\s")
    terminal.expect(r"In \[5\]:")
    assert len(cli.left_over()) == 1
    terminal.type("\x04")
    assert terminal.process.wait(60) == 0
    assert cli.left_over() == []
    assert "x + 2" in (tmp_path / "codecontext" / "history").read_text()


@pytest.mark.parametrize(
    ("terminal", "lines", "call"),
    [
        ("bash", ("greet() {", "echo hel''lo $1", "}"), "greet you"),
        (
            "javascript",
            ("function greet(whom) {", "console.log('hel' + 'lo', whom)", "}"),
            "greet('you')",
        ),
    ],
    indirect=["terminal"],
    ids=["bash", "javascript"],
)
def test_repl_in_another_language(
    cli: Cli, terminal: Terminal, lines: tuple[str, ...], call: str
) -> None:
    """In another language Alt-Enter goes on in a block, the state is kept, Tab does no harm, Ctrl-D leaves."""
    terminal.type("\x1b\r".join(lines) + "\r")
    terminal.expect(r"In \[2\]:")
    terminal.type(f"g\t\x15{call}\r")
    terminal.expect(r"hello you\s")
    terminal.expect(r"In \[3\]:")
    terminal.type("\x04")
    assert terminal.process.wait(60) == 0
    assert cli.left_over() == []


def test_repl_interrupt(cli: Cli, terminal: Terminal) -> None:
    """Ctrl-C at the prompt drops the line; while code runs it stops the code and keeps the
    state."""
    terminal.type("x = 40\r")
    terminal.expect(r"In \[2\]:")
    terminal.type("not finished\x03")
    terminal.expect(r"In \[2\]:")
    terminal.type("import time; print('be' + 'gun', flush=True); time.sleep(600)\r")
    terminal.expect(r"begun\s")
    terminal.type("\x03")
    terminal.expect(r"KeyboardInterrupt")
    terminal.expect(r"In \[3\]:")
    terminal.type("x\r")
    terminal.expect(r"Out\[3\]: 40\s")


def test_repl_restart(cli: Cli, terminal: Terminal) -> None:
    """A crash is told of with the way out, and :restart is that way."""
    terminal.type("import os; os._exit(3)\r")
    terminal.expect(r"CRASHED")
    terminal.expect(r":restart gives the context a fresh interpreter")
    terminal.expect(r"In \[2\]:")
    terminal.type(":restart\r")
    terminal.expect(r"In \[1\]:")
    terminal.type("6 * 7\r")
    terminal.expect(r"Out\[1\]: 42\s")


def test_repl_completion(cli: Cli, terminal: Terminal) -> None:
    """Tab completes the names that the context has."""
    terminal.type("remarkable_number = 42\r")
    terminal.expect(r"In \[2\]:")
    terminal.type("1 + remarkab\t")
    terminal.expect(r"le_number")  # the rest of it is what the editor adds
    terminal.type("\r")
    terminal.expect(r"Out\[2\]: 43\s")


def test_repl_input(cli: Cli, terminal: Terminal) -> None:
    """What the code asks for is typed on the terminal."""
    terminal.type("print('<' + input('na' + 'me? ') + '>')\r")
    terminal.expect(r"name\? ")
    terminal.type("Ada\r")
    terminal.expect(r"<Ada>")
    terminal.expect(r"In \[2\]:")


def _listed(cli: Cli, context: str) -> dict[str, object]:
    lines = cli("ls", "--json", "--label", cli.label).stdout.splitlines()
    return next(found for line in lines if (found := json.loads(line))["id"] == context)


def _wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # each look is a process of its own: no busy wait
        assert time.monotonic() < deadline

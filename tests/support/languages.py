"""What the shared tests say in each language: the same thing, in its own words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from codecontext import CodeContext, CodeContextClient


@dataclass(frozen=True)
class Dialect:
    """The words of one language. Each is code, or makes code of a text without quotes."""

    language: str
    aliases: tuple[str, ...]
    """Other names of the language; none where another runtime is its default one."""
    say: Callable[[str], str]
    """Writes a line to standard output."""
    complain: Callable[[str], str]
    """Writes a line to standard error."""
    keep: Callable[[str, str], str]
    """Gives a variable a text."""
    tell: Callable[[str], str]
    """Writes a variable to standard output, as a line."""
    define: str
    """Defines a function `greet` of one argument, which writes `hello ` and that."""
    greet: Callable[[str], str]
    """Calls it."""
    fail: str
    """Fails in its second line."""
    failure: str
    """The error's name."""
    broken: str
    """Can't be parsed, for what its second line has."""
    broken_line: int | None
    endless: str
    """Computes for ever."""
    sleep: str
    """Sleeps for a minute, in a process of its own where the language does that."""
    strict: str
    """Has a child sleep for a minute, and fails by an error of its own if that fails."""
    stubborn: str
    """Writes `begun` as a line, and goes on for ever, whatever SIGINT comes."""
    hold: str
    """Takes 64 MiB of memory, and keeps them."""
    hog: str
    """Takes memory without end."""
    torrent: str
    """Writes to standard output without end."""
    ask: str
    """Reads a line with the prompt `name? `, and writes `hello ` and the line."""
    variable: Callable[[str], str]
    """Writes an environment variable to standard output as a line; an empty one if it is not set."""
    where: str
    """Writes the working directory as a line."""
    exit: Callable[[int], str]
    """Ends the interpreter."""
    daemon: str
    """Starts a process that sleeps for a minute and has left the session, and writes its pid as a line."""
    flood: str
    """Writes 4 million bytes to standard output."""
    save: Callable[[str, str], str]
    """Writes a text to a file."""
    load: Callable[[str], str]
    """Writes a file's text to standard output."""
    breach: str
    """Writes to every descriptor from 3 on."""
    unplug: str
    """Closes every descriptor from 3 on."""
    lines: str
    """Writes the numbers 0 to 999, each on a line."""
    pid: str
    """Writes the interpreter's own pid as a line."""
    command: Callable[[str], str]
    """Runs a command of sh whose output is its own, and fails if that does. The command has no `"`."""
    spawn: Callable[[str], str]
    """Starts a command of sh that writes to where the code does, and does not wait for it; as `command`."""
    kill: Callable[[int], str]
    """Sends SIGKILL to a process."""
    connect: Callable[[int], str]
    """Connects to a port of loopback, and writes `connected` as a line."""
    raw: str
    """Writes the bytes FF, 00, FE and a line's end to standard output."""
    runtime: str | None = None
    """The runtime, where it is not the language's default one."""
    syntax_error: str = "SyntaxError"
    """The name of the error of code that can't be parsed."""
    refusal: str = "allow_input"
    """What the error says of code that asks where nobody can be asked."""
    cannot: frozenset[str] = frozenset()
    """What it can't do: have an `environment` for one run, `refuse input` (code that asks goes on where
    nobody can be asked), `be interrupted` and keep its state, `speak last` (what it wrote just before its end
    may be lost), keep the `order` of what goes to standard output and to standard error, write `bytes`
    that are no text, `hand on` its standard output to what it starts at once, `unplug` what it has open."""

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return self.runtime or self.language


def create(client: CodeContextClient, dialect: Dialect, **options: Any) -> CodeContext:
    """Creates a context of the language."""
    return client.create_code_context(dialect.language, runtime=dialect.runtime, **options)


PYTHON = Dialect(
    language="python",
    aliases=("py", "python3", "Python"),
    say=lambda text: f"print('{text}')",
    complain=lambda text: f"import sys; print('{text}', file=sys.stderr)",
    keep=lambda name, text: f"{name} = '{text}'",
    tell=lambda name: f"print({name})",
    define="def greet(whom):\n    print('hello', whom)",
    greet=lambda whom: f"greet('{whom}')",
    fail="print('before')\n1 / 0",
    failure="ZeroDivisionError",
    broken="print('before')\n)",
    broken_line=2,
    endless="while True: pass",
    sleep="import time; time.sleep(60)",
    strict="import subprocess; subprocess.check_call(['sleep', '60'])",
    torrent="while True: print('x' * 60_000)",
    stubborn=(
        "import signal; _ = signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print('begun', flush=True)\nwhile True: pass"
    ),
    hold="held = bytearray(b'x') * (64 << 20)",
    hog="kept = []\nwhile True: kept.append(bytearray(b'x') * (1 << 20))",
    ask="print('hello ' + input('name? '))",
    variable=lambda name: f"import os; print(os.environ.get('{name}', ''))",
    where="import os; print(os.getcwd())",
    exit=lambda status: f"import os; os._exit({status})",
    daemon=(
        "import subprocess\n"
        "print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)"
    ),
    flood="for _ in range(1000): print('x' * 3999)",
    save=lambda path, text: f"_ = open('{path}', 'w').write('{text}')",
    load=lambda path: f"print(open('{path}').read(), end='')",
    breach=(
        "import os\nfor fd in map(int, os.listdir('/proc/self/fd')):\n"
        "    if fd > 2:\n        try: os.write(fd, b'garbage')\n        except OSError: pass"
    ),
    unplug="import os; os.closerange(3, 1 << 16)",
    lines="for number in range(1000): print(number)",
    pid="import os; print(os.getpid())",
    command=lambda command: (
        "import subprocess\n"
        f'print(subprocess.check_output(["sh", "-c", "{command}"], text=True), end="")'
    ),
    spawn=lambda command: f'import subprocess; _ = subprocess.Popen(["sh", "-c", "{command}"])',
    kill=lambda pid: f"import os; os.kill({pid}, 9)",
    connect=lambda port: (
        f"import socket; socket.create_connection(('127.0.0.1', {port}), 30).close(); "
        "print('connected')"
    ),
    raw=r"import sys; _ = sys.stdout.buffer.write(b'\xff\0\xfe\n')",
)

BASH = Dialect(
    language="bash",
    aliases=("sh", "shell", "BASH"),
    say=lambda text: f"echo '{text}'",
    complain=lambda text: f"echo '{text}' >&2",
    keep=lambda name, text: f"{name}='{text}'",
    tell=lambda name: f'echo "${name}"',
    define='greet() {\n  echo "hello $1"\n}',
    greet=lambda whom: f"greet '{whom}'",
    fail="echo before\n(exit 3)",
    failure="ExitStatus",
    broken="echo before\n)",
    broken_line=2,
    endless="while :; do :; done",
    sleep="sleep 60",
    strict="sleep 60 || return 7",
    torrent="line=$(printf 'x%.0s' {1..60000}); while :; do echo \"$line\"; done",
    stubborn="trap '' INT; echo begun; while :; do :; done",
    hold="printf -v held '%*s' $((64 << 20)) ''",
    hog="kept=xxxxxxxx; while :; do kept=$kept$kept; done",
    ask='read -r -p "name? " who && echo "hello $who"',
    variable=lambda name: f'echo "${{{name}-}}"',
    where="pwd",
    exit=lambda status: f"exit {status}",
    daemon="setsid sleep 60 </dev/null >/dev/null 2>&1 & echo $!",
    flood="line=$(printf 'x%.0s' {1..3999}); for i in {1..1000}; do echo \"$line\"; done",
    save=lambda path, text: f"printf %s '{text}' >'{path}'",
    load=lambda path: f"cat '{path}'",
    breach=(
        "for path in /proc/$$/fd/*; do\n  fd=${path##*/}\n"
        '  if ((fd > 2)); then eval "echo garbage >&$fd" 2>/dev/null; fi\ndone'
    ),
    unplug=(
        "for path in /proc/$$/fd/*; do\n  fd=${path##*/}\n"
        '  if ((fd > 2)); then eval "exec $fd>&-" 2>/dev/null; fi\ndone'
    ),
    lines="for ((number = 0; number < 1000; number++)); do echo $number; done",
    pid="echo $$",
    command=lambda command: f"sh -c '{command}'",
    spawn=lambda command: f"sh -c '{command}' &",
    kill=lambda pid: f"kill -KILL {pid}",
    connect=lambda port: f": <>/dev/tcp/127.0.0.1/{port} && echo connected",
    raw=r"printf '\377\0\376\n'",
    cannot=frozenset({"order"}),
)

JAVASCRIPT = Dialect(
    language="javascript",
    aliases=("js", "node", "nodejs"),
    say=lambda text: f"console.log('{text}')",
    complain=lambda text: f"console.error('{text}')",
    keep=lambda name, text: f"var {name} = '{text}'",
    tell=lambda name: f"console.log({name})",
    define="function greet(whom) {\n  console.log('hello', whom)\n}",
    greet=lambda whom: f"greet('{whom}')",
    fail="console.log('before')\nnull.x",
    failure="TypeError",
    broken="console.log('before')\n)",
    broken_line=2,
    endless="while (true) {}",
    sleep="require('child_process').execSync('sleep 60')",
    strict=(
        "try { require('child_process').execSync('sleep 60') } "
        "catch (error) { throw new Error('it failed') }"
    ),
    torrent="while (true) process.stdout.write('x'.repeat(60_000))",
    stubborn=(
        "require('child_process').execSync("
        """\"trap '' INT; echo begun; exec sleep 600\", { stdio: 'inherit' })"""
    ),
    hold="globalThis.held = Buffer.alloc(64 << 20, 1); undefined",
    hog="const hoard = []; while (true) hoard.push(new Array(1 << 17).fill(1.5))",
    ask="console.log('hello ' + prompt('name? '))",
    variable=lambda name: f"console.log(process.env['{name}'] ?? '')",
    where="console.log(process.cwd())",
    exit=lambda status: f"process.exit({status})",
    daemon=(
        "console.log(require('child_process').spawn('sleep', ['60'], "
        "{ detached: true, stdio: 'ignore' }).pid)"
    ),
    flood="for (let n = 0; n < 1000; n++) console.log('x'.repeat(3999))",
    save=lambda path, text: f"require('fs').writeFileSync('{path}', '{text}')",
    load=lambda path: f"process.stdout.write(require('fs').readFileSync('{path}')); undefined",
    breach=(
        "for (const fd of require('fs').readdirSync('/proc/self/fd'))\n"
        "  if (fd > 2) try { require('fs').writeSync(Number(fd), 'garbage') } catch {}"
    ),
    unplug=(
        "for (const fd of require('fs').readdirSync('/proc/self/fd'))\n"
        "  if (fd > 2) try { require('fs').closeSync(Number(fd)) } catch {}"
    ),
    lines="for (let n = 0; n < 1000; n++) console.log(n)",
    pid="console.log(process.pid)",
    command=lambda command: (
        f'process.stdout.write(require("child_process").execSync("{command}")); undefined'
    ),
    spawn=lambda command: (
        f'require("child_process").spawn("sh", ["-c", "{command}"], {{ stdio: "inherit" }}); undefined'
    ),
    kill=lambda pid: f"process.kill({pid}, 'SIGKILL')",
    connect=lambda port: (
        "await new Promise((done, fail) => "
        f"require('net').connect({port}, '127.0.0.1', done).on('error', fail));\n"
        "console.log('connected')"
    ),
    raw="process.stdout.write(Buffer.from([255, 0, 254, 10])); undefined",
)

TYPESCRIPT = replace(JAVASCRIPT, language="typescript", aliases=("ts", "TS"))

IPYKERNEL = replace(
    PYTHON,
    aliases=(),
    runtime="jupyter-python3",
    refusal="StdinNotImplementedError",
    cannot=frozenset({"environment", "speak last", "order", "bytes", "hand on"}),
)

DENO = replace(
    TYPESCRIPT,
    aliases=(),
    runtime="jupyter-deno",
    keep=lambda name, text: f"globalThis.{name} = '{text}'",
    tell=lambda name: f"console.log(globalThis.{name})",
    variable=lambda name: f"console.log(Deno.env.get('{name}') ?? '')",
    where="console.log(Deno.cwd())",
    exit=lambda status: f"Deno.exit({status})",
    sleep="new Deno.Command('sleep', { args: ['60'] }).outputSync()",
    strict=(
        "if (!new Deno.Command('sleep', { args: ['60'] }).outputSync().success) "
        "throw new Error('it failed')"
    ),
    daemon=(
        "console.log(new Deno.Command('setsid', "
        "{ args: ['sleep', '60'], stdin: 'null', stdout: 'null', stderr: 'null' }).spawn().pid)"
    ),
    save=lambda path, text: f"Deno.writeTextFileSync('{path}', '{text}')",
    load=lambda path: f"console.log(Deno.readTextFileSync('{path}'))",
    breach=(
        "for (const fd of Deno.readDirSync('/proc/self/fd'))\n"
        "  if (fd.name > 2) try { Deno.writeTextFileSync('/proc/self/fd/' + fd.name, 'garbage') } catch {}"
    ),
    stubborn=("Deno.addSignalListener('SIGINT', () => {}); console.log('begun'); while (true) {}"),
    hold="globalThis.held = new Uint8Array(64 << 20).fill(1); undefined",
    kill=lambda pid: f"Deno.kill({pid}, 'SIGKILL')",
    connect=lambda port: (
        f"(await Deno.connect({{ port: {port} }})).close(); console.log('connected')"
    ),
    pid="console.log(Deno.pid)",
    command=lambda command: (
        f'const done = new Deno.Command("sh", {{ args: ["-c", "{command}"] }}).outputSync();\n'
        "if (!done.success) throw new Error('it failed');\n"
        "console.log(new TextDecoder().decode(done.stdout).trimEnd())"
    ),
    syntax_error="Error",
    broken_line=None,
    cannot=frozenset(
        {
            *("environment", "refuse input", "be interrupted", "speak last", "order", "bytes"),
            *("hand on", "unplug"),
        }
    ),
)

NATIVE = (PYTHON, BASH, JAVASCRIPT, TYPESCRIPT)
DIALECTS = (*NATIVE, IPYKERNEL, DENO)

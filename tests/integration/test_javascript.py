"""What is JavaScript's own, beside what holds for every language."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import workspace_of
from support.servers import ServerProcess

from codecontext import (
    CodeContext,
    CodeContextClient,
    CodeContextError,
    Execution,
    ForkUnsupportedError,
    ResourceLimits,
)


@pytest.fixture
def context(client: CodeContextClient) -> Iterator[CodeContext]:
    """A fresh JavaScript context."""
    each = client.create_code_context("javascript")
    yield each
    client.delete_code_context(each, force=True)


@pytest.fixture
def run(client: CodeContextClient, context: CodeContext):
    """Runs code in the context."""

    def run(code: str, **options: object) -> Execution:
        return client.run_code(code, context=context, **{"timeout": 30, **options})

    return run


def test_names_persist_and_may_be_declared_again(run) -> None:
    """Constants, variables, classes and functions stay from run to run, and each may be declared anew."""
    run("const a = 1; let b = 2; class C { d = 3 } function f() { return a + b }")
    assert run("f() + new C().d").text == "6"
    assert run("const a = 10; let b = 20; class C { d = 30 } a + b + new C().d").text == "60"


def test_await_at_the_top_and_promises_as_results(run) -> None:
    """`await` may stand anywhere, and a promise as the last expression is awaited."""
    assert run("await Promise.resolve(20) + 1").text == "21"
    assert run("Promise.resolve(22)").text == "22"
    rejected = run("Promise.reject(new RangeError('no'))")
    assert (rejected.outcome, rejected.error.name) == ("RAISED", "RangeError")


def test_modules_load_from_the_working_directory(run) -> None:
    """`require`, `import()` and import statements find files beside the code, and names that lack are told."""
    run("require('fs').writeFileSync('one.mjs', 'export default 1; export const two = 2')")
    run("require('fs').writeFileSync('three.js', 'module.exports = 3')")
    code = "import one, { two } from './one.mjs';\nimport * as all from './one.mjs';\n"
    assert run(code + "[one, two, all.two, require('./three.js')]").results[0].json == [1, 2, 2, 3]
    assert run("(await import('./one.mjs')).two").text == "2"
    missing = run("\nimport { four } from './one.mjs'")
    assert (missing.error.name, missing.error.line_number) == ("SyntaxError", 2)


def test_output_and_displays_come_in_order(run, client: CodeContextClient) -> None:
    """The console, the process's streams and displays come in the order in which the code made them."""
    done = run(
        "console.log('a'); process.stdout.write('b\\n'); display({x: 1}); console.error('c'); 4"
    )
    assert (done.stdout, done.stderr) == ("a\nb\n", "c\n")
    assert [result.text for result in done.results] == ["{ x: 1 }", "4"]
    made = b"".join(
        each.stdout
        or each.stderr
        or b"".join(
            part.text.encode() for part in each.result.parts if part.mime_type == "text/plain"
        )
        for each in client.watch_execution(done.execution_id)
    )
    assert made == b"a\nb\n{ x: 1 }c\n4"


def test_imports_for_effect_and_of_json(run) -> None:
    """An import without names runs its module, once, and one of JSON gives its value."""
    run(
        "require('fs').writeFileSync('effect.mjs', 'globalThis.effects = (globalThis.effects ?? 0) + 1')"
    )
    run("require('fs').writeFileSync('data.json', '{\"a\": [1]}')")
    code = "import './effect.mjs'; import './effect.mjs';\n"
    code += "import data from './data.json' with { type: 'json' };\n[effects, data.a]"
    assert run(code).results[0].json == [1, [1]]
    assert run("import './effect.mjs'; effects").text == "1"
    dynamic = "(await import('./data.json', { with: { type: 'json' } })).default.a[0]"
    assert run(dynamic).text == "1"


def test_output_of_a_timer_comes_late(run, client: CodeContextClient, context: CodeContext) -> None:
    """What a timer writes after its run has ended comes with the next one, marked as late."""
    run("require('child_process').execSync('mkfifo gate told')")
    ended = run(
        "setTimeout(() => require('fs').readFile('gate', () => {\n"
        "  console.log('late'); require('fs').writeFileSync('told', '');\n"
        "}), 0); 1"
    )
    assert (ended.text, ended.stdout) == ("1", "")
    other = client.create_code_context("bash", sandbox_id=context.sandbox_id)
    client.run_code("echo >gate; read x <told", context=other)
    client.delete_code_context(other)
    events = list(client.run_code_stream("console.log('now')", context=context))
    shown = [(each.stdout, each.late) for each in events if each.stdout]
    assert shown == [(b"late\n", True), (b"now\n", False)]


def test_errors_name_the_line(run) -> None:
    """What is thrown, and what can't be parsed, tells its line in the cell and none of our own frames."""
    raised = run("function f() {\n  throw new TypeError('no')\n}\n\nf()")
    assert (raised.error.name, raised.error.value, raised.error.line_number) == (
        "TypeError",
        "no",
        2,
    )
    assert "workers/node" not in "\n".join(raised.error.traceback)
    unparsed = run("let a = 1\nlet b = ;")
    assert (unparsed.outcome, unparsed.error.name) == ("RAISED", "SyntaxError")
    assert unparsed.error.line_number == 2


def test_what_nobody_catches_is_reported(run) -> None:
    """Errors in timers and rejections that nobody handles go to stderr, and the context goes on."""
    done = run(
        "setTimeout(() => { throw new Error('one') }, 1); Promise.reject(new Error('two'));"
        "await new Promise((resolve) => setTimeout(resolve, 50)); 3"
    )
    assert done.outcome == "SUCCEEDED"
    assert "one" in done.stderr
    assert "two" in done.stderr
    assert run("1 + 1").text == "2"


@pytest.mark.parametrize("language", ["javascript", "typescript"])
def test_what_nobody_catches_between_runs_comes_late(
    client: CodeContextClient, language: str
) -> None:
    """Errors and rejections between two runs come with the next one, as late, and the context goes on."""
    context = client.create_code_context(language)
    code = (
        "const fs = require('fs'); const kept = 7;\n"
        "require('child_process').execSync('mkfifo go told');\n"
        "fs.readFile('go', () => {\n"
        "  setImmediate(() => fs.writeFile('told', '', () => {}));\n"
        "  Promise.reject(new RangeError('two'));\n"
        "  throw new Error('one');\n"
        "});"
    )
    assert client.run_code(code, context=context).outcome == "SUCCEEDED"
    (workspace_of(context) / "go").write_text("")
    (workspace_of(context) / "told").read_text()  # both have happened by now
    events = list(client.run_code_stream("console.error('now'); kept", context=context))
    told = b"".join(event.stderr for event in events if event.late).decode()
    assert "Uncaught Error: one\n    at" in told
    assert "<cell-1>:6:9" in told
    assert "Uncaught RangeError: two\n" in told
    assert b"".join(event.stderr for event in events if not event.late) == b"now\n"
    assert client.get_execution(events[0].execution_id).text == "7"
    client.delete_code_context(context)


@pytest.mark.parametrize(
    "code",
    [
        "while (true) {}",
        "await 1; while (true) {}",
        "await new Promise(() => {})",
        "setInterval(() => {}, 10); await new Promise(() => {})",
        "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
        "require('child_process').execSync('sleep 60')",
        "const { execSync } = require('child_process'); while (true) try { execSync('sleep 60') } catch {}",
    ],
)
def test_what_never_ends_is_stopped_and_the_state_stays(run, code: str) -> None:
    """Loops, waits and child processes are interrupted; the context keeps its state, and later runs."""
    run("const kept = 7")
    stopped = run(code, timeout=0.3)
    assert (stopped.outcome, stopped.state_kept) == ("TIMED_OUT", True)
    assert [run("kept").text for _ in range(3)] == ["7"] * 3


def test_a_signal_of_its_own_is_no_interrupt(run) -> None:
    """SIGINT that nobody ordered, such as one that the code sends, stops neither this run nor the next one."""
    signalled = run(
        "for (let n = 0; n < 20; n++) process.kill(process.pid, 'SIGINT');"
        "await new Promise((resolve) => setTimeout(resolve, 20)); 1 + 1"
    )
    assert (signalled.outcome, signalled.text) == ("SUCCEEDED", "2")
    assert run("for (const end = Date.now() + 50; Date.now() < end;) {} 3").text == "3"


def test_memory_is_limited_for_the_context_alone(run) -> None:
    """V8 gives up no earlier than the machine does: what ends a run for want of memory is its context."""
    limit = int(run("require('v8').getHeapStatistics().heap_size_limit").text)
    mib = 1 << 20
    assert limit // mib >= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // mib


def test_limits_on_files(client: CodeContextClient) -> None:
    """A file past the limit on its size, or one more than may be open, is an error of the code; state stays."""
    limits = ResourceLimits(open_files=100, file_size_bytes=1 << 20)
    context = client.create_code_context("javascript", resource_limits=limits)

    def error(code: str) -> str:
        failed = client.run_code(code, context=context, timeout=30)
        assert (failed.outcome, failed.state_kept) == ("RAISED", True)
        return failed.error.value

    assert "EFBIG" in error("require('fs').writeFileSync('large', Buffer.alloc(2 << 20))")
    head = "head -c 2M /dev/zero >larger"
    assert head in error(f"require('child_process').execSync('{head}')")
    sizes = "[require('fs').statSync('large').size, require('fs').statSync('larger').size]"
    assert client.run_code(sizes, context=context).results[0].json == [1 << 20, 1 << 20]
    assert "EMFILE" in error("for (;;) require('fs').openSync('/dev/null')")
    client.delete_code_context(context)


def test_values_show_themselves(run) -> None:
    """Objects come as JSON and as text, images as images, tables as HTML; cycles and BigInt as text."""
    assert run("({ a: [1, { b: 2 }] })").results[0].json == {"a": [1, {"b": 2}]}
    assert run("const c = {}; c.c = c; c").results[0].json is None
    assert run("[1n, new Map([[1, 2]])]").text == "[ 1n, Map(1) { 1 => 2 } ]"
    assert run("Buffer.from('89504e470d0a1a0a00', 'hex')").results[0].png == bytes.fromhex(
        "89504e470d0a1a0a00"
    )
    assert run("display.html('<b>1</b>')").results[0].html == "<b>1</b>"


@pytest.mark.parametrize("kind", ["Buffer.from(bytes)", "new Uint8Array(bytes)"])
@pytest.mark.parametrize(
    ("start", "mime"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"GIF89a\1\0\1\0", "image/gif"),
        (b"RIFF\x1a\0\0\0WEBPVP8L", "image/webp"),
        (b"RIFF\x1a\0\0\0WAVEfmt ", None),
    ],
)
def test_images_are_results(run, start: bytes, mime: str | None, kind: str) -> None:
    """Bytes that begin as an image are one, beside their text, and others are text alone."""
    shown = run(f"const bytes = Buffer.from('{start.hex()}', 'hex'); {kind}").results[0]
    assert shown.data.keys() == {"text/plain"} | ({mime} if mime else set())
    if mime:
        assert shown.data[mime] == start


def table(head: list[object], *rows: list[object]) -> str:
    """A table as HTML, where the first cell of each row names it."""
    titles = "".join(f"<th>{each}</th>" for each in head)
    body = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{each}</td>' for each in cells)}</tr>"
        for name, *cells in rows
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


@pytest.mark.parametrize(
    ("value", "html"),
    [
        ("[{ a: 1, b: '<' }, { a: 2 }]", table(["", "a", "b"], [0, 1, "&lt;"], [1, 2, ""])),
        ("[{ a: 1, b: 2 }], ['b']", table(["", "b"], [0, 2])),
        ("[[1, 2], [3]]", table(["", 0, 1], [0, 1, 2], [1, 3, ""])),
        ("({ x: { n: 1 }, y: 5 })", table(["", "n", "Values"], ["x", 1, ""], ["y", "", 5])),
        ("new Map([['k', 1]])", table(["Key", "Values"], ["k", 1])),
        ("new Set(['s'])", table(["", "Values"], [0, "s"])),
        ("[{ deep: { er: { n: 1 } } }]", table(["", "deep"], [0, "{ er: [Object] }"])),
    ],
)
def test_tables(run, value: str, html: str) -> None:
    """`console.table` is a display, as HTML and as the text that it would write."""
    done = run(f"console.table({value})")
    (shown,) = done.results
    assert (shown.html, shown.is_main_result, done.stdout) == (html, False, "")
    assert shown.text.startswith("┌")
    assert "\n│ " in shown.text


@pytest.mark.parametrize("value", ["5", "Array(2000).fill({ a: 1 })"])
def test_what_is_no_table_is_text(run, value: str) -> None:
    """What `console.table` can't show as a table, or is too large for one, is written as text."""
    done = run(f"console.table({value})")
    assert (done.outcome, done.results) == ("SUCCEEDED", [])
    assert done.stdout.startswith("5\n" if value == "5" else "┌")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("new Date(0)", "1970-01-01T00:00:00.000Z"),
        ("new Float64Array(3)", "Float64Array(3) [ 0, 0, 0 ]"),
        ("[Symbol('s'), -0, NaN]", "[ Symbol(s), -0, NaN ]"),
        ("({ get a() { throw new Error('no') } })", "{ a: [Getter] }"),
        ("({ toJSON() { throw new Error('no') } })", "{ toJSON: [Function: toJSON] }"),
        ("new Proxy({}, { get() { throw new Error('no') } })", "{}"),
        ("Array.from({ length: 200000 }, (_, n) => ({ n }))", "[\n  { n: 0 },"),
        ("let deep = {}; for (let n = 0; n < 100000; n++) deep = { deep }; deep", "{\n  deep: {"),
    ],
)
def test_any_value_is_a_result(run, code: str, text: str) -> None:
    """Values that JSON can't tell, that raise when they are looked at, or are huge or deep, come as text."""
    done = run(code)
    assert (done.outcome, done.results[0].is_main_result) == ("SUCCEEDED", True)
    assert done.results[0].text.startswith(text)


@pytest.mark.parametrize(
    ("shown", "data"),
    [
        ("display('a')", {"text/plain": "'a'"}),
        ("display(null)", {"text/plain": "null"}),
        ("display([1])", {"text/plain": "[ 1 ]", "application/json": "[1]"}),
        ("display.html('<b>')", {"text/html": "<b>"}),
        ("display.markdown('**m**')", {"text/markdown": "**m**"}),
        ("display.latex('$x$')", {"text/latex": "$x$"}),
        ("display.svg('<svg/>')", {"image/svg+xml": "<svg/>"}),
        ("display.json({ a: [1] })", {"application/json": '{"a":[1]}'}),
        ("display({ 'image/png': Buffer.from([1, 2]) })", {"image/png": b"\1\2"}),
        ("display({ 'image/png': 'AQI=' })", {"image/png": b"\1\2"}),
        (
            "display({ 'text/x-own': 'one', 'application/x+json': [2] })",
            {"text/x-own": "one", "application/x+json": "[2]"},
        ),
    ],
)
def test_what_display_takes(run, shown: str, data: dict[str, object]) -> None:
    """`display` shows any value, MIME types by their names, and one of its short forms each; with metadata."""
    (result,) = run(shown.removesuffix(")") + ", { metadata: { width: 5 } })").results
    assert (result.data, result.metadata, result.is_main_result) == (data, {"width": 5}, False)


def test_displays(run) -> None:
    """`display` takes a bundle, changes what it has shown, and objects show themselves by their own method."""
    bundle = run("display({ 'text/html': '<i>1</i>', 'text/plain': 'one' })").results[0]
    assert (bundle.html, bundle.text, bundle.is_main_result) == ("<i>1</i>", "one", False)
    changed = run("display(1, { id: 'n' }); display(2, { id: 'n', update: true })").results
    assert [each.text for each in changed] == ["2"]
    shown = run("({ [Symbol.for('Jupyter.display')]: () => ({ 'text/markdown': '**m**' }) })")
    assert shown.results[0].markdown == "**m**"


def test_input(run) -> None:
    """`prompt` and readline ask for lines; without `allow_input` they raise at once."""
    refused = run("prompt('name? ')")
    assert (refused.outcome, refused.error.name) == ("RAISED", "InputNotAllowedError")
    asked = run(
        "prompt('name? ')", allow_input=True, on_input=lambda prompt, password: f"<{prompt}>"
    )
    assert asked.text == "'<name? >'"
    reading = (
        "const { createInterface } = require('readline/promises');\n"
        "const lines = createInterface({ input: process.stdin });\n"
        "const first = await lines.question('');\n"
        "first"
    )
    refused = run(reading)
    assert (refused.outcome, refused.error.name) == ("RAISED", "InputNotAllowedError")
    assert run(reading, on_input=lambda *_: "a line").text == "'a line'"
    chunk = "await new Promise((resolve) => process.stdin.once('data', resolve))"
    assert run(chunk, on_input=lambda *_: "more").text == "'more\\n'"


def test_an_end_of_input_is_that_of_one_run(run) -> None:
    """Who answers that the input ends, ends that of this run alone: the next one reads on."""
    ends = "await new Promise((resolve) => process.stdin.on('data', () => {}).on('end', resolve)); 'over'"
    chunk = "await new Promise((resolve) => process.stdin.once('data', resolve))"

    def end(prompt: str, password: bool) -> str:
        raise EOFError

    assert run(ends, on_input=end).text == "'over'"
    assert run(chunk, on_input=lambda *_: "more").text == "'more\\n'"


def test_an_error_that_can_not_be_shown_ends_nothing(run) -> None:
    """An error that nobody catches and whose own text fails is reported, and the context lives."""
    unshown = "{ [Symbol.for('nodejs.util.inspect.custom')]() { throw new Error('no text') } }"
    code = f"setImmediate(() => {{ throw {unshown} }}); await new Promise((go) => setTimeout(go, 50)); 1"
    execution = run(code)
    assert (execution.outcome, execution.text) == ("SUCCEEDED", "1")
    assert "could not be made" in execution.stderr
    assert run("2").text == "2"


@pytest.mark.parametrize(
    "thrown",
    [
        "{ constructor: { name: Symbol('s') } }",
        "Object.assign(new Error(), { name: Symbol('s') })",
        "Object.defineProperty(new Error(), 'message', { value: { toString() { throw 1 } } })",
        "new Proxy({}, { get() { throw new Error('no') } })",
    ],
)
def test_whatever_is_thrown_is_told_of(run, thrown: str) -> None:
    """Nothing that the code throws ends the interpreter, or keeps the run from ending."""
    raised = run(f"throw {thrown}")
    assert (raised.outcome, raised.state_kept) == ("RAISED", True)
    assert raised.error is not None
    assert run("1").text == "1"


@pytest.mark.parametrize(
    "sabotage",
    [
        "Array.prototype.push = null",
        "Array.prototype[Symbol.iterator] = null",
        "Buffer.from = null",
        "Buffer.prototype.subarray = null",
        "String.prototype.split = null",
        "require('util').types.isPromise = null",
    ],
)
def test_an_interpreter_that_is_sabotaged_says_what_failed(
    run, client: CodeContextClient, context: CodeContext, sabotage: str
) -> None:
    """Where code takes away what the interpreter needs a run is CRASHED, stderr tells why, and none hangs."""
    execution = run(f"{sabotage}; 0")
    if execution.state_kept:
        execution = run("throw new Error('next')")
    assert execution.outcome == "CRASHED"
    assert "the interpreter failed: TypeError" in execution.stderr
    client.restart_code_context(context)
    assert run("1").text == "1"


def test_a_node_of_ones_own(tmp_path: Path) -> None:
    """A runtime may name another Node, which then runs its code."""
    node = shutil.which("node")
    if node is None and os.environ.get("CI") != "true":
        pytest.skip("this machine has no Node of its own")
    assert node is not None
    file = tmp_path / "config.toml"
    file.write_text(
        "[runtimes.python]\npreload = []\npool_size = 1\n"
        f"[runtimes.own]\nlanguage = 'javascript'\npool_size = 0\ninterpreter = '{node}'\n"
    )
    version = subprocess.check_output([node, "--version"], text=True).strip()
    with (
        ServerProcess(tmp_path / "state", "--config", str(file)) as server,
        CodeContextClient(server.target) as client,
    ):
        runtimes = {each.name: each for each in client.get_server_info().runtimes}
        assert runtimes["own"].version == version.removeprefix("v")
        context = client.create_code_context(runtime="own")
        assert client.run_code("process.version", context=context).text == f"'{version}'"
        assert client.run_code("while (true) {}", context=context, timeout=0.3).state_kept
        assert client.run_code("await 6 * 7", context=context).text == "42"
        client.delete_code_context(context)


def test_what_javascript_can_not_do(client: CodeContextClient, context: CodeContext) -> None:
    """Completions, inspections and forks are refused with a reason, and GetServerInfo lists none of them."""
    (info,) = (each for each in client.get_server_info().runtimes if each.name == "javascript")
    assert set(info.capabilities) == {"interrupt", "input", "environment"}
    for ask in (client.complete_code, client.inspect_code):
        with pytest.raises(CodeContextError, match="javascript contexts can't") as caught:
            ask(context, "cons", 4)
        assert caught.value.reason == "NOT_IMPLEMENTED"
    with pytest.raises(ForkUnsupportedError):
        client.fork_code_context(context)


def test_an_exit_is_a_crash_with_its_status(run) -> None:
    """`process.exit` ends the context, and its status is told."""
    ended = run("process.exit(3)")
    assert (ended.outcome, ended.state_kept) == ("CRASHED", False)
    assert "3" in ended.outcome_message


def test_many_lines(run) -> None:
    """100,000 lines arrive whole."""
    done = run("for (let i = 0; i < 100000; i++) console.log(i)")
    assert done.stdout == "".join(f"{number}\n" for number in range(100_000))


@pytest.mark.parametrize("taken", ["process.env", "JSON.stringify", "globalThis.Promise"])
def test_what_the_worker_has_taken_before_the_code_replaces_it_stays(run, taken: str) -> None:
    """Code that takes away what runs stand on has later runs go on all the same."""
    run(f"{taken} = null; 0", env_vars={"SHOWN": "1"})
    assert run("({a: await 1})").text == "{ a: 1 }"
    assert run("throw new Error('told')").error.value == "told"

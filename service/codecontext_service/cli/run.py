"""`run`: runs a file, a piece of code, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from codecontext_service.cli import exits
from codecontext_service.cli.failures import connected, refuse
from codecontext_service.cli.interrupts import cleanup_on_termination
from codecontext_service.cli.options import (
    CLIENT_DEFAULTS,
    LANGUAGE,
    NAME_VALUE,
    PATH_OR_STREAM,
    ClientOptions,
    duration,
    pairs,
)
from codecontext_service.cli.printers import JsonPrinter, Printer, TextPrinter
from codecontext_service.cli.results import ImageFiles
from codecontext_service.cli.running import RunOptions, own_context, run_shown

_ABANDONED_S = 60.0
"""When the service deletes our context if this program was killed before it could."""

_SUFFIXES = {
    "javascript": (".js", ".mjs", ".cjs"),
    "typescript": (".ts", ".mts", ".cts"),
    "bash": (".sh", ".bash"),
}
_LANGUAGES = {suffix: language for language, suffixes in _SUFFIXES.items() for suffix in suffixes}


def run(
    file: Annotated[str | None, PATH_OR_STREAM] = None,
    /,
    *,
    code: Annotated[str | None, Parameter(name=("-c", "--code"), allow_leading_hyphen=True)] = None,
    context: str | None = None,
    language: Annotated[str | None, LANGUAGE] = None,
    runtime: str | None = None,
    timeout: str | None = None,
    env: Annotated[list[str] | None, NAME_VALUE] = None,
    cwd: str | None = None,
    label: Annotated[list[str] | None, NAME_VALUE] = None,
    images: Path | None = None,
    client: ClientOptions = CLIENT_DEFAULTS,
) -> int:
    """Run code and show its output while it is written.

    It runs in a fresh context that is deleted at the end, or in the one that --context names.
    Output goes to standard output and standard error, the value of the last expression to standard
    output, an error's traceback to standard error. What the code reads with `input()` comes from
    standard input, unless the code itself does. Ctrl-C interrupts the code; a second one gives up.

    Exit status: 0 the code succeeded; 1 it raised, crashed, ran out of memory or was interrupted by
    someone else; 2 wrong usage; 3 the service failed or ended the run; 124 the timeout passed; 130
    Ctrl-C.

    With --json each event is one line of JSON on standard output: `event` (`started`, `stdout`,
    `stderr`, `result`, `error`, …, at last `completed`), `sequence`, `time`, and its fields; images
    are base64.

    Args:
        file: The file to run; `-` is standard input, which is also taken if nothing else is given.
        code: Run this instead of a file.
        context: Run in this context, by id, and leave it there.
        language: Language of the fresh context; by default that of the file's name, else `python`.
        runtime: Runtime of the fresh context, by name.
        timeout: End the run after this long: seconds, or 10m, 1h.
        env: An environment variable for the run; may be given several times.
        cwd: Working directory of the fresh context: absolute, and there on the server.
        label: A label of the fresh context; may be given several times.
        images: Save images into this directory as `image-1.png`, ….
        client: How to reach the server.
    """
    if context is not None and (language or runtime or cwd or label):
        refuse(
            "--language, --runtime, --cwd and --label are for a fresh context, not for --context"
        )
    if language and runtime:
        refuse("give either --language or --runtime: a runtime has a language")
    labels = pairs(label, "--label")
    timeout_s = duration(timeout, "--timeout")
    options = RunOptions(
        env_vars=pairs(env, "--env"),
        timeout=timeout_s,
        allow_input=code is not None or file not in (None, "-"),
    )
    text = _read(file, code)
    if not language and not runtime and code is None and file:
        language = _LANGUAGES.get(Path(file).suffix)
    files = ImageFiles(images)
    printer: Printer = JsonPrinter() if client.json else TextPrinter(files)
    with connected(client) as connection, cleanup_on_termination():
        if context is not None:
            status = run_shown(connection, context, text, printer, options).status
        else:
            with own_context(
                connection,
                language=language,
                runtime=runtime,
                cwd=cwd,
                labels=labels,
                idle_timeout=_ABANDONED_S,
            ) as fresh:
                status = run_shown(connection, fresh, text, printer, options).status
    return exits.USAGE if status == exits.OK and files.failed else status


def _read(file: str | None, code: str | None) -> str:
    if code is not None:
        if file is not None:
            refuse("give either a file or -c CODE")
        return code
    if file is None and sys.stdin.isatty():
        refuse("give a file, -c CODE, or - for standard input; `codecontext repl` is interactive")
    try:
        data = sys.stdin.buffer.read() if file in (None, "-") else Path(str(file)).read_bytes()
    except OSError as error:
        refuse(f"{file}: {error.strerror}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        refuse(f"{file or '-'}: is no UTF-8: byte {error.start}")

"""`repl`: works with a context interactively."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from codecontext_service.cli import exits
from codecontext_service.cli.failures import connected, refuse, report, say
from codecontext_service.cli.interrupts import Interrupts, cleanup_on_termination, put_off
from codecontext_service.cli.options import (
    CLIENT_DEFAULTS,
    LANGUAGE,
    NAME_VALUE,
    ClientOptions,
    duration,
    pairs,
)
from codecontext_service.cli.printers import TextPrinter
from codecontext_service.cli.results import ImageFiles
from codecontext_service.cli.running import RunOptions, own_context, run_shown

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

    from codecontext import CodeContext, CodeContextClient

_HELP = """\
Enter runs what is complete; Alt-Enter (or Esc, Enter) starts a new line; Tab completes.
Ctrl-C stops what runs, and keeps the state; Ctrl-D leaves.
:restart  gives the context a fresh interpreter
:help     shows this
:quit     leaves"""


def repl(
    *,
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
    """Work with a context interactively: multi-line editing, history, completion.

    It works in a fresh context that is deleted at the end, or in the one that --context names.
    Ctrl-C stops what runs, and keeps the state; Ctrl-D leaves. The history is kept in
    $XDG_STATE_HOME/codecontext.

    Args:
        context: Work in this context, by id, and leave it there.
        language: Language of the fresh context; `python` by default.
        runtime: Runtime of the fresh context, by name.
        timeout: End each run after this long: seconds, or 10m, 1h.
        env: An environment variable for each run; may be given several times.
        cwd: Working directory of the fresh context: absolute, and there on the server.
        label: A label of the fresh context; may be given several times.
        images: Save images into this directory as `image-1.png`, ….
        client: How to reach the server.
    """
    if client.json:
        refuse("--json: a person talks here; programs take `codecontext run --json`")
    if not sys.stdin.isatty():
        refuse("standard input is no terminal; take `codecontext run -`")
    if context is not None and (language or runtime or cwd or label):
        refuse(
            "--language, --runtime, --cwd and --label are for a fresh context, not for --context"
        )
    if language and runtime:
        refuse("give either --language or --runtime: a runtime has a language")
    labels = pairs(label, "--label")
    options = RunOptions(
        env_vars=pairs(env, "--env"), timeout=duration(timeout, "--timeout"), allow_input=True
    )
    printer = TextPrinter(ImageFiles(images), prompt="Out[{}]: ")
    with connected(client) as connection, cleanup_on_termination():
        if context is not None:
            return _Repl(connection, client, context, printer, options).loop()
        with own_context(
            connection, language=language, runtime=runtime, cwd=cwd, labels=labels
        ) as fresh:
            return _Repl(connection, client, fresh, printer, options).loop()


class _Repl:
    def __init__(
        self,
        client: CodeContextClient,
        client_options: ClientOptions,
        context_id: str,
        printer: TextPrinter,
        options: RunOptions,
    ) -> None:
        self._client = client
        self._client_options = client_options
        self._printer = printer
        self._options = options
        with put_off():
            self._context: CodeContext = client.get_code_context(context_id)
        self._session: PromptSession[str] = self._make_session()

    def loop(self) -> int:
        """Reads and runs until the person leaves; returns the exit status."""
        from codecontext import CodeContextError, ContextNotFoundError

        sys.stdout.write(f"{self._context.runtime} · {self._context.id} · :help\n")
        number = self._context.execution_count + 1
        while True:
            try:
                code = self._session.prompt(f"In [{number}]: ").rstrip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return exits.OK
            command = code.strip()
            if command == ":quit" or (
                self._context.language == "python"
                and command in ("exit", "quit", "exit()", "quit()")
            ):
                return exits.OK
            try:
                if command == ":help":
                    sys.stdout.write(_HELP + "\n")
                elif command == ":restart":
                    with Interrupts(lambda: None), put_off():
                        self._client.restart_code_context(self._context.id)
                    number = 1
                elif command:
                    self._run(code)
                    number += 1
            except ContextNotFoundError as error:
                report(error, self._client_options)
                return exits.SERVICE_FAILED
            except CodeContextError as error:
                report(error, self._client_options)

    def _run(self, code: str) -> None:
        try:
            end = run_shown(self._client, self._context.id, code, self._printer, self._options)
        except KeyboardInterrupt:
            say("given up; the service ends the run")
            return
        finally:
            self._printer.end_line()
        if not end.state_kept:
            say(":restart gives the context a fresh interpreter")

    def _make_session(self) -> PromptSession[str]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import ThreadedCompleter

        from codecontext_service.cli.editing import (
            RemoteCompleter,
            continuation_prompt,
            key_bindings,
            open_history,
        )

        return PromptSession(
            multiline=True,
            history=open_history(os.environ),
            completer=ThreadedCompleter(RemoteCompleter(self._client, self._context.id)),
            complete_while_typing=False,
            key_bindings=key_bindings(self._context.language),
            prompt_continuation=continuation_prompt,
            enable_open_in_editor=True,
        )

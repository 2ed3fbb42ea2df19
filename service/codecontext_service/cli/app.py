"""The entry point of `codecontext`: picks the command, and loads nothing of the others."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from codecontext_service.cli import exits
from codecontext_service.cli.failures import say

_HELP = """Run code for other programs in live interpreter contexts.

Commands that talk to a server take `--target HOST:PORT` (or CODECONTEXT_TARGET) and `--json`.

Exit status: 0 success; 1 the code that was run failed; 2 wrong usage or configuration; 3 the
service failed or refused; `run` also has 124 for a timeout and 130 for Ctrl-C.
"""

_COMMANDS = {
    "serve": "serve:serve",
    "run": "run:run",
    "repl": "repl:repl",
    "create": "contexts:create",
    "ls": "contexts:ls",
    "rm": "contexts:rm",
    "fork": "contexts:fork",
    "interrupt": "contexts:interrupt",
    "restart": "contexts:restart",
    "cp": "copying:cp",
    "info": "info:info",
    "doctor": "doctor:doctor",
}


def _version() -> str:
    return importlib.metadata.version("codecontext")


def make_app() -> App:
    """The commands, each loaded when it is called."""
    app = App(
        name="codecontext",
        help=_HELP,
        version=_version,
        result_action="return_value",
        help_format="markdown",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative_iterable=()),
    )
    for name, path in _COMMANDS.items():
        app.command(f"codecontext_service.cli.{path}", name=name)
    app.command("codecontext_service.cli.config_docs:config_docs", name="config-docs", show=False)
    return app


def run_app(arguments: Sequence[str]) -> int:
    """Runs a command.

    Args:
        arguments: The command line without the program's name.

    Returns:
        The exit status.
    """
    app = make_app()
    rest = _options_last(arguments)
    if rest[:1] in ([], ["--help"], ["-h"]):
        for name in _COMMANDS:
            app[name]  # loads it, so that the list says what each does
    try:
        status = app(
            rest,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        command = next((name for name in arguments if name in _COMMANDS), "")
        say(f"{error} (`codecontext {command}{' ' * bool(command)}--help` tells more)")
        return exits.USAGE
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        # Nobody reads what comes now; without this, Python's own flush at exit complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.PIPE_CLOSED
    return status if isinstance(status, int) else exits.OK


def main() -> None:
    """Runs the command line of this process, and ends the process."""
    sys.exit(run_app(sys.argv[1:]))


def _options_last(arguments: Sequence[str]) -> list[str]:
    # `codecontext --target X ls` means `codecontext ls --target X`: the options that every command
    # has may stand before it too.
    rest = list(arguments)
    leading = []
    while rest:
        if rest[0] in ("--target", "-t") and len(rest) > 1:
            leading += [rest.pop(0), rest.pop(0)]
        elif rest[0] == "--json" or rest[0].startswith("--target="):
            leading.append(rest.pop(0))
        else:
            break
    return [*rest[:1], *leading, *rest[1:]]

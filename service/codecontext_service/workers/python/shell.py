"""IPython's shell with its output going to a channel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Coroutine, Iterator
from typing import Any

from IPython.core.async_helpers import get_asyncio_loop
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from traitlets import Type
from traitlets.config import Config

from . import packages
from .displaying import Displayhook, Output, Publisher
from .formatting import Formatter
from .interrupts import Interrupts, cut_handler
from .lean import LeanRuns
from .past_runs import Compiler, History, PastRuns
from .raised import has_group
from .transforming import PlainCode


class Shell(InteractiveShell):  # type: ignore[misc]
    """IPython's shell for a context: no terminal, no history database, nothing printed."""

    display_pub_class = Type(Publisher)
    displayhook_class = Type(Displayhook)
    compiler_class = Type(Compiler)

    def __init__(self, **options: Any) -> None:
        """Makes the shell, without a channel yet."""
        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor"
        self.output = Output()
        self.interrupts = Interrupts()
        self.shown_error: tuple[BaseException, list[str]] | None = None
        super().__init__(config=config, **options)
        # What IPython would keep in files, for instance the names of modules to complete.
        self._db: dict[str, Any] = {}
        self.past_runs = PastRuns(self)
        self._plain_code = PlainCode(self)
        self._lean_runs = LeanRuns(self, self._plain_code, self.interrupts)
        packages.provide(self, _run_shell)
        self.loop_runner = self._run_coroutine
        # IPython's own remarks, for a person at a terminal.
        for remark in ("To exit: use", "Output cache limit"):
            warnings.filterwarnings("ignore", message=remark)

    def init_history(self) -> None:  # noqa: D102
        self.history_manager = History(shell=self, parent=self)
        self.configurables.append(self.history_manager)

    def init_display_formatter(self) -> None:  # noqa: D102
        self.display_formatter = Formatter(parent=self)
        self.configurables.append(self.display_formatter)

    def run(self, code: str, *, silent: bool = False) -> ExecutionResult:
        """Runs code.

        Args:
            code: The code.
            silent: Whether to leave no trace but what the code does.

        Returns:
            What came of it.
        """
        return self._lean_runs.run(code, silent=silent) or self.run_cell(
            code, store_history=not silent, silent=silent
        )

    def enable_gui(self, gui: str | None = None) -> None:
        """Does nothing: there is no screen."""

    def ask_exit(self) -> None:
        """Is what `exit` and `quit` call: ends the run as `sys.exit()` does; the context lives."""
        raise SystemExit

    def transform_cell(self, raw_cell: str) -> str:
        """Returns code as Python."""
        if raw_cell in self._plain_code:
            return raw_cell if raw_cell.endswith("\n") else raw_cell + "\n"
        transformed: str = super().transform_cell(raw_cell)
        return transformed

    def should_run_async(
        self, raw_cell: str, *, transformed_cell: str | None = None, **options: Any
    ) -> bool:
        """Returns whether code awaits something: IPython compiles all of it once more to know that."""
        code = transformed_cell
        if code is not None and "await" not in code and "async" not in code:
            return False
        try:
            answer: bool = super().should_run_async(raw_cell, transformed_cell=code, **options)
        except (RecursionError, MemoryError):  # it is nested too deeply, which running it tells
            return False
        return answer

    async def run_code(self, *args: Any, **options: Any) -> bool:
        """Runs a part of the code, all of which has been parsed by now."""
        coroutine = super().run_code(*args, **options)
        try:
            self.interrupts.code_begins()
            failed: bool = await coroutine
        finally:
            coroutine.close()  # an interrupt may have come before it was begun
        return failed

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Keeps no copy of what is written, which IPython would hold in memory for ever."""
        yield

    def _format_exception_for_storage(
        self, exception: BaseException, *_: Any, **__: Any
    ) -> dict[str, Any]:
        """Keeps no copy of tracebacks, and formats them only once."""
        return {"ename": type(exception).__name__, "evalue": "", "traceback": []}

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **options: Any) -> None:  # noqa: D102
        _, value, tb = self._get_exc_info(exc_tuple)
        cut_handler(tb)
        if has_group(value):  # IPython would print it
            self._showtraceback(
                type(value), value, traceback.format_exception(type(value), value, tb)
            )
            return
        if isinstance(value, SystemExit):
            options["exception_only"] = False
        super().showtraceback(exc_tuple, *args, **options)

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        """Keeps the error: if it is the one that ends the run, it becomes its `error` event."""
        lines = "\n".join(stb).splitlines()
        if self.display_formatter.working:
            print("\n".join(lines), file=sys.stderr)
            return
        self.write_shown_error()
        self.shown_error = (evalue, lines)

    def write_shown_error(self) -> None:
        """Writes the error that was shown last to stderr, if any: it did not end the run."""
        if self.shown_error is not None:
            lines, self.shown_error = self.shown_error[1], None
            print("\n".join(lines), file=sys.stderr)

    def _run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs a cell with top-level `await`; an interrupt cancels it and leaves no part of it behind."""
        loop = get_asyncio_loop()
        asyncio.set_event_loop(loop)
        task = loop.create_task(coroutine)
        try:
            with self.interrupts.cancelling(task):
                result = loop.run_until_complete(task)
            if self.interrupts.stopped and isinstance(result.error_in_exec, asyncio.CancelledError):
                self.shown_error = None  # the cancellation: what is told is the interrupt
                raise KeyboardInterrupt
            return result
        except KeyboardInterrupt:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)
                self.shown_error = None  # the cancellation: what is told is the interrupt
            raise

    def system(self, cmd: str) -> None:  # noqa: D102
        # With pipes of its own, so that its output comes in order with what Python writes.
        self.user_ns["_exit_code"] = _run_shell(self.var_expand(cmd, depth=1))
        packages.notice()  # it may have been a pip


def _run_shell(command: str) -> int:
    """Runs a shell command with its output going to `sys.stdout` and `sys.stderr` as it comes.

    Returns:
        Its exit status, or the negative number of the signal that ended it.
    """
    shell = os.environ.get("SHELL") or "/bin/sh"
    process = subprocess.Popen(
        [shell, "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    pidfd = os.pidfd_open(process.pid)
    with process, selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, sys.stdout.buffer)  # type: ignore[arg-type]
        selector.register(process.stderr, selectors.EVENT_READ, sys.stderr.buffer)  # type: ignore[arg-type]
        selector.register(pidfd, selectors.EVENT_READ)
        try:
            # A background job may hold the pipes for long: the command's own end is the end.
            while pidfd in (open_ := selector.get_map()) and len(open_) > 1:
                for key, _ in selector.select():
                    if key.fd == pidfd:
                        selector.unregister(pidfd)
                    else:
                        _pump(selector, key)
            for key in list(selector.get_map().values()):
                if key.fd != pidfd:
                    os.set_blocking(key.fd, False)
                    while _pump(selector, key):
                        pass
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # it had the same one, unless it is in another group
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        finally:
            os.close(pidfd)
    return process.returncode


def _pump(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> bool:
    try:
        content = os.read(key.fd, 64 * 1024)
    except BlockingIOError:
        return False
    if content:
        key.data.write(content)
    else:
        selector.unregister(key.fileobj)
    return bool(content)

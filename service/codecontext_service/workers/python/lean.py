"""The short way through a run: IPython's own steps, but for those that a terminal or a notebook needs.

A run of a context that has waited finds the processor's caches cold: what it takes is the memory that it
touches on its way. `InteractiveShell.run_cell` goes through two coroutines, parses and compiles what was
parsed, and asks for much that nobody has set here. What a run sends is the same on both ways.
"""

from __future__ import annotations

import ast
import re
import warnings
from types import CodeType

from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

from .interrupts import Interrupts
from .raised import error_of
from .transforming import PlainCode

_MAY_AWAIT = re.compile("await|async")

_COMPOUND = re.compile(r"(?:if|for|while|with|try|def|class|match)\b|@")
"""How a statement begins that has others in it, whose values would be shown."""


class LeanRuns:
    """Runs code the short way where that makes no difference."""

    def __init__(self, shell: InteractiveShell, plain: PlainCode, interrupts: Interrupts) -> None:
        """Knows the shell.

        Args:
            shell: Whose code it runs.
            plain: Which code needs no transformation.
            interrupts: Is told when the code itself begins.
        """
        self._shell = shell
        self._plain = plain
        self._interrupts = interrupts
        self._ahead = shell.execution_count - shell.displayhook.prompt_count
        """By how much the number of the next run is ahead while one runs: 1, before IPython 9 it was 0."""

    def run(self, code: str, *, silent: bool = False) -> ExecutionResult | None:
        """Does what `run_cell(code, store_history=not silent, silent=silent)` does.

        Args:
            code: The code.
            silent: Whether to leave no trace but what the code does.

        Returns:
            What came of it; None, and nothing was done, if it must go IPython's way.
        """
        if not self._takes(code):
            return None
        shell = self._shell
        result = ExecutionResult(ExecutionInfo(code, not silent, silent, True, None))
        try:
            shell.events.trigger("pre_execute")
            if not silent:
                shell.events.trigger("pre_run_cell", result.info)
            self._run(code, result, silent)
        finally:
            shell.events.trigger("post_execute")
            if not silent:
                shell.events.trigger("post_run_cell", result)
        return result

    def _takes(self, code: str) -> bool:
        shell = self._shell
        return not (
            shell.ast_transformers
            or shell.custom_exceptions
            or shell.trio_runner
            or shell.ast_node_interactivity != "last_expr"
            or shell.logger.log_active
            or code.isspace()
            or _MAY_AWAIT.search(code)
            or code not in self._plain
        )

    def _run(self, code: str, result: ExecutionResult, silent: bool) -> None:
        shell = self._shell
        number = result.execution_count = shell.execution_count
        cell = result.info.transformed_cell = code if code.endswith("\n") else code + "\n"
        if not silent:
            if self._ahead:
                shell.execution_count = number + self._ahead
            shell.history_manager.store_inputs(number, cell, code)
        name = shell.compile.cache(cell, number, raw_code=code)
        shell.displayhook.exec_result = result
        try:
            with shell.display_trap:
                self._run_statements(cell, name, "exec" if silent else "single", result)
        except BaseException as interrupt:  # beside the code, or code that is nested too deeply
            result.execution_count, result.error_in_exec = None, interrupt  # as IPython has it then
            shell.showtraceback((type(interrupt), interrupt, None))  # no frame of it is the user's
            return
        finally:
            shell.displayhook.exec_result = None
        if not silent and not self._ahead:
            shell.execution_count = number + 1
        shell.last_execution_succeeded = result.success
        shell.last_execution_result = result
        raised = error_of(result)
        exceptions = getattr(shell.history_manager, "exceptions", None)  # IPython 9 has it
        if raised is not None and exceptions is not None and not silent:
            exceptions[number] = shell._format_exception_for_storage(raised)

    def _run_statements(self, cell: str, name: str, last: str, result: ExecutionResult) -> None:
        """Runs one statement after the other; the value of an expression at the end is shown.

        Args:
            cell: The code.
            name: Under which name it is compiled.
            last: How an expression at the end is compiled: with `single` its value is shown.
            result: Takes the first error.
        """
        shell = self._shell
        compiled = self._compile_at_once(cell, name, last)
        statements: list[ast.stmt] = []
        if compiled is None:
            try:
                statements = self._parse(cell, name)
            except (SyntaxError, OverflowError, ValueError, TypeError, MemoryError) as error:
                result.error_before_exec = error
                shell.showsyntaxerror()
                return
        try:
            if compiled is not None:
                self._execute(compiled, result)
            for statement in statements:
                is_value = statement is statements[-1] and isinstance(statement, ast.Expr)
                if is_value and last == "single":
                    compiled = shell.compile(ast.Interactive([statement]), name, "single")
                else:
                    compiled = shell.compile(ast.Module([statement], []), name, "exec")
                if not self._execute(compiled, result):
                    return
        except BaseException as error:
            # It parses, but is no Python: a `return` outside of a function.
            result.error_before_exec = error
            shell.showtraceback()

    def _compile_at_once(self, cell: str, name: str, mode: str) -> CodeType | None:
        """Compiles a single simple statement without parsing it first.

        Returns:
            What it has become; None if it is none, or is no Python.
        """
        if "\n" in cell[:-1] or ";" in cell or _COMPOUND.match(cell):
            return None
        try:
            code: CodeType = self._shell.compile(cell, name, mode)
        except Exception:  # told when it is parsed, as IPython does
            return None
        return code

    def _parse(self, cell: str, name: str) -> list[ast.stmt]:
        if "\n" in cell[:-1]:
            return self._shell.compile.ast_parse(cell, filename=name).body  # type: ignore[no-any-return]
        with warnings.catch_warnings():  # it may have been compiled before, and have warned
            warnings.simplefilter("ignore", SyntaxWarning)
            return self._shell.compile.ast_parse(cell, filename=name).body  # type: ignore[no-any-return]

    def _execute(self, code: CodeType, result: ExecutionResult) -> bool:
        """Executes a statement, as IPython does: by the one step of it that shows the code's errors.

        Returns:
            Whether it succeeded.

        Raises:
            KeyboardInterrupt: An interrupt came before it began.
        """
        # Of the class: the shell's own is for IPython's way.
        coroutine = InteractiveShell.run_code(self._shell, code, result)
        try:
            self._interrupts.code_begins()
            coroutine.send(None)
        except StopIteration as end:
            return not end.value
        finally:
            coroutine.close()  # an interrupt may have come before it was begun
        raise AssertionError("it waited, without a word of it in its code")

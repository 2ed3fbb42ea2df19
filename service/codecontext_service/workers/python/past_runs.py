"""What an interpreter remembers of past runs, within bounds: IPython itself forgets nearly nothing."""

from __future__ import annotations

import hashlib
import linecache
import sys
import weakref
from collections import deque
from types import CodeType
from typing import Any

from IPython.core.compilerop import CachingCompiler
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell

try:  # CPython's own, which takes a third of the time that OpenSSL's takes for so little
    from _sha1 import sha1  # type: ignore[import-not-found]
except ImportError:  # it was built without
    sha1 = hashlib.sha1

MAX_RUNS = 1000
"""Of how many runs the code is remembered (`In`, `_i7`), as IPython does with results (`Out`, `_7`)."""

MAX_CODE = 8 << 20
"""How many characters the code of these runs has at most."""

_MAX_FRAMES = 64
"""How many frames of past tracebacks are kept parsed."""


class Compiler(CachingCompiler):  # type: ignore[misc]
    """Compiles the code of runs, and keeps its source lines as long as a traceback may need them.

    These are the lines of the newest runs, and of all code that is still there: in a function, a class,
    a frame.
    """

    cell_name = ""
    """Under which file name the code of the present run was compiled."""

    def __init__(self) -> None:
        """Starts without sources."""
        super().__init__()
        self._newest: dict[str, int] = {}
        self._older: deque[str] = deque()
        self._size = 0
        self._code: dict[str, list[weakref.ref[CodeType]]] = {}

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        """Returns the name that IPython would give to code, without asking OpenSSL."""
        digest = sha1(transformed_code.encode()).hexdigest()
        name = f"<ipython-input-{number}-{digest[:12]}>"
        self.cell_name = self.cell_name or name  # the first is the run's, others are nested in it
        return name

    def cache(self, transformed_code: str, *args: Any, **kwargs: Any) -> str:  # noqa: D102
        name: str = super().cache(transformed_code, *args, **kwargs)
        if name not in self._code:
            self._code[name] = []
            self._newest[name] = len(transformed_code)
            self._size += len(transformed_code)
        return name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compiles code, and takes note of all the code objects that it consists of."""
        code = super().__call__(*args, **kwargs)
        known = self._code.get(code.co_filename) if isinstance(code, CodeType) else None
        if known is not None:
            found = [code]
            for each in found:
                known.append(weakref.ref(each))
                found += [const for const in each.co_consts if isinstance(const, CodeType)]
        return code

    def forget(self) -> None:
        """Drops the lines of old code that is gone."""
        while len(self._newest) > MAX_RUNS or self._size > MAX_CODE:
            name = next(iter(self._newest))
            self._size -= self._newest.pop(name)
            self._older.append(name)
        for _ in range(min(2, len(self._older))):  # one more than may come with each run
            name = self._older.popleft()
            if any(code() is not None for code in self._code[name]):
                self._older.append(name)
            else:
                del self._code[name]
                self._filename_map.pop(name, None)
                linecache.cache.pop(name, None)


class History(HistoryManager):  # type: ignore[misc]
    """What was run, for `In`, `_i` and `%history`: in memory, since there is no database."""

    # Here no traits, each of which would be checked whenever it is set.
    _i00 = _i = _ii = _iii = ""

    def store_inputs(self, line_num: int, source: str, source_raw: str | None = None) -> None:
        """Remembers the code of a run.

        Args:
            line_num: Its number.
            source: As Python.
            source_raw: As it was given, if not like that.
        """
        source = source.rstrip("\n")
        source_raw = source if source_raw is None else source_raw.rstrip("\n")
        if self._exit_re.match(source_raw.strip()):
            return
        self.input_hist_parsed.append(source)
        self.input_hist_raw.append(source_raw)
        self._iii, self._ii, self._i, self._i00 = self._ii, self._i, self._i00, source_raw
        names = {"_i": self._i, "_ii": self._ii, "_iii": self._iii, f"_i{line_num}": source_raw}
        self.shell.push(names, interactive=False)


class PastRuns:
    """Forgets the code of old runs, and what IPython keeps beside it."""

    def __init__(self, shell: InteractiveShell) -> None:
        """Starts before the first run."""
        self._shell = shell
        self._runs: deque[tuple[int, int]] = deque()
        self._size = 0
        self._blanked = 1
        self._results: deque[tuple[int, str]] = deque()

    def end_of(self, number: int, code: str) -> None:
        """Takes note of a run that has ended, and forgets what is too old.

        Args:
            number: Its number.
            code: Its code.
        """
        history = self._shell.history_manager
        self._runs.append((number, len(code)))
        self._size += len(code)
        while len(self._runs) > MAX_RUNS or self._size > MAX_CODE:
            old, size = self._runs.popleft()
            self._size -= size
            self._forget_name(f"_i{old}")
            for table in ("outputs", "exceptions"):  # older versions of IPython lack them
                getattr(history, table, {}).pop(old, None)
        inputs = (history.input_hist_parsed, history.input_hist_raw)
        self._blanked = min(self._blanked, *map(len, inputs))  # %reset may have emptied them
        while min(map(len, inputs)) - self._blanked > len(self._runs):
            for each in inputs:
                each[self._blanked] = ""  # the places of the others stay
            self._blanked += 1
        self._forget_results(number)
        self._shell.compile.forget()
        _forget_frames()

    def _forget_results(self, number: int) -> None:
        """Lets go of results that IPython has taken out of `Out`, but not out of all its own tables."""
        kept = self._shell.user_ns.get("_oh", {})
        if (name := f"_{number}") in self._shell.user_ns_hidden:
            self._results.append((number, name))
        while self._results and self._results[0][0] not in kept:
            self._forget_name(self._results.popleft()[1])

    def _forget_name(self, name: str) -> None:
        namespace, hidden = self._shell.user_ns, self._shell.user_ns_hidden
        if name in hidden and namespace.get(name) is hidden.pop(name):
            del namespace[name]


def _forget_frames() -> None:
    """Bounds what the library behind IPython's tracebacks keeps of each frame that it has ever seen."""
    library = sys.modules.get("executing.executing")
    if library is None:
        return
    kinds = [library.Source]
    for kind in kinds:
        kinds += kind.__subclasses__()
        for name in ("__executing_cache", "__source_cache_with_lines"):
            known = vars(kind).get(name, ())
            if len(known) > _MAX_FRAMES:
                known.clear()
                library.statement_containing_node.cache_clear()
                library.Source.statements_at_line.cache_clear()

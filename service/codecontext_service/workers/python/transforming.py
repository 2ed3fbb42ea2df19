"""Code that is plain Python already: IPython need not look for its own syntax in it."""

from __future__ import annotations

import builtins
import keyword
import re

from IPython.core.autocall import IPyAutocall
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.macro import Macro

_SPECIAL = re.compile(
    r"""[%?]            # magics, help
    | !(?!=)            # commands of the shell
    | >>>|\.\.\.:|In\ \[  # pasted prompts
    | ^\s*[/,;]         # automatic calls
    | ^[^\S\n]+$        # lines of white space alone, which IPython empties
    | [\r\f\v\x1c-\x1e\x85\u2028\u2029]  # what it takes for the end of a line
    """,
    re.MULTILINE | re.VERBOSE,
)
_NAME = re.compile(r"[^\W\d]\w*")


class PlainCode:
    """Tells which code IPython's transformations would leave as it is."""

    def __init__(self, shell: InteractiveShell) -> None:
        """Remembers the transformations that IPython begins with.

        Args:
            shell: Whose transformations they are.
        """
        self._shell = shell
        manager, prefilter = shell.input_transformer_manager, shell.prefilter_manager
        self._static = [
            list(manager.cleanup_transforms),
            list(manager.line_transforms),
            list(manager.token_transformers),
        ]
        self._dynamic = [list(prefilter.transformers), list(prefilter.checkers)]

    def __contains__(self, code: str) -> bool:
        """Whether code is left as it is. A false negative costs time, a false positive would be wrong."""
        if not code or code[0].isspace() or _SPECIAL.search(code):
            return False
        manager = self._shell.input_transformer_manager
        if self._shell.input_transformers_post or self._static != [
            manager.cleanup_transforms,
            manager.line_transforms,
            manager.token_transformers,
        ]:
            return False
        return "\n" in code.rstrip("\n") or self._is_plain_line(code)

    def _is_plain_line(self, line: str) -> bool:
        """Whether a single line stays: `ls` would be a magic, `exit` a call."""
        shell = self._shell
        prefilter = shell.prefilter_manager
        if shell.autocall or self._dynamic != [prefilter.transformers, prefilter.checkers]:
            return False
        name = _NAME.match(line)
        if name is None:
            return True
        word = name.group()
        if isinstance(shell.user_ns.get(word), Macro | IPyAutocall):
            return False
        shadowed = word in shell.user_ns or hasattr(builtins, word) or keyword.iskeyword(word)
        return shadowed or not shell.find_magic(word)

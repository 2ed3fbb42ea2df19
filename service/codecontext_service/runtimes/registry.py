"""All runtimes of a host, and which of them a caller means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator

from codecontext_service.domain.errors import FieldViolation, InvalidArgument
from codecontext_service.runtime_config import built_in_runtimes

from .base import InterpreterError, Runtime

logger = logging.getLogger(__name__)

ALIASES = {
    "python": ("py", "python3"),
    "javascript": ("js", "node", "nodejs"),
    "typescript": ("ts",),
    "bash": ("sh", "shell"),
}
"""Other names by which people know a language."""

DEFAULT_LANGUAGE = "python"


class Runtimes:
    """The runtimes of a host, in the order of the configuration."""

    def __init__(self, runtimes: Iterable[Runtime]) -> None:
        """Knows the runtimes."""
        self._runtimes = {runtime.config.name: runtime for runtime in runtimes}

    def __iter__(self) -> Iterator[Runtime]:
        """Iterates over the runtimes."""
        return iter(self._runtimes.values())

    async def start(self) -> None:
        """Starts them all. A language whose interpreter was just found here may fail, and says why.

        Raises:
            InterpreterError: Python can't be started, or one that the configuration speaks of.
        """
        found = [each for each in built_in_runtimes() if each.language != DEFAULT_LANGUAGE]

        async def start(runtime: Runtime) -> None:
            try:
                await runtime.start()
            except InterpreterError as error:
                if runtime.config not in found:
                    raise
                runtime.failure = str(error)
                logger.error(
                    "runtime can't be used: %s", error, extra={"runtime": runtime.config.name}
                )

        await asyncio.gather(*map(start, self))
        for runtime in self:  # not before: it would keep the processors from what is waited for
            if not runtime.failure:
                runtime.begin_filling()

    def default_of(self, language: str) -> Runtime | None:
        """Returns the runtime that a language takes by default; None if it is unknown."""
        wanted = language.lower()
        for runtime in self._runtimes.values():
            name = runtime.config.language
            if wanted == name or wanted in ALIASES.get(name, ()):
                return runtime
        return None

    def resolve(self, language: str, runtime: str) -> Runtime:
        """Finds the runtime that a caller asks for.

        Args:
            language: A language or one of its aliases; empty for Python, or for what `runtime` says.
            runtime: The name of a runtime; empty for the language's default one.

        Raises:
            InvalidArgument: There is none; the text names those that are there.
        """
        if runtime:
            found = self._runtimes.get(runtime)
            if found is None:
                known = ", ".join(self._runtimes)
                raise InvalidArgument(
                    FieldViolation("runtime", f"{runtime[:80]!r} is unknown; known ones: {known}")
                )
            of_language = self.default_of(language) if language else found
            if of_language is None or of_language.config.language != found.config.language:
                raise InvalidArgument(
                    FieldViolation(
                        "language", f"runtime {runtime} is one of {found.config.language}"
                    )
                )
            return found
        found = self.default_of(language or DEFAULT_LANGUAGE)
        if found is None:
            known = ", ".join(sorted({r.config.language for r in self._runtimes.values()}))
            raise InvalidArgument(
                FieldViolation("language", f"{language[:80]!r} is unknown; known ones: {known}")
            )
        return found

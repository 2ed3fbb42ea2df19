"""Trials: copies of a context that are dropped unless they are kept."""

import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from codecontext.errors import ContextNotFoundError
from codecontext.resources import CodeContext


class _Trial:
    def __init__(self) -> None:
        self._context: CodeContext | None = None
        self.kept = False
        """Whether it outlives the `with` block."""

    @property
    def context(self) -> CodeContext:
        """The copy.

        Raises:
            RuntimeError: the `with` block has not begun.
        """
        if self._context is None:
            raise RuntimeError("the copy is made where the `with` block begins")
        return self._context

    @property
    def id(self) -> str:
        """The copy's id: a trial can be given wherever a context can."""
        return self.context.id

    def keep(self) -> CodeContext:
        """Has the copy outlive the `with` block, and returns it."""
        self.kept = True
        return self.context


class Branch(_Trial):
    """A copy of a context, made where its `with` block begins and deleted where that ends."""

    def __init__(self, fork: Callable[[], CodeContext], delete: Callable[[str], None]) -> None:
        super().__init__()
        self._fork = fork
        self._delete = delete

    def __enter__(self) -> Self:
        self._context = self._fork()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.kept:
            with contextlib.suppress(ContextNotFoundError):  # somebody has deleted it
                self._delete(self.id)


class AsyncBranch(_Trial):
    """As `Branch`, for `async with`."""

    def __init__(
        self,
        fork: Callable[[], Awaitable[CodeContext]],
        delete: Callable[[str], Awaitable[Any]],
    ) -> None:
        super().__init__()
        self._fork = fork
        self._delete = delete

    async def __aenter__(self) -> Self:
        self._context = await self._fork()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.kept:
            with contextlib.suppress(ContextNotFoundError):  # somebody has deleted it
                await self._delete(self.id)

"""The contexts that a client makes for runs that name none: one for each language."""

import asyncio
import contextlib
import threading
from collections import defaultdict

from codecontext import _context_calls
from codecontext._aio import AsyncTransport
from codecontext._sync import Transport
from codecontext.errors import CodeContextError, ContextFailedError, ContextNotFoundError

DEFAULT_LANGUAGE = "python"

CLOSE_DEADLINE_S = 5.0
"""How long closing a client waits for each of its default contexts to be gone."""


class _Ids:
    """Which context is the default one of which language."""

    def __init__(self) -> None:
        self._by_language: dict[str, str] = {}

    def get(self, language: str) -> str | None:
        return self._by_language.get(language)

    def put(self, language: str, context_id: str) -> None:
        self._by_language[language] = context_id

    def forget(self, context_id: str, error: CodeContextError) -> bool:
        """Forgets a default context if the error says that its state is gone.

        The caller gets the error, so that the loss is not silent; the next run has a new context.

        Returns:
            Whether the context is still there, without its state, and can be deleted.
        """
        if not isinstance(error, ContextNotFoundError | ContextFailedError):
            return False
        languages = [key for key, value in self._by_language.items() if value == context_id]
        for language in languages:
            self._by_language.pop(language, None)
        return bool(languages) and isinstance(error, ContextFailedError)

    def take(self) -> list[str]:
        taken = list(self._by_language.values())
        self._by_language.clear()
        return taken


class DefaultContexts:
    """The default contexts of a synchronous client; from many threads, each is made once."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._ids = _Ids()
        self._guard = threading.Lock()
        self._making: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._closed = False

    def get(self, language: str) -> str:
        """Returns the id of the context for a language, which it makes if there is none."""
        with self._guard:
            making = self._making[language]
        with making:
            with self._guard:
                context_id = self._ids.get(language)
            if context_id is not None:
                return context_id
            context = self._transport.call(_context_calls.create_code_context(language))
            with self._guard:
                closed = self._closed
                if not closed:
                    self._ids.put(language, context.id)
        if closed:
            self._delete(context.id)
            raise RuntimeError("the client is closed")
        return context.id

    def failed(self, context_id: str, error: CodeContextError) -> None:
        """Takes note of an error of a run in a default context."""
        with self._guard:
            is_there = self._ids.forget(context_id, error)
        if is_there:
            self._delete(context_id)

    def close(self) -> None:
        """Deletes them all, as well as it can be done in a short time."""
        with self._guard:
            self._closed = True
            taken = self._ids.take()
        for context_id in taken:
            self._delete(context_id)

    def _delete(self, context_id: str) -> None:
        with contextlib.suppress(CodeContextError, RuntimeError):
            self._transport.call(
                _context_calls.delete_code_context(
                    context_id, force=True, deadline=CLOSE_DEADLINE_S
                )
            )


class AsyncDefaultContexts:
    """The default contexts of an asynchronous client; from many tasks, each is made once."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._ids = _Ids()
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._closed = False

    async def get(self, language: str) -> str:
        """Returns the id of the context for a language, which it makes if there is none."""
        async with self._making[language]:
            context_id = self._ids.get(language)
            if context_id is not None:
                return context_id
            context = await self._transport.call(_context_calls.create_code_context(language))
            if not self._closed:
                self._ids.put(language, context.id)
        if self._closed:
            await self._delete(context.id)
            raise RuntimeError("the client is closed")
        return context.id

    async def failed(self, context_id: str, error: CodeContextError) -> None:
        """Takes note of an error of a run in a default context."""
        if self._ids.forget(context_id, error):
            await self._delete(context_id)

    async def close(self) -> None:
        """Deletes them all, as well as it can be done in a short time."""
        self._closed = True
        await asyncio.gather(*(self._delete(context_id) for context_id in self._ids.take()))

    async def _delete(self, context_id: str) -> None:
        with contextlib.suppress(CodeContextError, RuntimeError):
            await self._transport.call(
                _context_calls.delete_code_context(
                    context_id, force=True, deadline=CLOSE_DEADLINE_S
                )
            )

"""Which contexts there are, and what is known of those that are gone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from codecontext_service.config import Config
from codecontext_service.domain.errors import (
    ContextDeleted,
    ContextLost,
    InvalidContextId,
    NotFound,
    QuotaExceeded,
)
from codecontext_service.domain.graves import Graves
from codecontext_service.domain.ids import IdMaker

from .context import Context


class Registry:
    """The contexts of a host, in the order of their creation."""

    def __init__(self, config: Config, ids: IdMaker) -> None:
        """Starts without contexts.

        Args:
            config: How many there may be, and how much is remembered of those that are gone.
            ids: Makes their ids, and knows those of an earlier life.
        """
        self._max = config.max_contexts
        self._ids = ids
        self._numbers = itertools.count(1)
        self._contexts: dict[str, Context] = {}
        self.graves = Graves(config.deleted_ids, config.deleted_ids_s)
        """Those that are gone."""

    @property
    def all(self) -> Iterable[Context]:
        """All contexts, in the order of their creation."""
        return self._contexts.values()

    def __len__(self) -> int:
        """Returns how many contexts there are."""
        return len(self._contexts)

    def __contains__(self, context_id: str) -> bool:
        """Tells whether there is a context of that id."""
        return context_id in self._contexts

    def find(self, context_id: str) -> Context | None:
        """Returns a context, if there is one of that id."""
        return self._contexts.get(context_id)

    def get(self, context_id: str) -> Context:
        """Returns a context.

        Raises:
            InvalidContextId: The id is empty.
            NotFound: There is none; `ContextDeleted` and `ContextLost` say more.
        """
        if not context_id:
            raise InvalidContextId
        context = self._contexts.get(context_id)
        if context is None:
            raise self.not_found(context_id)
        return context

    def not_found(self, context_id: str) -> NotFound:
        """Returns the error that says why there is no such context."""
        if grave := self.graves.find(context_id):
            return ContextDeleted(
                f"context {context_id} {grave.words} at {grave.time_text}",
                context_id=context_id,
                delete_time=grave.time_text,
                cause=grave.cause,
            )
        if self._ids.is_lost(context_id, "c"):
            return ContextLost(
                f"context {context_id} went with an earlier life of this server",
                context_id=context_id,
            )
        return NotFound(f"there is no context {context_id[:100]!r}", context_id=context_id[:100])

    def page(
        self, *, after: int, limit: int, matches: Callable[[Context], bool]
    ) -> tuple[list[Context], int | None]:
        """Returns a page of contexts, in the order of their creation.

        Args:
            after: The number of the last context of the page before; 0 for the first page.
            limit: How many at most.
            matches: Chooses contexts.

        Returns:
            The contexts, and the number after which the next page begins; None if this is the last.
        """
        chosen = (c for c in self._contexts.values() if c.number > after and matches(c))
        page = list(itertools.islice(chosen, limit + 1))
        return (page[:limit], page[limit - 1].number) if len(page) > limit else (page, None)

    def check_room(self, count: int = 1) -> None:
        """Checks that there may be more contexts.

        Args:
            count: How many more.

        Raises:
            QuotaExceeded: There would be too many.
        """
        if len(self._contexts) + count > self._max:
            raise QuotaExceeded(
                f"there are {len(self._contexts)} contexts; delete one or retry later",
                quota="max_contexts",
                limit=self._max,
                subject="contexts",
            )

    def new_name(self) -> tuple[str, int]:
        """Returns the id of a new context, and its place in the order of creation."""
        return self._ids.make("c"), next(self._numbers)

    def add(self, context: Context) -> None:
        """Takes a new context."""
        self._contexts[context.id] = context

    def bury(self, context: Context, *, cause: str, owes_ok: bool) -> None:
        """Takes note that a context is gone.

        Args:
            context: Which.
            cause: Why.
            owes_ok: Whether somebody still has to be told of it.
        """
        del self._contexts[context.id]
        self.graves.add(context.id, cause=cause, owes_ok=owes_ok)

"""The embedding model of a scope during a switch of models."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError, StoreUnavailable
from luma_memory.domain.scope import Scope
from luma_memory.ports.models import Embedder
from luma_memory.ports.vector_models import VectorModels

# Maximum age of the cached state of a switch.
REFRESH_SECONDS = 5.0


class ScopeEmbedders:
    """The configured embedder or, for scopes that a switch has not reached, the previous one.

    Vectors of different models cannot be compared. Until a scope is completely re-embedded, its
    queries and new blocks use the old model. Outside a switch this costs one small statement every
    5 seconds.

    open_other: opens an embedder by its model's id, or returns None if it is no longer available:
    then the configured one is used, and blocks of the old model are found by terms only.
    """

    def __init__(
        self,
        configured: Embedder,
        *,
        model_id: str,
        models: VectorModels,
        open_other: Callable[[str], Awaitable[Embedder | None]],
        clock: Clock,
    ) -> None:
        self._configured = configured
        self._model_id = model_id
        self._models = models
        self._open_other = open_other
        self._clock = clock
        self._in_use: Sequence[str] = ()
        self._valid_until = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None
        self._opened: dict[str, Embedder | None] = {}

    async def of_scope(self, scope: Scope) -> Embedder:
        """The embedder of this scope's queries and blocks. Raises StoreUnavailable."""
        if self._clock.monotonic() >= self._valid_until:
            await self._refreshed()
        if not self._is_changing():
            return self._configured
        model_id = await self._models.of_scope(scope) or self._in_use[0]
        if model_id == self._model_id:
            return self._configured
        return await self._other(model_id) or self._configured

    async def is_current(self, embedder: Embedder, scope: Scope) -> bool:
        """Whether a query embedded by it matched the scope's vectors; check this after the scan.

        A scope that was just switched to the new model has no vectors of the old one.
        """
        return not self._is_changing() or await self.of_scope(scope) is embedder

    async def close(self) -> None:
        """Close the embedders opened here; the configured one belongs to the caller."""
        for embedder in self._opened.values():
            if embedder is not None:
                await embedder.close()

    def _is_changing(self) -> bool:
        return any(model_id != self._model_id for model_id in self._in_use)

    async def _refreshed(self) -> None:
        """Refresh with one statement for all concurrent callers: jobs start in groups."""
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(self._on_refreshed)
        await asyncio.shield(self._refreshing)

    def _on_refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        if not task.cancelled():
            task.exception()  # retrieved, even if no caller waits any longer

    async def _refresh(self) -> None:
        try:
            self._in_use = await self._models.in_use()
        except StoreUnavailable:
            if not self._in_use:
                raise
        self._valid_until = self._clock.monotonic() + REFRESH_SECONDS

    async def _other(self, model_id: str) -> Embedder | None:
        if model_id not in self._opened:
            try:
                opened = await self._open_other(model_id)
            except LumaMemoryError:
                opened = None
            # Two callers may open it concurrently: keep the first one.
            if model_id in self._opened:
                if opened is not None:
                    await opened.close()
            else:
                self._opened[model_id] = opened
        return self._opened[model_id]

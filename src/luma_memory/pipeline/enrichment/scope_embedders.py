"""Which embedding model serves a scope while the model changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError, StoreUnavailable
from luma_memory.domain.scope import Scope
from luma_memory.ports.models import Embedder
from luma_memory.ports.vector_models import VectorModels

# How old what is known of a change may be.
REFRESH_SECONDS = 5.0


class ScopeEmbedders:
    """The configured embedder; and, for scopes that a change has not reached, the one before it.

    Vectors of different models cannot be compared. So until all of a scope's vectors are of the new
    model, its questions are asked and its blocks are embedded with the old one. Without a change
    under way this costs one small statement every 5 seconds.

    open_other: an embedder by its model's id; None where it cannot be had any more: then the
    configured one does all, and what is still of the other model is found by its words.
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
        """Who embeds this scope's questions and blocks now. Raises StoreUnavailable."""
        if self._clock.monotonic() >= self._valid_until:
            await self._refreshed()
        if not self._is_changing():
            return self._configured
        model_id = await self._models.of_scope(scope) or self._in_use[0]
        if model_id == self._model_id:
            return self._configured
        return await self._other(model_id) or self._configured

    async def still_serves(self, embedder: Embedder, scope: Scope) -> bool:
        """Whether a question embedded by it met the scope's vectors, asked after the scan.

        A scope that was just switched to the new model has none of the old one any more.
        """
        return not self._is_changing() or await self.of_scope(scope) is embedder

    async def close(self) -> None:
        """Close what was opened here; the configured one is somebody else's."""
        for embedder in self._opened.values():
            if embedder is not None:
                await embedder.close()

    def _is_changing(self) -> bool:
        return any(model_id != self._model_id for model_id in self._in_use)

    async def _refreshed(self) -> None:
        """One statement for all who come while it is under way: jobs begin by the dozen."""
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(self._has_refreshed)
        await asyncio.shield(self._refreshing)

    def _has_refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        if not task.cancelled():
            task.exception()  # looked at, also when nobody waits for it any more

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
            # Two may have come at once: the first one stays.
            if model_id in self._opened:
                if opened is not None:
                    await opened.close()
            else:
                self._opened[model_id] = opened
        return self._opened[model_id]

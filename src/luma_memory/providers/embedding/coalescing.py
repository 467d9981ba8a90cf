"""Embedding calls of concurrent jobs share a request."""

from __future__ import annotations

from collections.abc import Sequence

from luma_memory.domain.coalesce import Coalescer
from luma_memory.domain.enrichment import Embedding, EmbeddingModel
from luma_memory.domain.ports import Embedder

TEXTS_MAX = 2_048
# OpenAI allows 300,000 tokens a call; no text has fewer characters than tokens.
CHARACTERS_MAX = 300_000
# Enough to keep a provider with latency busy; more would only take its rate limit from others.
CALLS_MAX = 8


class CoalescingEmbedder:
    """`domain.ports.Embedder` in front of another one whose calls are worth sharing.

    One text the provider refuses fails its own job alone: the others are sent once more without it.
    """

    def __init__(
        self, inner: Embedder, *, jobs_max: int = TEXTS_MAX, calls_max: int = CALLS_MAX
    ) -> None:
        """jobs_max: whose texts share a call; calls_max: calls at the same time."""
        self._inner = inner
        self._calls: Coalescer[Sequence[str], Sequence[Embedding]] = Coalescer(
            self._embed_all,
            items_max=jobs_max,
            size_max=CHARACTERS_MAX,
            size_of=lambda texts: sum(map(len, texts)),
            flights_max=calls_max,
        )

    @property
    def model(self) -> EmbeddingModel:
        return self._inner.model

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Embedding]:
        return await self._calls.submit(texts) if texts else []

    async def embed_query(self, text: str) -> Embedding:
        return await self._inner.embed_query(text)

    async def close(self) -> None:
        await self._calls.close()
        await self._inner.close()

    async def _embed_all(self, calls: Sequence[Sequence[str]]) -> Sequence[Sequence[Embedding]]:
        embeddings = iter(
            await self._inner.embed_documents([text for texts in calls for text in texts])
        )
        return [[next(embeddings) for _ in texts] for texts in calls]

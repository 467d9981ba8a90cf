"""An embedder behind a breaker."""

from __future__ import annotations

from collections.abc import Sequence

from luma_memory.domain.enrichment import Embedding, EmbeddingModel
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.providers.breaker import Breaker
from luma_memory.providers.embedding.outcomes import OutcomeEmbedder


class GuardedEmbedder:
    """`OutcomeEmbedder` that does not call a provider known to be down."""

    def __init__(self, inner: OutcomeEmbedder, breaker: Breaker) -> None:
        self._inner = inner
        self._breaker = breaker

    @property
    def model(self) -> EmbeddingModel:
        return self._inner.model

    async def embed_each(self, texts: Sequence[str]) -> Sequence[Embedding | LumaMemoryError]:
        return await self._breaker.call(lambda: self._inner.embed_each(texts))

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Embedding]:
        return await self._breaker.call(lambda: self._inner.embed_documents(texts))

    async def embed_query(self, text: str) -> Embedding:
        return await self._breaker.call(lambda: self._inner.embed_query(text))

    async def close(self) -> None:
        await self._inner.close()

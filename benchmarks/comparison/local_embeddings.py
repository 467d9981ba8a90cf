"""The service's own local model for others' stores."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.embeddings import Embeddings

import luma_memory.single_thread_blas  # noqa: F401 - before anything imports numpy
from luma_memory.domain.enrichment import Embedding
from luma_memory.providers.embedding.local import LocalEmbedder


class LocalEmbeddings(Embeddings):
    """LangChain's interface of a `LocalEmbedder`, on an event loop of the caller's."""

    def __init__(self, embedder: LocalEmbedder) -> None:
        self._embedder = embedder
        self.dimensions = embedder.model.dimension

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return [_floats(found) for found in await self._embedder.embed_documents(texts)]

    async def aembed_query(self, text: str) -> list[float]:
        return _floats(await self._embedder.embed_query(text))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError


class Mem0Embedder:
    """What mem0's library calls, from threads other than the event loop's."""

    def __init__(self, embedder: LocalEmbedder, loop: asyncio.AbstractEventLoop) -> None:
        self._embedder = embedder
        self._loop = loop

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        del memory_action
        call: Any = self._embedder.embed_query(text)
        return _floats(asyncio.run_coroutine_threadsafe(call, self._loop).result())


def _floats(embedding: Embedding) -> list[float]:
    return [float(value) for value in embedding.vector]

"""A cache of query vectors: queries repeat, and each vector costs a call."""

from __future__ import annotations

import asyncio
import zlib
from array import array
from collections.abc import Sequence
from datetime import timedelta

import numpy as np

from luma_memory.domain.cache import CacheKey, embedding_key
from luma_memory.domain.enrichment import Embedding, EmbeddingModel, Vector
from luma_memory.domain.errors import CacheUnavailable, SetupError
from luma_memory.ports.cache import Cache
from luma_memory.ports.models import Embedder

_CHECKSUM_BYTES = 4
_UNIT_TOLERANCE = 1e-3


class CachingEmbedder:
    """`ports.models.Embedder` in front of another one. Documents pass through.

    A vector is kept in full (float32), so that a result does not depend on the origin of its vector
    It never expires: for one model, a text has one vector.
    """

    def __init__(self, inner: Embedder, cache: Cache, *, name: str, ttl: timedelta) -> None:
        """name: identifies the model and everything that changes its vectors."""
        self._inner = inner
        self._cache = cache
        self._name = name
        self._ttl = ttl
        self._storing: set[asyncio.Task[None]] = set()

    @property
    def model(self) -> EmbeddingModel:
        return self._inner.model

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Embedding]:
        return await self._inner.embed_documents(texts)

    async def embed_query(self, text: str) -> Embedding:
        key = embedding_key(self._name, text)
        try:
            kept = await self._cache.fetch(key)
        except CacheUnavailable:
            return await self._inner.embed_query(text)
        vector = decode_vector(kept) if kept is not None else None
        if vector is not None and self._fits(vector):
            return Embedding(vector)
        embedding = await self._inner.embed_query(text)
        storing = asyncio.create_task(self._keep(key, embedding.vector))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        return embedding

    async def close(self) -> None:
        await asyncio.gather(*self._storing)
        await self._inner.close()

    def _fits(self, vector: Vector) -> bool:
        try:
            return self._inner.model.dimension == len(vector)
        except SetupError:  # not known before the provider's first response
            return False

    async def _keep(self, key: CacheKey, vector: Vector) -> None:
        try:
            await self._cache.store(
                key, encode_vector(vector), ttl_seconds=self._ttl.total_seconds()
            )
        except CacheUnavailable:
            return  # costs only time


def encode_vector(vector: Vector) -> bytes:
    """Little-endian float32 behind their checksum."""
    data = np.asarray(vector, dtype="<f4").tobytes()
    return zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "little") + data


def decode_vector(value: bytes) -> Vector | None:
    """The unit vector that was encoded; None for anything else."""
    checksum, data = value[:_CHECKSUM_BYTES], value[_CHECKSUM_BYTES:]
    if (
        not data
        or len(data) % 4
        or zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "little") != checksum
    ):
        return None
    values = np.frombuffer(data, dtype="<f4").astype(np.float32)
    if not abs(float(np.linalg.norm(values)) - 1.0) < _UNIT_TOLERANCE:  # also NaN
        return None
    return array("f", values.tobytes())

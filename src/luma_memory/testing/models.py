"""An embedder and an enricher whose results depend on the text alone.

Both take a hook that is awaited before each result: a test counts, waits or raises there.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b

from luma_memory.domain.enrichment import (
    Embedding,
    EmbeddingModel,
    Enrichment,
    EnrichmentKind,
    EnrichmentRequest,
    Entity,
    Vector,
)

_TITLE_CHARACTERS_MAX = 120
_SUMMARY_CHARACTERS_MAX = 600
_TAGS_MAX = 10


async def _at_once(_given: object) -> None:
    return


class WordEmbedder:
    """`ports.models.Embedder`: a bag of words, so texts with common words have near vectors."""

    def __init__(
        self,
        *,
        model_id: str = "words-64",
        dimension: int = 64,
        names_speakers: bool = False,
        before: Callable[[Sequence[str]], Awaitable[None]] = _at_once,
    ) -> None:
        self._model = EmbeddingModel(
            id=model_id, dimension=dimension, max_tokens=256, names_speakers=names_speakers
        )
        self._before = before

    @property
    def model(self) -> EmbeddingModel:
        return self._model

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Embedding]:
        await self._before(texts)
        return [self._embedding(text) for text in texts]

    async def embed_query(self, text: str) -> Embedding:
        await self._before([text])
        return self._embedding(text)

    async def close(self) -> None:
        return

    def _embedding(self, text: str) -> Embedding:
        words = text.lower().split() or [""]
        return Embedding(_unit_vector(words, self._model.dimension), token_count=len(words))


class QuotingEnricher:
    """`ports.models.Enricher`: quotes the text it was given."""

    def __init__(
        self,
        *,
        kind: EnrichmentKind = "model",
        before: Callable[[EnrichmentRequest], Awaitable[None]] = _at_once,
    ) -> None:
        self._kind = kind
        self._before = before

    @property
    def kind(self) -> EnrichmentKind:
        return self._kind

    @property
    def name(self) -> str:
        return "quoting-1"

    async def enrich(self, request: EnrichmentRequest) -> Enrichment:
        await self._before(request)
        words = request.content.split() or ["empty"]
        return Enrichment(
            title=" ".join(words)[:_TITLE_CHARACTERS_MAX],
            summary=request.content[:_SUMMARY_CHARACTERS_MAX] or "empty",
            tags=list(dict.fromkeys(word.lower() for word in words))[:_TAGS_MAX],
            entities=[Entity(words[0], "other"), Entity("today", "date", "2023-05-07")],
            importance=0.5,
            language="en",
            model=self.name,
        )

    async def close(self) -> None:
        return


def _unit_vector(words: Sequence[str], dimension: int) -> Vector:
    values = [0.0] * dimension
    for word in words:
        values[
            int.from_bytes(blake2b(word.encode(), digest_size=4).digest(), "big") % dimension
        ] += 1
    length = math.hypot(*values)
    return array("f", [value / length for value in values])

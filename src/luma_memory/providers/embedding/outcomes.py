"""One outcome per text: the result of a shared call for each of its callers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from luma_memory.domain.enrichment import Embedding
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.ports.models import Embedder


class OutcomeEmbedder(Embedder, Protocol):
    """An embedder that reports invalid vectors text by text."""

    async def embed_each(self, texts: Sequence[str]) -> Sequence[Embedding | LumaMemoryError]:
        """In the order of the texts. Raises errors of the whole call."""
        ...


def all_or_first_error(outcomes: Sequence[Embedding | LumaMemoryError]) -> Sequence[Embedding]:
    """The embeddings. Raises the first error among them."""
    embeddings: list[Embedding] = []
    for outcome in outcomes:
        if isinstance(outcome, LumaMemoryError):
            raise outcome
        embeddings.append(outcome)
    return embeddings

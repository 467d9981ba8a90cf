"""One outcome a text: what a shared call tells each of those who share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from luma_memory.domain.enrichment import Embedding
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.ports.models import Embedder


class OutcomeEmbedder(Embedder, Protocol):
    """An embedder that tells texts whose vectors are spoilt from those that are well."""

    async def embed_each(self, texts: Sequence[str]) -> Sequence[Embedding | LumaMemoryError]:
        """In the order of the texts. Raises what concerns all of them."""
        ...


def all_or_first_error(outcomes: Sequence[Embedding | LumaMemoryError]) -> Sequence[Embedding]:
    """The embeddings. Raises the first error among them."""
    embeddings: list[Embedding] = []
    for outcome in outcomes:
        if isinstance(outcome, LumaMemoryError):
            raise outcome
        embeddings.append(outcome)
    return embeddings

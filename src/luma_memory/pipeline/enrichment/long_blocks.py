"""Vectors of long blocks, computed and stored part by part.

A block of 100,000 characters has hundreds of passages, and on a busy machine one run of its job is
too short to embed them all. So a run embeds and stores part after part for a while, then defers
itself without spending an attempt; the next run, in any process, continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from luma_memory.domain.block import BlockToEnrich, PassagePlace
from luma_memory.domain.clock import Clock
from luma_memory.domain.enrichment import Embedding, ModelCall
from luma_memory.domain.errors import LumaMemoryError, StoreUnavailable
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.ports.blocks import BlockStore
from luma_memory.ports.models import Embedder

Embed = Callable[[Embedder, BlockToEnrich, Sequence[PassagePlace]], Awaitable[Sequence[Embedding]]]

# Blocks with at most this many passages are embedded at once; longer ones start with parts of this
# size.
PART_PASSAGES_MIN: Final = 16
# One call of a provider.
PART_PASSAGES_MAX: Final = 128
# Parts grow while they take less than this, and shrink when they take more.
PART_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The remaining passages of a block."""

    left: Sequence[PassagePlace]
    is_time_up: bool = False
    error: LumaMemoryError | None = None  # that ended the last part


class LongBlocks:
    """Embeds the passages of long blocks, all but the last part.

    embed: embeds some passages within the provider timeout. slice_seconds: how
    long one run continues; None: to the end, because no other run would follow.
    """

    def __init__(
        self,
        store: BlockStore,
        embed: Embed,
        *,
        slice_seconds: float | None,
        spending: Spending | None,
        clock: Clock,
    ) -> None:
        self._store = store
        self._embed = embed
        self._slice_seconds = slice_seconds
        self._spending = spending
        self._clock = clock

    async def advance(
        self, embedder: Embedder, block: BlockToEnrich, passages: Sequence[PassagePlace]
    ) -> Progress:
        """Embed and store passages until at most one part is left, or the time is up.

        Raises StoreUnavailable; an error of the provider is part of the result.
        """
        if len(passages) <= PART_PASSAGES_MIN:
            return Progress(passages)
        model_id = embedder.model.id
        stored = await self._store.embedded_ordinals(block.scope, block.id, model_id)
        left = [passage for passage in passages if passage.ordinal not in stored]
        size, started = PART_PASSAGES_MIN, self._clock.monotonic()
        while len(left) > PART_PASSAGES_MIN:
            before = self._clock.monotonic()
            try:
                is_stored = await self._part(embedder, block, left[:size])
            except StoreUnavailable:
                raise
            except LumaMemoryError as error:
                return Progress(left, error=error)
            if not is_stored:  # edited, deleted or stored otherwise: to be embedded at once
                return Progress(left)
            left = left[size:]
            now = self._clock.monotonic()
            size = _next_size(size, now - before)
            if self._slice_seconds is not None and now - started >= self._slice_seconds:
                return Progress(left, is_time_up=True)
        return Progress(left)

    async def _part(
        self, embedder: Embedder, block: BlockToEnrich, passages: Sequence[PassagePlace]
    ) -> bool:
        """Embed and store one part; whether all of its vectors were stored."""
        embeddings = await self._embed(embedder, block, passages)
        if self._spending is not None:
            tokens = sum(embedding.token_count for embedding in embeddings)
            call = ModelCall(embedder.model.id, tokens)
            self._spending.record(block.scope, "embedding", [call], blocks=0)
        vectors = {
            passage.ordinal: embedding.vector
            for passage, embedding in zip(passages, embeddings, strict=True)
        }
        stored = await self._store.store_vectors(
            block.scope, block.id, vectors, revision=block.revision, model_id=embedder.model.id
        )
        return stored == len(vectors)


def _next_size(size: int, seconds: float) -> int:
    if seconds > PART_SECONDS:
        return max(size // 2, PART_PASSAGES_MIN)
    return min(size * 2, PART_PASSAGES_MAX) if 2 * seconds < PART_SECONDS else size

"""The passages of a block that is being enriched.

A long block is processed in several runs of its job. Each needs the places of its passages, which
are found in milliseconds; only the last one needs their terms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from luma_memory.domain.block import BlockToEnrich, PassagePlace
from luma_memory.pipeline.ingest.indexing import index_passages
from luma_memory.pipeline.ingest.passages import split_passages
from luma_memory.pipeline.text.terms import DEFAULT_LANGUAGE

# Terms of longer texts are computed in a thread: 100,000 characters of Chinese take a second.
_INLINE_CHARACTERS_MAX: Final = 10_000


def passage_places(block: BlockToEnrich) -> Sequence[PassagePlace]:
    """The places of the block's passages, without terms."""
    if block.is_indexed:
        return [PassagePlace(0, 0, len(block.content))]
    return [
        PassagePlace(ordinal, passage.start, passage.stop)
        for ordinal, passage in enumerate(split_passages(block.content))
    ]


async def with_terms(
    block: BlockToEnrich, places: Sequence[PassagePlace], language: str
) -> Sequence[PassagePlace]:
    """The passages with their terms in that language, unless ingest has stored these already."""
    if block.is_indexed and language == DEFAULT_LANGUAGE:
        return places
    indexed = partial(
        index_passages,
        block.content,
        speaker=block.speaker,
        occurred_at=block.occurred_at,
        language=language,
    )
    is_long = len(block.content) > _INLINE_CHARACTERS_MAX
    return await asyncio.to_thread(indexed) if is_long else indexed()

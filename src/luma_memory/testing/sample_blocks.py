"""Blocks and ingest items with defaults for everything a test does not set."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from luma_memory.domain.block import IngestItem, NewBlock
from luma_memory.domain.ids import IdMaker
from luma_memory.domain.scope import DEFAULT_PROJECT, Scope
from luma_memory.pipeline.ingest.indexing import index_passages

OCCURRED_AT = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
_ids = IdMaker()


def new_block(
    content: str = "Caroline adopted a grey cat.",
    *,
    user_id: str = "caroline",
    project_id: str = DEFAULT_PROJECT,
    **fields: Any,
) -> NewBlock:
    """fields: those of NewBlock."""
    return NewBlock(
        scope=Scope(project_id, user_id), content=content, **{"occurred_at": OCCURRED_AT} | fields
    )


def ingest_item(block: NewBlock | None = None) -> IngestItem:
    """The block (or a sample) as the API passes it to the store, under a new id."""
    block = block or new_block()
    return IngestItem(
        id=_ids.make(),
        block=block,
        content_hash=hashlib.sha256(block.content.encode()).digest(),
        passages=index_passages(
            block.content, speaker=block.speaker, occurred_at=block.occurred_at
        ),
    )

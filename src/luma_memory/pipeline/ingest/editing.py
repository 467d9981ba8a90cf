"""Edit and delete blocks."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from luma_memory.domain.block import Block
from luma_memory.domain.errors import Conflict, NotFound, PreconditionFailed, StoreContended
from luma_memory.domain.local_time import utc_offset_minutes
from luma_memory.domain.revision import RevisionPage
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.ingest.indexing import index_passages
from luma_memory.pipeline.ingest.ingest import INLINE_CHARACTERS_MAX
from luma_memory.ports.blocks import BlockEditor, BlockStore
from luma_memory.ports.jobs import JobSignal

# The fields that the search terms are built from.
INDEXED_FIELDS: Final = frozenset({"content", "speaker", "occurred_at"})
# An edit without an expected revision is retried after a concurrent one.
_TRIES: Final = 5


class Editing:
    """Raises NotFound, Conflict (code block_is_item), PreconditionFailed (code revision_mismatch)
    and StoreUnavailable."""

    def __init__(self, editor: BlockEditor, store: BlockStore, *, signal: JobSignal) -> None:
        self._editor = editor
        self._store = store
        self._signal = signal

    async def edit(
        self,
        scope: Scope,
        block_id: UUID,
        changes: Mapping[str, Any],
        *,
        revision: int | None,
        changed_by: str,
    ) -> Block:
        """Edit fields of a block; returns the edited block.

        changes: new values by field. revision: the expected revision, None for any. Edited text is
        searchable at once and enriched again. An edit without a difference creates no revision.
        """
        for _ in range(_TRIES):
            block = await self._read(scope, block_id)
            if block.key is not None:
                raise Conflict(
                    "This block is an item: replace it by PUT /items", code="block_is_item"
                )
            if revision is not None and block.revision != revision:
                raise _mismatch(block.revision)
            different = {
                name: value for name, value in changes.items() if getattr(block, name) != value
            }
            if not different or await self._write(block, different, changed_by):
                return await self._read(scope, block_id) if different else block
        raise StoreContended("This block is being edited concurrently")

    async def delete(self, scope: Scope, block_id: UUID, *, revision: int | None) -> None:
        """Delete a block with its revisions, relations and everything else that refers to it."""
        outcome = await self._editor.delete(scope, block_id, revision=revision)
        if outcome == "missing":
            raise _missing()
        if outcome == "stale":
            raise _mismatch(None)

    async def revisions(
        self, scope: Scope, block_id: UUID, *, below: int | None, limit: int
    ) -> RevisionPage:
        """The earlier revisions of a block, newest first."""
        await self._read(scope, block_id)
        return await self._editor.revisions(scope, block_id, below=below, limit=limit)

    async def _read(self, scope: Scope, block_id: UUID) -> Block:
        (block,) = await self._store.read([(scope, block_id)])
        if block is None:
            raise _missing()
        return block

    async def _write(self, block: Block, changes: Mapping[str, Any], changed_by: str) -> bool:
        after = replace(block, **changes)
        is_reindexed = bool(INDEXED_FIELDS & changes.keys())
        is_written = await self._editor.edit(
            block.scope,
            block.id,
            revision=block.revision,
            changed_by=changed_by,
            changes=_stored(changes),
            content_hash=hashlib.sha256(after.content.encode()).digest(),
            passages=await _passages(after) if is_reindexed else None,
        )
        if is_written:
            self._signal.notify(block.scope)
        return is_written


async def _passages(block: Block) -> Any:
    def make() -> Any:
        return index_passages(block.content, speaker=block.speaker, occurred_at=block.occurred_at)

    return make() if len(block.content) <= INLINE_CHARACTERS_MAX else await asyncio.to_thread(make)


def _stored(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes in the names of the columns."""
    stored = {name: _json(value) for name, value in changes.items()}
    if "occurred_at" in changes:
        stored["utc_offset_minutes"] = utc_offset_minutes(changes["occurred_at"])
    return stored


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _missing() -> NotFound:
    return NotFound("There is no such block of this user", code="block_not_found")


def _mismatch(revision: int | None) -> PreconditionFailed:
    now = "another revision" if revision is None else f"revision {revision}"
    return PreconditionFailed(f"The block now has {now}", code="revision_mismatch")

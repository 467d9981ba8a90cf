"""Blocks in mem0's form: memories, their history, and what an add returns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

from luma_memory.api.mem0.owners import owner_of
from luma_memory.domain.block import Block
from luma_memory.domain.revision import BlockRevision

# Where an application's id is kept; the importer of mem0's exports keeps it there as well.
APP_ID: Final = "app_id"
_CATEGORIES: Final = "categories"


def memory(block: Block, *, score: float | None = None) -> dict[str, Any]:
    """One memory. score: of a search, in [0, 1]."""
    owner = owner_of(block.user_id)
    app_id = block.metadata.get(APP_ID)
    stored = block.metadata.get(_CATEGORIES)
    categories = stored if isinstance(stored, list) else list(block.tags)
    found: dict[str, Any] = {
        "id": str(block.id),
        "memory": block.content,
        "user_id": owner.name if owner.kind == "user" else None,
        "agent_id": block.agent_id,
        "app_id": app_id if isinstance(app_id, str) else None,
        "run_id": block.session_id,
        "actor_id": block.speaker,
        "hash": hashlib.md5(block.content.encode(), usedforsecurity=False).hexdigest(),
        "metadata": dict(block.metadata) or None,
        "categories": categories,
        "created_at": _iso(block.occurred_at),
        "updated_at": _iso(block.updated_at),
        "expiration_date": _day(block.expires_at),
    }
    return found if score is None else {**found, "score": score}


def only(found: dict[str, Any], fields: Sequence[str] | None) -> dict[str, Any]:
    """A memory with its id and these fields only; all of them for None."""
    if not fields:
        return found
    requested = {"id", *fields}
    return {name: value for name, value in found.items() if name in requested}


def history(block: Block, revisions: Sequence[BlockRevision]) -> list[dict[str, Any]]:
    """A memory's changes, oldest first: it was added, then each edit by a client.

    revisions: newest first. What the service derives (tags, summary) is no change of the memory.
    """
    edits = [one for one in reversed(revisions) if one.reason == "edit"]
    texts = [str(one.before.get("content", block.content)) for one in edits]
    texts.append(block.content)
    entries = [_change(block, "ADD", 0, None, texts[0], block.created_at)]
    for number, edit in enumerate(edits):
        old, new = texts[number], texts[number + 1]
        entries.append(_change(block, "UPDATE", edit.id, old, new, edit.created_at))
    return entries


def _change(
    block: Block, event: str, number: int, old: str | None, new: str, at: datetime
) -> dict[str, Any]:
    owner = owner_of(block.user_id)
    return {
        # Stable: the same change has the same id at each call.
        "id": str(uuid5(block.id, str(number))),
        "memory_id": str(block.id),
        "input": [{"role": block.speaker or "user", "content": new}],
        "old_memory": old,
        "new_memory": new,
        "user_id": owner.name if owner.kind == "user" else None,
        "categories": list(block.tags),
        "metadata": dict(block.metadata) or None,
        "event": event,
        "actor_id": block.speaker,
        "role": block.speaker,
        "is_deleted": False,
        "created_at": _iso(block.created_at if event == "ADD" else at),
        "updated_at": _iso(at),
    }


def added(block_id: UUID, text: str, *, is_new: bool) -> dict[str, Any]:
    """One result of an add. NOOP: the same block was sent before, and this is its id."""
    event = "ADD" if is_new else "NOOP"
    return {"id": str(block_id), "memory": text, "data": {"memory": text}, "event": event}


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()


def _day(expires_at: datetime | None) -> str | None:
    """The last whole day of a memory: it expires when that day ends."""
    if expires_at is None:
        return None
    return (expires_at.astimezone(UTC) - timedelta(microseconds=1)).date().isoformat()

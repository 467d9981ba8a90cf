"""Chat turns as requests, and as the items that the pipeline passes to the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.chat import Turn
from benchmarks.client import post
from luma_memory.domain.block import IngestItem, NewBlock
from luma_memory.domain.scope import DEFAULT_PROJECT, Scope
from luma_memory.testing.sample_blocks import ingest_item

SESSION_TURNS = 20
_FIRST = datetime(2025, 3, 3, 9, 0, tzinfo=UTC)


def block_body(turn: Turn, user_id: str, number: int) -> dict[str, Any]:
    """What a chat application sends for its `number`th turn."""
    return {
        "user_id": user_id,
        "content": turn.content,
        "speaker": turn.speaker,
        "session_id": _session(number),
        "occurred_at": _occurred_at(number).isoformat(),
    }


def block_request(
    turn: Turn, user_id: str, number: int, *, path: str = "/blocks", key: str | None = None
) -> bytes:
    return post(path, block_body(turn, user_id, number), key=key)


def stored_item(turn: Turn, user_id: str, number: int) -> IngestItem:
    """The same turn after ingest: with its id, hash and term weights."""
    return ingest_item(
        NewBlock(
            scope=Scope(DEFAULT_PROJECT, user_id),
            content=turn.content,
            occurred_at=_occurred_at(number),
            repeats_since=_occurred_at(number),
            session_id=_session(number),
            speaker=turn.speaker,
        )
    )


def stored_items(some: Sequence[Turn], user_id: str) -> list[IngestItem]:
    return [stored_item(turn, user_id, number) for number, turn in enumerate(some)]


def _session(number: int) -> str:
    return f"session-{number // SESSION_TURNS}"


def _occurred_at(number: int) -> datetime:
    return _FIRST + timedelta(minutes=number)

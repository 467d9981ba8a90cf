"""Answers that can be had again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from luma_memory.domain.scope import Scope


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A write that came with an Idempotency-Key."""

    scope: Scope  # user_id is "" for a request about the project
    key: str
    operation: str  # "PATCH /blocks/{block_id}"
    request_hash: bytes  # SHA-256 of everything the request said
    block_id: UUID | None  # which block it is about, if one


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    body: str

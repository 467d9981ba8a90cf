"""Responses that are stored for requests with an Idempotency-Key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from luma_memory.domain.scope import Scope


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A write that carries an Idempotency-Key."""

    scope: Scope  # user_id is "" for a request on the project
    key: str
    operation: str  # "PATCH /blocks/{block_id}"
    request_hash: bytes  # SHA-256 of the whole request
    block_id: UUID | None  # the block the request is about, if any


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as it was sent the first time."""

    status: int
    headers: Mapping[str, str]
    body: str

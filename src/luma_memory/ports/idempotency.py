"""Stored responses of requests that carry an Idempotency-Key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from luma_memory.domain.stored_response import KeyedRequest, StoredResponse


class ResponseStore(Protocol):
    """Responses by idempotency key."""

    async def once(
        self, request: KeyedRequest, work: Callable[[], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        """The response of `work`, which runs once per key however often the request is repeated.

        Work and response are one transaction: a failure is not stored, and a crash leaves neither.
        Raises Invalid (code idempotency_key_reused) for another request with that key,
        StoreUnavailable, and what `work` raises.
        """
        ...

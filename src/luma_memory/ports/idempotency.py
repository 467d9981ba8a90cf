"""Stored responses of requests that carry an Idempotency-Key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from luma_memory.domain.answer import Answer, KeyedRequest


class AnswerStore(Protocol):
    """Remembered answers."""

    async def once(self, request: KeyedRequest, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of `work`, which is done once for a key, whoever asks and how often.

        Work and answer are one transaction: what fails is not remembered, and a crash leaves
        neither. Raises Invalid (code idempotency_key_reused) for another request with that key,
        StoreUnavailable, and what `work` raises.
        """
        ...

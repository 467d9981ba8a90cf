"""Reject calls above a rate limit."""

from __future__ import annotations

from luma_memory.concurrency.token_buckets import TokenBuckets
from luma_memory.domain.errors import QuotaExceeded


def check_rate(buckets: TokenBuckets, name: str, message: str, *, code: str) -> None:
    """Count one use. Raises QuotaExceeded with `message` and `code` above the limit."""
    wait_seconds = buckets.take(name)
    if wait_seconds:
        raise QuotaExceeded(
            f"{message}: {buckets.per_minute} a minute are allowed",
            code=code,
            retry_after_seconds=wait_seconds,
        )

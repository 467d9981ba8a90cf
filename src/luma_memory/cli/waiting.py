"""Wait until blocks are enriched, without slowing the workers down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from luma_memory.cli.output import Bar
from luma_memory.cli.service import ServiceClient
from luma_memory.domain.errors import UnavailableError
from luma_memory.protocol.blocks import BlockBody
from luma_memory.protocol.health import HealthBody

# Model providers can be slow, but a queue without progress for this long is an error.
STALLED_SECONDS_MAX = 120.0
_POLL_SECONDS = 0.1
_FAILED_SHOWN_MAX = 200


def nothing_to_check() -> None:
    """The check for a service that was not started by this command."""


async def wait_until_enriched(
    client: ServiceClient,
    users: Sequence[str],
    bar: Bar,
    *,
    check: Callable[[], None] = nothing_to_check,
) -> None:
    """Return when none of the users has a pending block; `bar` shows the progress.

    check: called in every round; raises when waiting has become pointless. The bar follows the
    queue of the whole service, which is cheap to read; the users' own blocks decide when to return.
    Raises UnavailableError when the queue makes no progress.
    """
    waiting = list(dict.fromkeys(users))
    stall = _StallCheck()
    while True:
        check()
        waiting = await _still_pending(client, waiting)
        if not waiting:
            break
        health = await client.health()
        stall.check(health)
        bar.show(_done(bar, health))
        await asyncio.sleep(_POLL_SECONDS)
    bar.show(bar.total or 0)


async def wait_until_derived(
    client: ServiceClient, users: Sequence[str], *, check: Callable[[], None] = nothing_to_check
) -> None:
    """Return when session windows and relations are done, too; their jobs run after all blocks.

    Does not wait for failed jobs, nor for relation detections deferred by the hourly limit. Raises
    UnavailableError when the queue makes no progress.
    """
    stall = _StallCheck()
    for user in dict.fromkeys(users):
        while await client.has_jobs_due(user, "reembed", "detect_relations"):
            check()
            stall.check(await client.health())
            await asyncio.sleep(_POLL_SECONDS)


async def failed_blocks(client: ServiceClient, users: Sequence[str]) -> list[BlockBody]:
    """Failed blocks, at most 200 per user."""
    pages = [
        await client.list_blocks(user, status="failed", limit=_FAILED_SHOWN_MAX)
        for user in dict.fromkeys(users)
    ]
    return [block for page in pages for block in page.blocks]


async def _still_pending(client: ServiceClient, users: Sequence[str]) -> list[str]:
    """The users without the leading ones that have no pending block."""
    for index, user in enumerate(users):
        page = await client.list_blocks(user, status="pending_enrichment", limit=1)
        if page.blocks:
            return list(users[index:])
    return []


def _done(bar: Bar, health: HealthBody) -> int:
    if bar.total is None or health.queue_stats is None:
        return bar.done
    open_jobs = health.queue_stats.pending + health.queue_stats.processing
    return max(0, bar.total - open_jobs)


class _StallCheck:
    """Raises when no job has ended for STALLED_SECONDS_MAX."""

    def __init__(self) -> None:
        self._completed = -1
        self._since = time.monotonic()

    def check(self, health: HealthBody) -> None:
        stats = health.queue_stats
        completed = stats.completed + stats.failed if stats else self._completed
        if completed != self._completed:
            self._completed, self._since = completed, time.monotonic()
        if time.monotonic() - self._since < STALLED_SECONDS_MAX:
            return
        reason = "a worker is running" if health.worker_running else "no worker is running"
        raise UnavailableError(
            f"No block was enriched for {STALLED_SECONDS_MAX:.0f} s ({reason}); run"
            " `luma-memory doctor`",
            code="enrichment_stalled",
        )

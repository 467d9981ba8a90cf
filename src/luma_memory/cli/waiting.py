"""Wait until blocks are enriched, without slowing down who enriches them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from luma_memory.cli.output import Bar
from luma_memory.cli.service import ServiceClient
from luma_memory.domain.errors import UnavailableError
from luma_memory.protocol.blocks import BlockBody
from luma_memory.protocol.health import HealthBody

# A model provider may take its time; a queue that stands still for this long is told, not awaited.
STALLED_SECONDS_MAX = 120.0
_POLL_SECONDS = 0.1
_FAILED_SHOWN_MAX = 200


def nothing_to_check() -> None:
    """No child to look after."""


async def wait_until_enriched(
    client: ServiceClient,
    users: Sequence[str],
    bar: Bar,
    *,
    check: Callable[[], None] = nothing_to_check,
) -> None:
    """Return when none of the users has a block pending; `bar` counts blocks, `bar.total` of them.

    check: called at every look; raises when waiting has become pointless. The bar follows the
    queue of the whole service, which costs it nothing to tell, the end is told by the users' own
    blocks. Raises UnavailableError when the queue stands still.
    """
    waiting = list(dict.fromkeys(users))
    patience = _Patience()
    while True:
        check()
        waiting = await _still_pending(client, waiting)
        if not waiting:
            break
        health = await client.health()
        patience.look(health)
        bar.show(_done(bar, health))
        await asyncio.sleep(_POLL_SECONDS)
    bar.show(bar.total or 0)


async def wait_until_worked_through(
    client: ServiceClient, users: Sequence[str], *, check: Callable[[], None] = nothing_to_check
) -> None:
    """Return when windows of sessions have their vectors and blocks their relations, too.

    Their jobs come after all blocks. What fails is not waited for, and neither are detections that
    the limit of an hour makes wait. Raises UnavailableError when the queue stands still.
    """
    patience = _Patience()
    for user in dict.fromkeys(users):
        while await client.has_jobs_due(user, "reembed", "detect_relations"):
            check()
            patience.look(await client.health())
            await asyncio.sleep(_POLL_SECONDS)


async def failed_blocks(client: ServiceClient, users: Sequence[str]) -> list[BlockBody]:
    """Blocks that ended as failed, at most 200 a user."""
    pages = [
        await client.list_blocks(user, status="failed", limit=_FAILED_SHOWN_MAX)
        for user in dict.fromkeys(users)
    ]
    return [block for page in pages for block in page.blocks]


async def _still_pending(client: ServiceClient, users: Sequence[str]) -> list[str]:
    """The users from the first one on that has a block pending."""
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


class _Patience:
    """Runs out when nothing has been completed for a while."""

    def __init__(self) -> None:
        self._completed = -1
        self._since = time.monotonic()

    def look(self, health: HealthBody) -> None:
        stats = health.queue_stats
        completed = stats.completed + stats.failed if stats else self._completed
        if completed != self._completed:
            self._completed, self._since = completed, time.monotonic()
        if time.monotonic() - self._since < STALLED_SECONDS_MAX:
            return
        reason = "a worker is running" if health.worker_running else "no worker is running"
        raise UnavailableError(
            f"No block was enriched for {STALLED_SECONDS_MAX:.0f} s ({reason}): see"
            " `luma-memory doctor`",
            code="enrichment_stalled",
        )

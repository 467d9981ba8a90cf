"""Notifications: after the commit, few, and never relied upon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import asyncpg
import pytest

from luma_memory.postgres.database import Database
from luma_memory.queue.signal import CHANNEL, INTERVAL_SECONDS, Listener, Notifier


class Heard:
    """Counts what a Listener hears."""

    def __init__(self) -> None:
        self.count = 0
        self.event = asyncio.Event()

    def __call__(self, _partitions: Sequence[int]) -> None:
        self.count += 1
        self.event.set()

    async def once_more(self) -> None:
        await asyncio.wait_for(self.event.wait(), timeout=60)
        self.event.clear()


@pytest.fixture
async def heard(connection: asyncpg.Connection) -> Heard:
    heard = Heard()
    await Listener(heard).attach(connection)
    return heard


@pytest.fixture
async def notifier(database: Database) -> AsyncIterator[Notifier]:
    notifier = Notifier(database)
    yield notifier
    await notifier.stop()


async def _notifier_backend(looking: asyncpg.Connection) -> int | None:
    """Whose last statement was our NOTIFY."""
    pid: int | None = await looking.fetchval(
        "SELECT pid FROM pg_stat_activity WHERE query = $1 AND datname = current_database()",
        f"NOTIFY {CHANNEL}",
    )
    return pid


async def test_a_notification_is_heard_every_time(notifier: Notifier, heard: Heard) -> None:
    for _ in range(3):
        notifier.notify()
        await heard.once_more()


async def test_many_notifications_become_few(notifier: Notifier, heard: Heard) -> None:
    notifier.notify()
    await heard.once_more()
    for _ in range(1_000):
        notifier.notify()
    await heard.once_more()
    # Another one after the interval shows that no notification was still in transit.
    notifier.notify()
    await heard.once_more()
    assert heard.count <= 4
    assert INTERVAL_SECONDS >= 0.05


async def test_the_payload_is_empty(notifier: Notifier, connection: asyncpg.Connection) -> None:
    payloads: asyncio.Queue[object] = asyncio.Queue()
    await connection.add_listener(CHANNEL, lambda *details: payloads.put_nowait(details[-1]))
    notifier.notify()
    assert await asyncio.wait_for(payloads.get(), timeout=60) == ""


async def test_a_notification_on_a_cut_connection_is_sent_on_the_next(
    notifier: Notifier,
    heard: Heard,
    dsn: str,
) -> None:
    notifier.notify()
    await heard.once_more()
    looking: asyncpg.Connection = await asyncpg.connect(dsn)
    backend = await _notifier_backend(looking)
    assert await looking.fetchval("SELECT pg_terminate_backend($1, 60000)", backend)
    await looking.close()
    notifier.notify()
    await heard.once_more()


async def test_stopping_is_harmless_in_any_order(
    connect_database: Callable[[], Database],
) -> None:
    notifier = Notifier(connect_database())
    await notifier.stop()
    notifier.notify()
    await notifier.stop()
    await notifier.stop()


async def test_a_notification_without_a_database_neither_blocks_nor_raises() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nowhere", acquire_timeout_seconds=5)
    notifier = Notifier(database)
    notifier.notify()
    await asyncio.sleep(0)
    await notifier.stop()

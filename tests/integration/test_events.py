"""Events in the database: written with what they report, in order, gone after an erasure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import ingest, working

from luma_memory.domain.job import Job
from luma_memory.domain.webhook import Response, Webhook
from luma_memory.pipeline.webhooks.deliver import DeliverWebhooks
from luma_memory.postgres.database import Database
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.store.webhooks import PostgresDeliveryStore, PostgresWebhookStore
from luma_memory.telemetry.events import JobCompleted, WebhookDisabled
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.sample_blocks import new_block

pytestmark = every_postgres
HOUR = timedelta(hours=1)


class Sends:
    """`ports.webhooks.WebhookSender` that keeps what is sent. status: of all responses."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.bodies: list[bytes] = []
        self.ids: list[str] = []

    async def send(self, _url: str, *, body: bytes, headers: dict[str, str]) -> Response:
        await asyncio.sleep(0)
        self.bodies.append(body)
        self.ids.append(headers["webhook-id"])
        return Response(self.status, None if self.status < 300 else "no")


class Ahead:
    """domain.clock.Clock, ahead of the database's, so that what was just written is due."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC) + timedelta(minutes=10)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return 0.0

    def move(self, by: timedelta) -> None:
        self._now += by


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection: asyncpg.Connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def webhook(database: Database, **fields: Any) -> Webhook:
    now = datetime.now(UTC)
    empty = dict.fromkeys(
        (
            *("user_id", "description", "created_by", "previous_secret_until", "disabled_at"),
            *("disabled_reason", "failing_since", "circuit_until", "last_success_at"),
        )
    )
    values: dict[str, Any] = {
        **empty,
        "id": uuid4(),
        "project_id": "default",
        "url": "https://example.com",
        "event_types": (),
        "include_content": False,
        "secret_version": 1,
        "created_at": now,
        "updated_at": now,
        "failures": 0,
        **fields,
    }
    created = Webhook(**values)
    assert await PostgresWebhookStore(database).create(created, webhooks_max=50)
    return created


def handler(
    database: Database, sender: Sends, clock: Ahead, events: EventLog | None = None
) -> DeliverWebhooks:
    return DeliverWebhooks(
        PostgresDeliveryStore(database),
        sender,
        root=b"root",
        unit=timedelta(seconds=5),
        request_seconds=15,
        clock=clock,
        emit=events or EventLog(),
    )


async def claimed(database: Database) -> list[Job]:
    queue = PostgresJobQueue(database)
    return list(
        await queue.claim("w", limit=100, lease=HOUR, job_types=["deliver_webhook"], rescue=False)
    )


async def record(connection: asyncpg.Connection, *users: str, kind: str = "block.active") -> None:
    await connection.execute(
        "SELECT record_memory_events($1, $2, $3, $4, NULL)",
        kind,
        ["default"] * len(users),
        list(users),
        [uuid4() for _ in users],
    )


async def test_without_a_subscriber_nothing_is_written(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database)
    async with working(database) as worker:
        await worker.events.wait_for(JobCompleted)
    assert await connection.fetchval("SELECT count(*) FROM memory_events") == 0
    # Nor of another project, another user, another type.
    await webhook(database, project_id="other")
    await webhook(database, user_id="bob")
    await webhook(database, event_types=["job.failed"])
    await ingest(database, new_block(content="Another one."))
    async with working(database) as worker:
        await worker.events.wait_for(JobCompleted)
    for table in ("memory_events", "memory_webhook_deliveries"):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert not await claimed(database)


async def test_what_is_rolled_back_has_no_event(
    database: Database, connection: asyncpg.Connection
) -> None:
    await webhook(database)
    transaction = connection.transaction()
    await transaction.start()
    await record(connection, "ada")
    await transaction.rollback()
    await record(connection, "bob")
    sender = Sends()
    (job,) = await claimed(database)
    await handler(database, sender, Ahead())(job)
    assert [b'"bob"' in body for body in sender.bodies] == [True]


async def test_one_job_delivers_a_users_events_in_order(
    database: Database, connection: asyncpg.Connection
) -> None:
    await webhook(database)
    blocks = [new_block(content=f"Number {n}.", user_id=f"u{n % 3}") for n in range(60)]
    await ingest(database, *blocks)
    async with working(database) as worker:
        await worker.events.wait_for(JobCompleted, count=60)
    order = await connection.fetch("SELECT event_id, user_id FROM memory_events ORDER BY id")
    sender = Sends()
    for job in await claimed(database):
        await handler(database, sender, Ahead())(job)
    assert len(set(sender.ids)) == len(sender.ids) == 60
    for user in ("u0", "u1", "u2"):
        expected = [f"evt_{row['event_id'].hex}" for row in order if row["user_id"] == user]
        assert [event_id for event_id in sender.ids if event_id in expected] == expected


async def test_a_webhook_is_locked_by_one_job_and_free_once_that_is_gone(
    database: Database, connection: asyncpg.Connection
) -> None:
    created = await webhook(database)
    await record(connection, "ada")
    await record(connection, "ada")
    first, second = await claimed(database)
    store, clock = PostgresDeliveryStore(database), Ahead()
    now = clock.now()
    assert await store.hold(created.id, job_id=first.id, now=now, until=now + HOUR)
    assert await store.hold(created.id, job_id=second.id, now=now, until=now + HOUR) is None
    # Its worker was killed, and another one has claimed it: the same job.
    assert await store.hold(created.id, job_id=first.id, now=now, until=now + HOUR)
    await connection.execute("DELETE FROM memory_jobs WHERE id = $1", first.id)
    sender = Sends()
    await handler(database, sender, clock)(second)
    assert len(sender.ids) == 2


async def test_retries_wait_and_a_failing_receiver_is_disabled_in_the_end(
    database: Database, connection: asyncpg.Connection
) -> None:
    created = await webhook(database)
    await record(connection, "ada")
    sender, clock, events = Sends(500), Ahead(), EventLog()
    store = PostgresDeliveryStore(database)
    hours = 0
    while not events.of(WebhookDisabled):
        for job in await claimed(database):
            await handler(database, sender, clock, events)(job)
            await PostgresJobQueue(database).complete("w", [job])
        assert await store.prompt(clock.now()) == (True, 0), "nothing is due yet"
        clock.move(HOUR)
        hours += 1
        await store.prompt(clock.now())
        assert hours < 100
    # The short waits of the start are within the first hour.
    assert len(sender.ids) >= 6
    assert len(set(sender.ids)) == 1
    assert 30 < hours < 60
    assert await connection.fetchval("SELECT status FROM memory_webhook_deliveries") == "failed"
    await record(connection, "ada")
    assert await connection.fetchval("SELECT count(*) FROM memory_events") == 1
    assert await store.hold(created.id, job_id=1, now=clock.now(), until=clock.now()) is None


async def test_an_erasure_removes_events_and_deliveries(
    database: Database, connection: asyncpg.Connection
) -> None:
    await webhook(database)
    await webhook(database, user_id="ada")
    await record(connection, "ada", "bob")
    await connection.execute(
        "SELECT erase_memory_user('default', 'ada', $1, NULL, now(), 0, 0, 0)", uuid4()
    )
    rows = await connection.fetch("SELECT user_id, type, data FROM memory_events ORDER BY id")
    assert [(row["user_id"], row["type"]) for row in rows] == [
        ("bob", "block.active"),
        ("", "user.erased"),
    ]
    left = await connection.fetch(
        "SELECT name FROM count_memory_rows('default', 'ada') WHERE count > 0"
    )
    assert left == []
    sender = Sends()
    for job in await claimed(database):
        await handler(database, sender, Ahead())(job)
    assert sorted(b'"block.active"' in body for body in sender.bodies) == [False, True]


async def test_failed_deliveries_report_no_failed_job(
    database: Database, connection: asyncpg.Connection
) -> None:
    await webhook(database)
    await record(connection, "ada")
    (job,) = await claimed(database)
    await connection.execute(
        "SELECT fail_memory_jobs(ARRAY[$1::bigint], ARRAY[1], 'w', ARRAY['internal'], ARRAY['x'],"
        " ARRAY['1 s'::interval], ARRAY[true])",
        job.id,
    )
    assert await connection.fetchval("SELECT count(*) FROM memory_events") == 1


async def test_old_events_go_and_pending_ones_stay(
    database: Database, connection: asyncpg.Connection
) -> None:
    created = await webhook(database)
    await record(connection, "ada", "bob")
    await connection.execute(
        "UPDATE memory_webhook_deliveries SET status = 'delivered' WHERE user_id = 'bob'"
    )
    store = PostgresDeliveryStore(database)
    assert await store.prune(datetime.now(UTC) - HOUR, limit=10) == 0
    assert await store.prune(datetime.now(UTC) + HOUR, limit=10) == 1
    assert await connection.fetchval("SELECT user_id FROM memory_events") == "ada"
    await PostgresWebhookStore(database).delete(created)
    assert await store.prune(datetime.now(UTC) + HOUR, limit=10) == 1
    assert await connection.fetchval("SELECT count(*) FROM memory_webhook_deliveries") == 0


async def test_places_follow_the_commit_and_not_the_ids(
    database: Database, connection: asyncpg.Connection, dsn: str
) -> None:
    await webhook(database)
    late: asyncpg.Connection = await asyncpg.connect(dsn)
    try:
        transaction = late.transaction()
        await transaction.start()
        await record(late, "first by id")
        await record(connection, "first to commit")
        await connection.execute("SELECT place_memory_events(100)")
        await transaction.commit()
        await connection.execute("SELECT place_memory_events(100)")
    finally:
        await late.close()
    rows = await connection.fetch("SELECT user_id FROM memory_events ORDER BY position")
    assert [row["user_id"] for row in rows] == ["first to commit", "first by id"]

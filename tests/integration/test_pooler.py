"""Through PgBouncer: no state stays in a session that another client gets next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest
from tests.support.pgbouncer import NOTHING, needs_pgbouncer, running_pooler
from tests.support.running import LEASE, Plan, ingest, job_row, read, working

from luma_memory.domain.errors import InvariantError
from luma_memory.domain.search import ScanRequest
from luma_memory.postgres.database import Database
from luma_memory.postgres.migrator import migrate, schema_is_current
from luma_memory.postgres.pooler import HOSTED_POOLER_PORT
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.session import WorkerSession
from luma_memory.queue.signal import Listener, Notifier
from luma_memory.store.search import PostgresSearchStore
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.models import WordEmbedder
from luma_memory.testing.sample_blocks import ingest_item, new_block

pytestmark = needs_pgbouncer

CLIENTS = 8
ROUNDS = 5
SHORT = timedelta(milliseconds=50)


@asynccontextmanager
async def pooled(
    dsn: str, *, clients: int = 1, pool_size: int = 2
) -> AsyncIterator[tuple[Database, ...]]:
    """Pools of their own, as of different processes, on few server connections."""
    async with AsyncExitStack() as stack:
        pooler = await stack.enter_async_context(running_pooler(dsn, pool_size=pool_size))
        databases = tuple(Database(pooler.address(dsn), pool_size=4) for _ in range(clients))
        for database in databases:
            stack.push_async_callback(database.close)
        yield databases


async def shares(address: str, **choice: str) -> bool:
    database = Database(address, **choice)  # type: ignore[arg-type]
    return await database.shares_sessions()


# Finding out


async def test_a_direct_connection_is_distinguished_from_a_pooler(dsn: str) -> None:
    assert not await shares(dsn)


@pytest.mark.parametrize("pool_size", [1, 2, 3, 8])
@pytest.mark.parametrize("round_robin", [False, True])
async def test_a_transaction_pooler_is_found(dsn: str, pool_size: int, round_robin: bool) -> None:
    async with running_pooler(dsn, pool_size=pool_size, round_robin=round_robin) as pooler:
        # Server connections to choose from, where there may be several.
        await asyncio.gather(*(_busy(pooler.address(dsn), 10) for _ in range(pool_size)))
        assert await shares(pooler.address(dsn))


async def test_a_busy_transaction_pooler_is_found(dsn: str) -> None:
    async with running_pooler(dsn, pool_size=4) as pooler:
        others = [asyncio.create_task(_busy(pooler.address(dsn), 100_000)) for _ in range(6)]
        found = [await shares(pooler.address(dsn)) for _ in range(20)]
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        assert found == [True] * 20


async def _busy(address: str, statements: int) -> None:
    client = await asyncpg.connect(address, statement_cache_size=0)
    try:
        for _ in range(statements):
            await client.execute("SELECT 1")
    finally:
        client.terminate()


async def test_a_session_pooler_takes_nothing_away(dsn: str) -> None:
    async with running_pooler(dsn, mode="session", pool_size=8) as pooler:
        database = Database(pooler.address(dsn), pool_size=2)
        assert not await database.shares_sessions()
        await ingest(database)
        async with working(database) as worker:
            await worker.events.wait_for(JobCompleted)
            row = await database.fetch_row("SELECT lock_key FROM memory_workers")
        assert row is not None
        assert row["lock_key"] is not None
        await database.close()


async def test_the_port_of_hosted_poolers_is_believed_without_asking(dsn: str) -> None:
    async with running_pooler(dsn, mode="session", port=HOSTED_POOLER_PORT) as pooler:
        assert await shares(pooler.address(dsn))
        assert not await shares(pooler.address(dsn), pooler="none")


async def test_the_setting_is_believed(dsn: str) -> None:
    assert await shares(dsn, pooler="transaction")
    async with running_pooler(dsn) as pooler:
        assert not await shares(pooler.address(dsn), pooler="none")


# Working through it


@pytest.mark.parametrize("pool_size", [1, 2])
async def test_many_clients_on_few_server_connections(dsn: str, pool_size: int) -> None:
    async with pooled(dsn, clients=CLIENTS, pool_size=pool_size) as databases:
        await asyncio.gather(*(_ingest_and_work(n, each) for n, each in enumerate(databases)))
        stats = await PostgresJobQueue(databases[0]).stats()
        assert (stats.pending, stats.processing) == (0, 0)


async def _ingest_and_work(number: int, database: Database) -> None:
    """Each statement the service uses, with vectors, arrays and JSON going both ways."""
    queue, worker_id = PostgresJobQueue(database), f"worker-{number}"
    presence = WorkerSession(database, worker_id)
    await presence.start(running=lambda: 0, on_signal=None)
    for _ in range(ROUNDS):
        block = new_block(user_id=f"user-{number}", metadata={"number": number})
        (accepted,) = await ingest(database, block)
        assert (await read(database, block, accepted.id)).metadata == {"number": number}
        jobs = await queue.claim(
            worker_id, limit=3, lease=LEASE, job_types=["enrich_and_embed"], rescue=True
        )
        await queue.complete(worker_id, jobs)
    await presence.stop()
    item = ingest_item(block)
    terms = [passage.lexemes for passage in item.passages]
    embedding = await WordEmbedder().embed_query(block.content)
    scan = await PostgresSearchStore(database).scan(
        block.scope,
        ScanRequest(embedding.vector, "none", terms=terms, all_terms=terms[0]),
    )
    assert len(scan.ordinals) == ROUNDS
    assert all(weight > 0 for weight in scan.term_weights[0])


async def test_nothing_is_left_in_a_session(dsn: str, connection: asyncpg.Connection) -> None:
    # As most servers have it; the driver then switches it off and on around its own questions.
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET jit = on")
    async with running_pooler(dsn, pool_size=3) as pooler:
        database = Database(pooler.address(dsn), pool_size=4)
        await asyncio.gather(*(ingest(database) for _ in range(20)))
        async with working(database) as worker:
            await worker.events.wait_for(JobCompleted, count=20)
            await _ingest_and_work(1, database)
            assert await pooler.left_behind(dsn, sessions=3) == [NOTHING] * 3
        await database.close()
        assert await pooler.left_behind(dsn, sessions=3) == [NOTHING] * 3


async def test_a_value_that_does_not_fit_holds_no_server_connection(dsn: str) -> None:
    async with pooled(dsn, clients=2, pool_size=1) as (one, other):
        await other.fetch("SELECT 1")
        with pytest.raises(InvariantError):
            await one.fetch("SELECT $1::integer", "not a number")
        await asyncio.wait_for(other.fetch("SELECT 1"), timeout=60)


async def test_a_cancelled_statement_holds_no_server_connection(dsn: str) -> None:
    async with pooled(dsn, clients=2, pool_size=1) as (one, other):
        await other.fetch("SELECT 1")
        with pytest.raises(asyncio.CancelledError):
            await _send_half_a_statement(one)
        await asyncio.wait_for(other.fetch("SELECT 1"), timeout=60)


async def _send_half_a_statement(database: Database) -> None:
    async with database.connection() as connection:
        await connection.prepare("SELECT 1")  # the first of its two parts
        raise asyncio.CancelledError


@pytest.mark.parametrize("pool_size", [1, 2])
async def test_migrating_through_it(empty_dsn: str, pool_size: int) -> None:
    async with pooled(empty_dsn, clients=2, pool_size=pool_size) as databases:
        await asyncio.gather(*(migrate(database) for database in databases))
        assert await schema_is_current(databases[0])
        await databases[0].renew()
        await ingest(databases[0])


# Without LISTEN and without a lock


async def test_a_notification_passes_through_to_who_listens_directly(
    dsn: str, connection: asyncpg.Connection
) -> None:
    heard = asyncio.Event()
    await Listener(lambda _partitions: heard.set()).attach(connection)
    async with pooled(dsn) as (database,):
        notifier = Notifier(database)
        notifier.notify()
        await asyncio.wait_for(heard.wait(), timeout=60)
        await notifier.stop()


async def test_a_worker_behind_it_polls(dsn: str) -> None:
    async with (
        pooled(dsn, clients=2) as (database, service),
        working(database, Plan(poll_interval=SHORT)) as worker,
    ):
        for count in (1, 2):
            await ingest(service)
            await worker.events.wait_for(JobCompleted, count=count)


async def test_jobs_of_a_worker_behind_it_are_safe_until_their_lease_ends(
    dsn: str, connect_database: Callable[[], Database], connection: asyncpg.Connection
) -> None:
    async with pooled(dsn) as (database,):
        (accepted,) = await ingest(database)
        presence = WorkerSession(database, "worker-pooled")
        await presence.start(running=lambda: 1, on_signal=None)
        assert await connection.fetchval("SELECT lock_key FROM memory_workers") is None
        queue = PostgresJobQueue(database)
        assert await queue.claim(
            "worker-pooled", limit=1, lease=LEASE, job_types=["enrich_and_embed"], rescue=False
        )
        direct = PostgresJobQueue(connect_database())
        take = {"limit": 1, "lease": LEASE, "job_types": ["enrich_and_embed"], "rescue": True}
        assert not await direct.claim("worker-direct", **take)  # type: ignore[arg-type]
        await connection.execute("UPDATE memory_jobs SET locked_until = now() - interval '1 s'")
        assert await direct.claim("worker-direct", **take)  # type: ignore[arg-type]
        row = await job_row(connection, accepted.job_id)
        assert (row["locked_by"], row["attempts"]) == ("worker-direct", 2)
        await presence.stop()

"""The ingest statement: blocks, passages, users and jobs at once, each key once."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from tests.support.postgres_majors import newest_and_oldest
from tests.support.running import LEASE, ingest, job_row, read

from luma_memory.domain.block import Accepted, IngestItem, NewBlock
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import (
    Conflict,
    Invalid,
    InvariantError,
    StoreContended,
    StoreUnavailable,
)
from luma_memory.domain.job import Done, Job, Outcome
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.ingest.ingest import Ingest, Ingested
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.ports.blocks import Lease
from luma_memory.postgres.database import Database
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.sample_blocks import OCCURRED_AT, ingest_item, new_block

pytestmark = newest_and_oldest

STEP = timedelta(milliseconds=100)
METADATA: dict[str, Any] = {
    "text": "naïve 🐈 \\ \" '' %s $1",
    "number": 12345678901234567890,
    "fraction": -0.125,
    "nothing": None,
    "flags": [True, False, []],
    "inner": {"": {"a.b": "c"}},
}


class CountedSignal:
    """A JobSignal that counts."""

    def __init__(self) -> None:
        self.count = 0

    def notify(self, *_scopes: Scope) -> None:
        self.count += 1


class NotedStore(PostgresBlockStore):
    """Notes the size of each statement, and refuses what says "bad" or all of it."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, attempts_max=3)
        self.statements: list[int] = []
        self.is_away = False

    async def ingest(
        self, items: Sequence[IngestItem], *, lease: Lease | None
    ) -> Sequence[Accepted | Exception]:
        self.statements.append(len(items))
        if self.is_away:
            raise StoreUnavailable("away")
        if any(item.block.content == "bad" for item in items):
            raise InvariantError("PostgreSQL error")
        return await super().ingest(items, lease=lease)


def _ingest(
    database: Database, *, worker_id: str = "api-1", store: PostgresBlockStore | None = None
) -> tuple[Ingest, CountedSignal]:
    """The ingestion of one API process; its inline jobs do nothing."""

    async def handler(_job: Job) -> Outcome:
        return Done()

    runner = JobRunner(
        PostgresJobQueue(database),
        {"enrich_and_embed": handler},
        worker_id=worker_id,
        timeout=timedelta(seconds=60),
        backoff=timedelta(seconds=1),
        record_timeout=timedelta(0),
        clock=SystemClock(),
        emit=EventLog(),
        report_bug=lambda _message, _error: None,
    )
    signal = CountedSignal()
    service = Ingest(
        store or PostgresBlockStore(database, attempts_max=3),
        clock=SystemClock(),
        signal=signal,
        run_job=runner.run,
        worker_id=worker_id,
        lease=LEASE,
        attempts_max=3,
    )
    return service, signal


async def _count(connection: asyncpg.Connection, table: str) -> int:
    count: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
    return count


async def _version(connection: asyncpg.Connection, user_id: str = "caroline") -> int:
    version: int = await connection.fetchval(
        "SELECT version FROM memory_users WHERE user_id = $1", user_id
    )
    return version


async def test_a_block_is_stored_as_it_was_sent(database: Database) -> None:
    block = new_block(
        "Grüße, 世界! \U0001f408\n\ttabs and 'quotes' \\ {braces}",
        user_id="ünïcode user",
        agent_id="agent",
        session_id="session",
        speaker="Caroline",
        source="chat",
        external_id="message-1",
        metadata=METADATA,
        expires_at=datetime(2100, 1, 1, tzinfo=UTC),
        idempotency_key="key-1",
        request_hash=b"\x00\xff" * 16,
    )
    (accepted,) = await ingest(database, block)
    stored = await read(database, block, accepted.id)
    for field in ("scope", "content", "agent_id", "session_id", "speaker", "source"):
        assert getattr(stored, field) == getattr(block, field)
    assert (stored.external_id, stored.metadata) == ("message-1", METADATA)
    assert (stored.occurred_at, stored.expires_at) == (OCCURRED_AT, block.expires_at)
    assert (stored.status, stored.enrichment, stored.revision) == ("pending_enrichment", "none", 1)
    assert (stored.title, stored.tags, stored.entities) == (None, [], ())
    assert stored.job_id == accepted.job_id
    assert accepted == Accepted(accepted.id, accepted.job_id, created=True, same_request=True)


async def test_it_is_one_statement(database: Database, connection: asyncpg.Connection) -> None:
    await ingest(database, *(new_block(user_id=f"u{n % 3}") for n in range(10)))
    transactions = await connection.fetch(
        "SELECT DISTINCT xmin::text FROM memory_blocks UNION SELECT xmin::text FROM memory_jobs"
        " UNION SELECT xmin::text FROM memory_passages UNION SELECT xmin::text FROM memory_users"
    )
    assert len(transactions) == 1


async def test_results_of_a_thousand_blocks_are_in_order(
    database: Database, connection: asyncpg.Connection
) -> None:
    blocks = [new_block(f"Message {n}", user_id=f"user {n % 7}") for n in range(1_000)]
    responses = await ingest(database, *blocks)
    rows = await connection.fetch("SELECT id, content, job_id FROM memory_blocks")
    by_id = {row["id"]: row for row in rows}
    assert [by_id[response.id]["content"] for response in responses] == [b.content for b in blocks]
    assert [by_id[response.id]["job_id"] for response in responses] == [a.job_id for a in responses]
    jobs = await connection.fetch("SELECT id, block_id, status, attempts FROM memory_jobs")
    assert {(job["id"], job["block_id"]) for job in jobs} == {(a.job_id, a.id) for a in responses}
    assert {(job["status"], job["attempts"]) for job in jobs} == {("pending", 0)}


async def test_a_long_block_is_stored_with_all_its_passages(
    database: Database, connection: asyncpg.Connection
) -> None:
    item = ingest_item(new_block("A sentence about cats. " * 400, session_id="s"))
    assert len(item.passages) > 3
    await PostgresBlockStore(database, attempts_max=3).ingest([ingest_item(), item], lease=None)
    rows = await connection.fetch(
        "SELECT ordinal, start_at, stop_at, session_id, occurred_at, embedding_model,"
        " sparsevec_send(lexemes) AS lexemes FROM memory_passages WHERE block_id = $1"
        " ORDER BY ordinal",
        item.id,
    )
    assert [(r["ordinal"], r["start_at"], r["stop_at"], r["lexemes"]) for r in rows] == [
        (p.ordinal, p.start, p.stop, p.lexemes) for p in item.passages
    ]
    assert {(r["session_id"], r["occurred_at"], r["embedding_model"]) for r in rows} == {
        ("s", OCCURRED_AT, None)
    }


async def test_the_version_rises_with_every_statement_of_the_scope(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, new_block(), new_block(), new_block(user_id="melanie"))
    first, other = await _version(connection), await _version(connection, "melanie")
    await ingest(database, new_block())
    assert await _version(connection) > first
    assert await _version(connection, "melanie") == other


async def test_the_version_of_a_user_who_was_erased_and_came_back_is_a_new_one(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, new_block())
    before = await _version(connection)
    for table in ("memory_users", "memory_blocks", "memory_passages"):
        await connection.execute(f"DELETE FROM {table}")
    await ingest(database, new_block())
    assert await _version(connection) > before


async def test_the_version_rises_also_when_the_clock_went_back(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, new_block())
    ahead = await connection.fetchval(
        "UPDATE memory_users SET version = version + 3600000000 RETURNING version"
    )
    await ingest(database, new_block())
    assert await _version(connection) == ahead + 1


async def test_jobs_queue_behind_their_own_user_only(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, *(new_block(user_id="busy") for _ in range(50)))
    await ingest(
        database, *(new_block(user_id="busy") for _ in range(50)), new_block(user_id="new")
    )
    places = await connection.fetch("SELECT user_id, fair_at FROM memory_jobs ORDER BY fair_at, id")
    busy = [place["fair_at"] for place in places if place["user_id"] == "busy"]
    assert [later - earlier for earlier, later in itertools.pairwise(busy)] == [STEP] * 99
    users = await connection.fetch("SELECT user_id, fair_at FROM memory_users")
    assert {row["user_id"]: row["fair_at"] for row in users}["busy"] == busy[-1]
    # One user's hundred do not delay another's first.
    assert [place["user_id"] for place in places].index("new") < 60


async def test_a_user_who_was_quiet_starts_at_the_present(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, new_block())
    await connection.execute("UPDATE memory_users SET fair_at = now() - interval '1 hour'")
    (accepted,) = await ingest(database, new_block())
    job = await job_row(connection, accepted.job_id)
    assert job["fair_at"] == job["created_at"] + STEP


@pytest.mark.parametrize("key", ["idempotency_key", "external_id"])
async def test_one_key_is_one_block_within_a_batch_and_across(
    key: str, database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block(**{key: "k"})
    first, other, again = await ingest(database, block, new_block(), block)
    assert (first.created, other.created, again.created) == (True, True, False)
    assert (again.id, again.job_id, again.same_request) == (first.id, first.job_id, True)
    assert other.id != first.id
    (later,) = await ingest(database, block)
    assert later == again
    assert await _count(connection, "memory_blocks") == await _count(connection, "memory_jobs") == 2
    assert await _count(connection, "memory_passages") == 2


@pytest.mark.parametrize("key", ["idempotency_key", "external_id"])
async def test_the_same_key_of_another_scope_is_another_key(key: str, database: Database) -> None:
    blocks = [
        new_block(user_id=user, project_id=project, **{key: "k"})
        for user in ("caroline", "melanie")
        for project in ("default", "other")
    ]
    for responses in (
        [await ingest(database, *blocks)],
        [await ingest(database, b) for b in blocks],
    ):
        flat = [response for outcomes in responses for response in outcomes]
        assert len({response.id for response in flat}) == 4
    repeated = await ingest(database, *blocks)
    assert not any(response.created for response in repeated)


@pytest.mark.parametrize("key", ["idempotency_key", "external_id"])
async def test_fifty_callers_with_one_key_get_one_response(
    key: str,
    connect_database: Callable[[], Database],
    connection: asyncpg.Connection,
) -> None:
    services = [_ingest(connect_database())[0] for _ in range(4)]
    fields: dict[str, Any] = {key: "k", "request_hash": b"same"}
    block = new_block(**fields)
    responses = await asyncio.gather(
        *(services[n % 4].ingest_block_async(block) for n in range(50))
    )
    assert len({(response.id, response.job_id) for response in responses}) == 1
    assert sum(response.created for response in responses) == 1
    assert await _count(connection, "memory_blocks") == await _count(connection, "memory_jobs") == 1


async def test_one_idempotency_key_for_two_requests_is_refused(database: Database) -> None:
    service, _ = _ingest(database)
    block = new_block(idempotency_key="k", request_hash=b"one")
    accepted = await service.ingest_block_async(block)
    changed = new_block("Something else", idempotency_key="k", request_hash=b"two")
    with pytest.raises(Invalid) as caught:
        await service.ingest_block_async(changed)
    assert caught.value.code == "idempotency_key_reused"
    repeated, refused, fresh = await service.ingest_batch_async([block, changed, new_block()])
    assert isinstance(repeated, Accepted)
    assert repeated.id == accepted.id
    assert isinstance(refused, Invalid)
    assert isinstance(fresh, Accepted)
    assert fresh.created


async def test_a_second_description_of_the_same_block_gets_the_first_response(
    database: Database,
) -> None:
    service, _ = _ingest(database)
    first = await service.ingest_block_async(new_block(external_id="message-1"))
    again = await service.ingest_block_async(new_block("In other words", external_id="message-1"))
    assert (again.id, again.created) == (first.id, False)


async def test_known_content_under_a_new_key_gets_the_first_response(database: Database) -> None:
    service, _ = _ingest(database)
    first = await service.ingest_block_async(new_block(external_id="message-1"))
    named = new_block(external_id="message-1", idempotency_key="k", request_hash=b"one")
    assert (await service.ingest_block_async(named)).id == first.id
    keyed = new_block(external_id="message-2", idempotency_key="a", request_hash=b"two")
    second = await service.ingest_block_async(keyed)
    renamed = new_block(
        "Other", external_id="message-2", idempotency_key="b", request_hash=b"three"
    )
    assert (await service.ingest_block_async(renamed)).id == second.id


async def test_a_key_met_by_a_repetition_of_its_batch_fails_alone(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, new_block(external_id="stored"))
    responses = await PostgresBlockStore(database, attempts_max=3).ingest(
        [
            ingest_item(new_block(external_id="stored", idempotency_key="k")),
            ingest_item(new_block("Another", idempotency_key="k")),
            ingest_item(),
        ],
        lease=None,
    )
    assert [isinstance(response, Accepted) for response in responses] == [True, False, True]
    assert isinstance(responses[1], Conflict)
    assert await _count(connection, "memory_blocks") == 2


async def test_with_a_lease_the_job_is_created_claimed(
    database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await PostgresBlockStore(database, attempts_max=3).ingest(
        [ingest_item()], lease=Lease("api-1", timedelta(seconds=40))
    )
    assert isinstance(accepted, Accepted)
    job = await job_row(connection, accepted.job_id)
    assert (job["status"], job["attempts"], job["locked_by"]) == ("processing", 1, "api-1")
    assert job["locked_until"] - job["started_at"] == timedelta(seconds=40)
    queue = PostgresJobQueue(database)
    everything = {"limit": 10, "lease": LEASE, "rescue": True}
    assert not await queue.claim("w", job_types=["enrich_and_embed"], **everything)  # type: ignore[arg-type]


async def test_a_block_that_is_waited_for_ends_with_its_job(
    database: Database, connection: asyncpg.Connection
) -> None:
    service, signal = _ingest(database)
    ingested = await service.ingest_block(new_block(idempotency_key="k"))
    assert ingested.block.id == ingested.accepted.id
    assert (await job_row(connection, ingested.accepted.job_id))["status"] == "completed"
    again = await service.ingest_block(new_block(idempotency_key="k"))
    assert again.accepted.id == ingested.accepted.id
    assert not again.accepted.created
    assert signal.count == 0  # nothing for a worker to do
    await service.ingest_block_async(new_block())
    assert signal.count == 1


async def test_a_batch_goes_in_bounded_statements(database: Database) -> None:
    store = NotedStore(database)
    service, signal = _ingest(database, store=store)
    blocks = [new_block("word " * 19_000) for _ in range(25)]
    responses = await service.ingest_batch_async(blocks)
    assert all(isinstance(response, Accepted) for response in responses)
    assert sorted(store.statements) == [4, 21]  # two million characters and the rest
    assert signal.count == 1


async def test_a_bad_block_of_a_batch_fails_alone(
    database: Database, connection: asyncpg.Connection
) -> None:
    service, _ = _ingest(database, store=NotedStore(database))
    responses = await service.ingest_batch_async([new_block(), new_block("bad"), new_block()])
    assert [type(response) for response in responses] == [Accepted, InvariantError, Accepted]
    assert await _count(connection, "memory_blocks") == 2


async def test_a_batch_is_unavailable_only_as_a_whole(database: Database) -> None:
    store = NotedStore(database)
    service, _ = _ingest(database, store=store)
    store.is_away = True
    for ingest_all in (service.ingest_batch_async, service.ingest_batch):
        with pytest.raises(StoreUnavailable):
            await ingest_all([new_block(), new_block()])
    assert await service.ingest_batch_async([]) == await service.ingest_batch([]) == []


async def test_a_batch_that_is_waited_for_ends_with_its_jobs(
    database: Database, connection: asyncpg.Connection
) -> None:
    service, signal = _ingest(database)
    blocks = [new_block(f"number {n}", external_id=f"{n // 2}") for n in range(10)]
    responses = await service.ingest_batch(blocks)
    assert len({response.block.id for response in responses if isinstance(response, Ingested)}) == 5
    rows = await connection.fetch("SELECT status FROM memory_jobs")
    assert [row["status"] for row in rows] == ["completed"] * 5
    assert signal.count == 0


async def test_concurrent_callers_share_statements_and_get_their_own_blocks(
    database: Database, connection: asyncpg.Connection
) -> None:
    service, _ = _ingest(database)
    blocks = [new_block(f"Message {n}") for n in range(200)]
    responses = await asyncio.gather(*map(service.ingest_block_async, blocks))
    contents = {r["id"]: r["content"] for r in await connection.fetch("TABLE memory_blocks")}
    assert [contents[response.id] for response in responses] == [block.content for block in blocks]
    statements = await connection.fetchval("SELECT count(DISTINCT xmin::text) FROM memory_blocks")
    assert statements <= math.ceil(200 / 2)
    await service.close()


async def test_writers_of_the_same_users_in_opposite_order_never_deadlock(
    connect_database: Callable[[], Database], connection: asyncpg.Connection
) -> None:
    users = [f"user {n:02}" for n in range(20)]

    async def write(database: Database, order: Sequence[str]) -> None:
        for round_number in range(30):
            blocks: list[NewBlock] = [
                new_block(user_id=user, external_id=f"{round_number} {order[0]}") for user in order
            ]
            await ingest(database, *blocks)

    await asyncio.gather(
        *(
            write(connect_database(), order)
            for order in (users, users[::-1], users[10:] + users[:10])
        )
    )
    assert await _count(connection, "memory_blocks") == 3 * 30 * 20


async def test_one_locked_user_does_not_block_ingestion_for_others(
    database: Database, connection: asyncpg.Connection
) -> None:
    service, _ = _ingest(database)
    await service.ingest_block_async(new_block("first", user_id="held"))
    async with connection.transaction():
        await connection.execute("SELECT FROM memory_users WHERE user_id = 'held' FOR UPDATE")
        waiting = asyncio.create_task(
            service.ingest_block_async(new_block("second", user_id="held"))
        )
        others = [
            service.ingest_block_async(new_block(f"other {n}", user_id=f"user-{n}"))
            for n in range(20)
        ]
        responses = await asyncio.gather(*others)
        assert len({response.id for response in responses}) == 20
        with pytest.raises(StoreContended):
            await waiting
    assert (await service.ingest_block_async(new_block("second", user_id="held"))).created

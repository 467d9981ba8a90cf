"""A worker on a real database: every way a job can end, and what the worker lives through."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.support.running import Plan, Running, ingest, job_row, read, working

from luma_memory import migrations
from luma_memory.domain.block import Block
from luma_memory.domain.enrichment import EnrichmentRequest, PendingBackfillCounts
from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderPaused,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
)
from luma_memory.domain.job import Job, JobType
from luma_memory.pipeline.enrichment import enrich as enrich_module
from luma_memory.pipeline.enrichment.backfill import Backfill
from luma_memory.postgres.database import Database
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.signal import Notifier
from luma_memory.store.backfill import PostgresBackfillStore
from luma_memory.telemetry.events import (
    JobCompleted,
    JobDeferred,
    JobFailed,
    JobLost,
    WorkerRoundFailed,
    WorkerStarting,
    WorkerStopped,
)
from luma_memory.testing.models import QuotingEnricher, WordEmbedder
from luma_memory.testing.sample_blocks import new_block
from luma_memory.worker import worker as worker_module

AWAY = ProviderUnavailable("the provider is away")
BLOCK_TEXT = new_block().content
HOUR = timedelta(hours=1)
HOLDS_ITS_LOCK = """
SELECT count(*) FROM pg_locks AS l
JOIN memory_workers AS w ON (l.classid::bigint << 32) + l.objid::bigint = w.lock_key
WHERE l.locktype = 'advisory' AND w.id = $1
"""


def _raising(*errors: Exception) -> Callable[[object], Awaitable[None]]:
    """Raise the errors one after the other, the last one for ever."""
    left = list(errors)

    async def before(_given: object) -> None:
        raise left.pop(0) if len(left) > 1 else left[0]

    return before


class Hanging:
    """A hook that signals when it was reached, and then waits until it is released."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.released = asyncio.Event()
        self.cancelled = False

    async def __call__(self, _given: object) -> None:
        self.reached.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def _cut(connection: asyncpg.Connection, condition: str = "true") -> int:
    """Cut the other connections to this database, and wait until they are gone."""
    rows = await connection.fetch(
        "SELECT pg_terminate_backend(pid, 60000) AS gone FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_type = 'client backend'"
        f" AND pid <> pg_backend_pid() AND {condition}"
    )
    assert all(row["gone"] for row in rows)
    return len(rows)


async def _ended(database: Database, block_id: UUID) -> Block:
    return await read(database, new_block(), block_id)


# The usual end


async def test_every_job_completes_and_every_block_is_active(
    database: Database, connection: asyncpg.Connection
) -> None:
    blocks = [new_block(f"Message {n} " * (1 + 100 * (n % 3))) for n in range(30)]
    accepted = await ingest(database, *blocks)
    async with working(database) as worker:
        completed = await worker.events.wait_for(JobCompleted, count=30)
    assert {event.job_id for event in completed} == {response.job_id for response in accepted}
    assert completed[0].message().startswith("✅ Job completed: enrich_and_embed (")
    for block, response in zip(blocks, accepted, strict=True):
        stored = await read(database, block, response.id)
        assert (stored.status, stored.enrichment) == ("active", "model")
        assert stored.title is not None
        assert stored.title.startswith(f"Message {response.job_id - accepted[0].job_id}")
    models = await connection.fetchval(
        "SELECT array_agg(DISTINCT embedding_model) FROM memory_passages"
    )
    assert models == ["words-64"]
    assert await connection.fetchval(
        "SELECT array_agg(DISTINCT (status, attempts)::text) FROM memory_jobs"
    ) == ["(completed,1)"]
    assert (await PostgresJobQueue(database).stats()).completed == 30


async def test_no_more_jobs_run_at_once_than_allowed(database: Database) -> None:
    await ingest(database, *(new_block() for _ in range(20)))
    running = most = 0

    async def counted(_given: EnrichmentRequest) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    plan = Plan(enricher=QuotingEnricher(before=counted), concurrent_jobs_max=3)
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted, count=20)
    assert 1 < most <= 3


@pytest.mark.parametrize(
    ("off", "enrichment", "model"),
    [("enricher", "none", "words-64"), ("embedder", "model", None)],
)
async def test_a_step_that_is_switched_off_is_left_out(
    off: str, enrichment: str, model: str | None, database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database)
    switched: dict[str, Any] = {off: None}
    async with working(database, replace(Plan(), **switched)) as worker:
        await worker.events.wait_for(JobCompleted)
    stored = await _ended(database, accepted.id)
    assert (stored.status, stored.enrichment) == ("active", enrichment)
    assert await connection.fetchval("SELECT embedding_model FROM memory_passages") == model


async def test_a_job_whose_block_is_gone_is_done(
    database: Database, connection: asyncpg.Connection
) -> None:
    gone, _ = await ingest(database, new_block(), new_block())
    await connection.execute("DELETE FROM memory_blocks WHERE id = $1", gone.id)
    async with working(database) as worker:
        await worker.events.wait_for(JobCompleted)
    assert (await job_row(connection, gone.job_id))["status"] == "completed"


# Failures


@pytest.mark.parametrize("who", ["enricher", "embedder"])
@pytest.mark.parametrize(
    ("error", "error_class", "attempts"),
    [
        (AWAY, "provider", 3),
        (ProviderTimeout("no answer in time"), "timeout", 3),
        (ProviderResponseInvalid("no title"), "schema", 3),
        (ProviderRejected("bad key"), "provider_permanent", 1),
        (ZeroDivisionError("secretword"), "internal", 3),
    ],
)
async def test_a_failing_provider_fails_the_block_with_class_and_reason(
    who: str,
    error: Exception,
    error_class: str,
    attempts: int,
    database: Database,
    connection: asyncpg.Connection,
) -> None:
    (accepted,) = await ingest(database)
    plan = Plan()
    if who == "enricher":
        plan.enricher = QuotingEnricher(before=_raising(error))
    else:
        plan.embedder = WordEmbedder(before=_raising(error))
    async with working(database, plan) as worker:
        failures = await worker.events.wait_for(JobFailed, count=attempts)
    assert [failure.final for failure in failures] == [False] * (attempts - 1) + [True]
    row = await job_row(connection, accepted.job_id)
    assert (row["status"], row["attempts"], row["error_class"]) == ("failed", attempts, error_class)
    stored = await _ended(database, accepted.id)
    assert stored.status == "failed"
    assert stored.error == row["last_error"]
    assert "secretword" not in row["last_error"]
    assert len(worker.bugs) == (attempts if error_class == "internal" else 0)


async def test_a_passing_outage_costs_attempts_and_nothing_else(
    database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database)
    calls = 0

    async def twice(_given: object) -> None:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise AWAY

    async with working(database, Plan(enricher=QuotingEnricher(before=twice))) as worker:
        await worker.events.wait_for(JobCompleted)
    row = await job_row(connection, accepted.job_id)
    assert (row["status"], row["attempts"], row["last_error"]) == ("completed", 3, None)
    assert (await _ended(database, accepted.id)).status == "active"


async def test_a_hanging_provider_ends_at_the_deadline(
    database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database, attempts_max=1)
    hanging = Hanging()
    plan = Plan(enricher=QuotingEnricher(before=hanging), timeout=timedelta(milliseconds=200))
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobFailed)
    assert hanging.cancelled
    row = await job_row(connection, accepted.job_id)
    assert (row["status"], row["error_class"]) == ("failed", "timeout")


@pytest.mark.parametrize("error", [AWAY, RateLimited("wait", retry_after_seconds=0.01)])
async def test_a_good_enrichment_is_kept_while_the_embedding_is_tried_again(
    error: LumaMemoryError, database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database)
    requests: list[EnrichmentRequest] = []
    kept: list[Block] = []

    async def count(request: EnrichmentRequest) -> None:
        requests.append(request)

    async def fails_once(_texts: object) -> None:
        if len(kept) == 0:
            kept.append(await _ended(database, accepted.id))
            raise error
        kept.append(await _ended(database, accepted.id))

    plan = Plan(enricher=QuotingEnricher(before=count), embedder=WordEmbedder(before=fails_once))
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted)
    assert len(requests) == 1
    # Before the second attempt the block has what the first one made, and is not active yet.
    assert (kept[1].status, kept[1].title) == ("pending_enrichment", BLOCK_TEXT)
    stored = await _ended(database, accepted.id)
    assert (stored.status, stored.enrichment, stored.title) == ("active", "model", BLOCK_TEXT)
    assert (stored.error, stored.backfill_steps) == (None, None)
    vectors = "SELECT count(*) FROM memory_passages WHERE embedding IS NOT NULL"
    assert await connection.fetchval(vectors) == 1


async def test_an_edit_voids_what_was_kept(
    database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database)
    requests: list[str] = []
    tries: list[int] = []

    async def count(request: EnrichmentRequest) -> None:
        requests.append(request.content)

    async def edited_then_away(_texts: object) -> None:
        tries.append(1)
        if len(tries) == 1:
            edit = "UPDATE memory_blocks SET revision = revision + 1, content = 'Now a dog.'"
            await connection.execute(edit)
            raise AWAY

    plan = Plan(
        enricher=QuotingEnricher(before=count), embedder=WordEmbedder(before=edited_then_away)
    )
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted)
    assert requests == [BLOCK_TEXT, "Now a dog."]
    assert (await _ended(database, accepted.id)).title == "Now a dog."


async def test_when_both_halves_fail_none_is_reported_as_forgotten(database: Database) -> None:
    await ingest(database, attempts_max=1)
    forgotten: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: forgotten.append(what))

    async def away(_given: object) -> None:
        # Its own one each time: a traceback that is kept keeps the task.
        raise ProviderUnavailable("away")

    plan = Plan(enricher=QuotingEnricher(before=away), embedder=WordEmbedder(before=away))
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobFailed)
    gc.collect()
    assert not forgotten


async def test_a_bad_block_fails_alone(database: Database, connection: asyncpg.Connection) -> None:
    await ingest(
        database, *(new_block("bad" if n == 4 else f"good {n}") for n in range(10)), attempts_max=1
    )

    async def picky(request: EnrichmentRequest) -> None:
        if request.content == "bad":
            raise ProviderRejected("refused")

    async with working(database, Plan(enricher=QuotingEnricher(before=picky))) as worker:
        await worker.events.wait_for(JobCompleted, count=9)
        await worker.events.wait_for(JobFailed)
    rows = await connection.fetch("SELECT content FROM memory_blocks WHERE status = 'failed'")
    assert [row["content"] for row in rows] == ["bad"]


async def test_a_rate_limit_defers_without_consuming_an_attempt(
    database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database, attempts_max=1)
    slow_down = RateLimited("slow down", retry_after_seconds=3_600)
    plan = Plan(
        enricher=QuotingEnricher(before=_raising(slow_down)),
        fallback=QuotingEnricher(kind="local"),  # for failures, not for waiting
    )
    async with working(database, plan) as worker:
        (deferred,) = await worker.events.wait_for(JobDeferred)
    assert deferred.seconds == pytest.approx(3_600, abs=60)
    row = await job_row(connection, accepted.job_id)
    assert (row["status"], row["attempts"]) == ("pending", 0)
    assert row["run_at"] - row["created_at"] > timedelta(minutes=50)
    assert (await _ended(database, accepted.id)).status == "pending_enrichment"


# Fallback


@pytest.mark.parametrize(
    ("error", "attempt"),
    [
        (AWAY, 3),
        (ProviderResponseInvalid("x"), 3),
        (ProviderRejected("x"), 1),
        (ProviderRejected("x", code="provider_bad_key"), 1),
    ],
    ids=["away", "invalid response", "refused text", "refused key"],
)
@pytest.mark.parametrize("who", ["enricher", "embedder"])
async def test_the_fallback_enriches_when_no_attempt_can_help(
    who: str,
    error: LumaMemoryError,
    attempt: int,
    database: Database,
    connection: asyncpg.Connection,
) -> None:
    (accepted,) = await ingest(database)
    plan = Plan(fallback=QuotingEnricher(kind="local"))
    if who == "enricher":
        plan.enricher = QuotingEnricher(before=_raising(error))
    else:
        plan.embedder = WordEmbedder(before=_raising(error))
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted)
    row = await job_row(connection, accepted.job_id)
    assert (row["status"], row["attempts"]) == ("completed", attempt)
    stored = await _ended(database, accepted.id)
    # What the provider did make is used: only the other half is missing.
    kind = "fallback" if who == "enricher" else "model"
    assert (stored.status, stored.enrichment, stored.error) == ("active", kind, str(error))
    step = "enrich" if who == "enricher" else "embed"
    assert stored.backfill_steps == [step]
    # The same text would be refused again, and a model that gave invalid responses in three
    # attempts costs a fourth call: only `luma-memory backfill` sends it once more.
    is_automatic = error.code not in ("provider_rejected", "provider_response_invalid")
    pending = await _backfill(database).pending_counts(project_id=None, user_id=None)
    assert pending == PendingBackfillCounts(0, int(is_automatic), int(not is_automatic))
    vectors = "SELECT count(*) FROM memory_passages WHERE embedding IS NOT NULL"
    assert await connection.fetchval(vectors) == (1 if who == "enricher" else 0)


@pytest.mark.parametrize("who", ["enricher", "embedder"])
async def test_a_hanging_provider_leaves_time_for_the_fallback(
    who: str, database: Database
) -> None:
    (accepted,) = await ingest(database, attempts_max=1)
    plan = Plan(
        fallback=QuotingEnricher(kind="local"),
        timeout=timedelta(seconds=60),
        provider_timeout=timedelta(milliseconds=50),
    )
    if who == "enricher":
        plan.enricher = QuotingEnricher(before=Hanging())
    else:
        plan.embedder = WordEmbedder(before=Hanging())
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted)
    stored = await _ended(database, accepted.id)
    kind = "fallback" if who == "enricher" else "model"
    assert (stored.status, stored.enrichment) == ("active", kind)
    assert stored.title == "Caroline adopted a grey cat."


async def test_without_a_worker_a_rate_limit_is_not_waited_for(
    database: Database, connection: asyncpg.Connection
) -> None:
    # A deferred job would never be run by a worker.
    (accepted,) = await ingest(database, attempts_max=1)
    slow_down = RateLimited("slow down", retry_after_seconds=3_600)
    plan = Plan(
        enricher=QuotingEnricher(before=_raising(slow_down)),
        fallback=QuotingEnricher(kind="local"),
        can_wait=False,
    )
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted)
    stored = await _ended(database, accepted.id)
    assert (stored.status, stored.enrichment, stored.error) == ("active", "fallback", "slow down")


async def test_without_a_worker_and_failing_fast_a_rate_limit_fails_the_block(
    database: Database,
) -> None:
    (accepted,) = await ingest(database, attempts_max=1)
    slow_down = RateLimited("slow down", retry_after_seconds=3_600)
    plan = Plan(enricher=QuotingEnricher(before=_raising(slow_down)), can_wait=False)
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobFailed)
    stored = await _ended(database, accepted.id)
    assert (stored.status, stored.error) == ("failed", "slow down")


# A provider that is known to be away


PAUSED = ProviderPaused("known to be away", retry_after_seconds=3_600)


async def test_a_young_block_waits_for_a_paused_provider_without_an_attempt(
    database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database)
    plan = Plan(
        enricher=QuotingEnricher(before=_raising(PAUSED)),
        fallback=QuotingEnricher(kind="local"),
        paused_wait=timedelta(minutes=50),
    )
    async with working(database, plan) as worker:
        (deferred,) = await worker.events.wait_for(JobDeferred)
    # The job is deferred to its wait limit, 50 minutes after it came, and then runs without.
    assert deferred.seconds == pytest.approx(3_000, abs=60)
    assert (await job_row(connection, accepted.job_id))["attempts"] == 0


async def test_an_old_block_does_without_a_paused_provider(database: Database) -> None:
    (accepted,) = await ingest(database)
    plan = Plan(
        enricher=QuotingEnricher(before=_raising(PAUSED)),
        fallback=QuotingEnricher(kind="local"),
    )
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted)
    stored = await _ended(database, accepted.id)
    assert (stored.enrichment, stored.backfill_steps) == ("fallback", ["enrich"])


# Backfills


def _backfill(database: Database, *circuits: str) -> Backfill:
    return Backfill(PostgresBackfillStore(database), circuits=circuits)


async def test_a_fallback_is_backfilled_when_the_provider_recovers(
    database: Database, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrich_module, "BACKFILL_FIRST", timedelta(milliseconds=10))
    (accepted,) = await ingest(database, attempts_max=1)
    embedded: list[object] = []
    is_away = [True]

    async def away_at_first(_request: object) -> None:
        if is_away[0]:
            raise AWAY

    async def count(texts: object) -> None:
        embedded.append(texts)

    plan = Plan(
        enricher=QuotingEnricher(before=away_at_first),
        embedder=WordEmbedder(before=count),
        fallback=QuotingEnricher(kind="local"),
        backfill=_backfill(database),
    )
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted)
        is_away[0] = False
        await worker.events.wait_for(JobCompleted, count=2)
    stored = await _ended(database, accepted.id)
    assert (stored.status, stored.enrichment, stored.error) == ("active", "model", None)
    assert stored.backfill_steps is None
    assert len(embedded) == 1  # only what was missing is made
    before = await connection.fetchval("SELECT before ->> 'enrichment' FROM memory_block_revisions")
    assert before == "fallback"
    # The payload of the block's second job names the backfilled step.
    payloads = await connection.fetch("SELECT payload FROM memory_jobs ORDER BY id")
    assert [json.loads(row["payload"]) for row in payloads] == [{}, {"backfill": ["enrich"]}]


async def test_a_vain_backfill_changes_nothing_and_comes_back_later(
    database: Database, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrich_module, "BACKFILL_FIRST", timedelta(milliseconds=10))
    (accepted,) = await ingest(database, attempts_max=1)
    plan = Plan(
        enricher=QuotingEnricher(before=_raising(AWAY)),
        fallback=QuotingEnricher(kind="local"),
        backfill=_backfill(database),
    )
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted, count=2)
    stored = await _ended(database, accepted.id)
    assert (stored.status, stored.enrichment, stored.error) == ("active", "fallback", str(AWAY))
    assert await connection.fetchval(
        "SELECT backfill_at > now() + interval '4 minutes' FROM memory_blocks"
    )


async def test_nothing_is_backfilled_while_the_circuit_is_open(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database)
    await connection.execute(
        "UPDATE memory_blocks SET status = 'active', backfill_at = now(),"
        " backfill_steps = '{enrich}'"
    )
    await connection.execute("DELETE FROM memory_jobs")
    await connection.execute(
        "INSERT INTO memory_circuits (name, state, blocked_until)"
        " VALUES ('open', 'limited', now() + interval '1 hour')"
    )
    assert await _backfill(database, "open").enqueue_due() == 0
    assert await _backfill(database, "another").enqueue_due() == 1
    assert await _backfill(database, "another").enqueue_due() == 0


ACCOUNT_CODES = [
    "provider_bad_key",
    "provider_forbidden",
    "provider_no_money",
    "provider_unknown_model",
]


@pytest.mark.parametrize("code", ACCOUNT_CODES)
@pytest.mark.parametrize("who", ["enricher", "embedder", "both"])
async def test_blocks_of_a_refused_account_are_backfilled_once_it_is_accepted(
    who: str,
    code: str,
    database: Database,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enrich_module, "BACKFILL_FIRST", timedelta(milliseconds=10))
    monkeypatch.setattr(enrich_module, "REFUSED_ACCOUNT_RETRY", timedelta(milliseconds=10))
    accepted = await ingest(database, *(new_block(f"text {n}") for n in range(3)))
    is_refused = [True]

    async def refuse_at_first(_given: object) -> None:
        if is_refused[0]:
            raise ProviderRejected("refused", code=code)

    plan = Plan(fallback=QuotingEnricher(kind="local"), backfill=_backfill(database))
    if who != "embedder":
        plan.enricher = QuotingEnricher(before=refuse_at_first)
    if who != "enricher":
        plan.embedder = WordEmbedder(before=refuse_at_first)
    version = "SELECT version FROM memory_users"
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted, count=3)
        before = await connection.fetchval(version)
        await worker.events.wait_for(JobDeferred, count=4)
        # A backfill that is refused again changes no block, so cached contexts stay valid.
        assert await connection.fetchval(version) == before
        is_refused[0] = False
        await worker.events.wait_for(JobCompleted, count=6)
    for response in accepted:
        stored = await _ended(database, response.id)
        assert (stored.status, stored.enrichment, stored.error) == ("active", "model", None)
        assert stored.backfill_steps is None
    vectors = "SELECT count(*) FROM memory_passages WHERE embedding IS NOT NULL"
    assert await connection.fetchval(vectors) == 3
    pending = await _backfill(database).pending_counts(project_id=None, user_id=None)
    assert pending == PendingBackfillCounts(0, 0, 0)


async def test_a_refused_text_is_sent_again_on_request_only(
    database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database)
    calls: list[object] = []

    async def refuse(request: object) -> None:
        calls.append(request)
        raise ProviderRejected("refused")

    backfill = _backfill(database)
    plan = Plan(
        enricher=QuotingEnricher(before=refuse),
        fallback=QuotingEnricher(kind="local"),
        backfill=backfill,
    )
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted)
        assert await backfill.enqueue_due() == 0
        assert await backfill.request(project_id=None, user_id=None) == 1
        await worker.events.wait_for(JobCompleted, count=2)
    assert len(calls) == 2
    stored = await _ended(database, accepted.id)
    assert (stored.enrichment, stored.error) == ("fallback", "refused")
    pending = await backfill.pending_counts(project_id=None, user_id=None)
    assert pending == PendingBackfillCounts(0, 0, 1)


@pytest.mark.parametrize("step", ["enrich", "embed"])
async def test_blocks_refused_before_an_upgrade_are_found_on_request(
    step: str, database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database)
    async with working(database) as worker:
        await worker.events.wait_for(JobCompleted)
    await connection.execute(
        "UPDATE memory_blocks SET enrichment = $1, error = 'refused'",
        "fallback" if step == "enrich" else "model",
    )
    if step == "embed":
        await connection.execute("UPDATE memory_passages SET embedding = NULL")
    migration = files(migrations) / "0013_refused_blocks.sql"
    for _ in range(2):
        await connection.execute(migration.read_text(encoding="utf-8"))
    backfill = _backfill(database)
    assert await backfill.pending_counts(project_id=None, user_id=None) == PendingBackfillCounts(
        0, 0, 1
    )
    async with working(database, Plan(backfill=backfill)) as worker:
        assert await backfill.request(project_id=None, user_id=None) == 1
        await worker.events.wait_for(JobCompleted)
    stored = await _ended(database, accepted.id)
    assert (stored.enrichment, stored.error, stored.backfill_steps) == ("model", None, None)
    vectors = "SELECT count(*) FROM memory_passages WHERE embedding IS NOT NULL"
    assert await connection.fetchval(vectors) == 1


async def test_a_text_refused_while_its_vectors_are_retried_is_kept_for_a_request(
    database: Database,
) -> None:
    (accepted,) = await ingest(database)
    failures = iter([AWAY])

    async def away_once(_texts: object) -> None:
        if error := next(failures, None):
            raise error

    plan = Plan(
        enricher=QuotingEnricher(before=_raising(ProviderRejected("refused"))),
        embedder=WordEmbedder(before=away_once),
        fallback=QuotingEnricher(kind="local"),
    )
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted)
    stored = await _ended(database, accepted.id)
    assert (stored.enrichment, stored.error) == ("fallback", "refused")
    pending = await _backfill(database).pending_counts(project_id=None, user_id=None)
    assert pending == PendingBackfillCounts(0, 0, 1)


@pytest.mark.parametrize("off", ["enrich", "embed"])
async def test_a_disabled_step_is_backfilled_on_request(
    off: str, database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database)
    plan = Plan(backfill=_backfill(database))
    if off == "enrich":
        plan.enricher = None
    else:
        plan.embedder = None
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted)
    stored = await _ended(database, accepted.id)
    assert (stored.status, stored.backfill_steps, stored.error) == ("active", [off], None)
    backfill = _backfill(database)
    assert await backfill.pending_counts(project_id=None, user_id=None) == PendingBackfillCounts(
        0, 0, 1
    )
    assert await backfill.enqueue_due() == 0  # not requested
    async with working(database, Plan(backfill=backfill)) as worker:
        assert await backfill.request(project_id=None, user_id=None) == 1
        await worker.events.wait_for(JobCompleted)
    stored = await _ended(database, accepted.id)
    assert (stored.enrichment, stored.title) == ("model", BLOCK_TEXT)
    vectors = "SELECT count(*) FROM memory_passages WHERE embedding IS NOT NULL"
    assert await connection.fetchval(vectors) == 1
    assert await backfill.pending_counts(project_id=None, user_id=None) == PendingBackfillCounts(
        0, 0, 0
    )


# Stopping


async def test_stopping_hands_unfinished_jobs_back(
    database: Database, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "STOP_GRACE_SECONDS", 0.05)
    accepted = await ingest(database, *(new_block() for _ in range(3)))
    hanging = Hanging()
    plan = Plan(enricher=QuotingEnricher(before=hanging), concurrent_jobs_max=2)
    async with working(database, plan) as worker:
        await hanging.reached.wait()
        await asyncio.wait_for(worker.finish(), timeout=60)
    assert [event.released for event in worker.events.of(WorkerStopped)] == [2]
    rows = [await job_row(connection, response.job_id) for response in accepted]
    assert [(row["status"], row["attempts"], row["locked_by"]) for row in rows] == [
        ("pending", 0, None)
    ] * 3
    async with working(database) as another:
        await another.events.wait_for(JobCompleted, count=3)


async def test_stopping_lets_short_work_end(
    database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database)
    hanging = Hanging()
    async with working(database, Plan(enricher=QuotingEnricher(before=hanging))) as worker:
        await hanging.reached.wait()
        worker.stop.set()
        hanging.released.set()
        await worker.task
    assert [event.released for event in worker.events.of(WorkerStopped)] == [0]
    assert (await job_row(connection, accepted.job_id))["status"] == "completed"


class SlowClaims(PostgresJobQueue):
    """Holds the response of a claim that is already committed."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.committed = asyncio.Event()
        self.released = asyncio.Event()

    async def claim(
        self,
        worker_id: str,
        *,
        limit: int,
        lease: timedelta,
        job_types: Sequence[JobType],
        rescue: bool,
    ) -> Sequence[Job]:
        jobs = await super().claim(
            worker_id, limit=limit, lease=lease, job_types=job_types, rescue=rescue
        )
        self.committed.set()
        await self.released.wait()
        return jobs


async def test_stopping_during_a_claim_loses_no_attempt(
    database: Database, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "STOP_GRACE_SECONDS", 0.05)
    (accepted,) = await ingest(database)
    queue = SlowClaims(database)
    plan = Plan(queue=queue, enricher=QuotingEnricher(before=Hanging()))
    async with working(database, plan) as worker:
        await queue.committed.wait()
        worker.stop.set()
        for _ in range(10):  # let the stop reach the claim
            await asyncio.sleep(0)
        queue.released.set()
        await asyncio.wait_for(worker.task, timeout=60)
    row = await job_row(connection, accepted.job_id)
    assert (row["status"], row["attempts"]) == ("pending", 0)


async def test_a_failed_duty_stops_the_worker_after_its_jobs_are_released(
    database: Database, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "STOP_GRACE_SECONDS", 0.05)
    (accepted,) = await ingest(database)
    hanging = Hanging()

    class Broken(PostgresJobQueue):
        async def claim(self, worker_id: str, **options: Any) -> Sequence[Job]:
            if hanging.reached.is_set():
                raise ZeroDivisionError("a bug")
            return await super().claim(worker_id, **options)

    plan = Plan(queue=Broken(database), enricher=QuotingEnricher(before=hanging))
    with pytest.raises(ZeroDivisionError):
        async with working(database, plan) as worker:
            await asyncio.wait([worker.task], timeout=60)
    row = await job_row(connection, accepted.job_id)
    assert (row["status"], row["attempts"]) == ("pending", 0)


# Waking up, and staying alive


async def _settled(worker: Running, database: Database) -> None:
    """One job through, so that the worker is connected, listening and idle again."""
    done = len(worker.events.of(JobCompleted))
    await ingest(database)
    notifier = Notifier(database)
    notifier.notify()
    await worker.events.wait_for(JobCompleted, count=done + 1)
    await notifier.stop()


async def test_a_notification_wakes_the_worker_long_before_its_poll(database: Database) -> None:
    async with working(database, Plan(poll_interval=HOUR)) as worker:
        for _ in range(3):
            await _settled(worker, database)


async def test_without_its_listening_connection_the_worker_polls(
    database: Database, connection: asyncpg.Connection
) -> None:
    async with working(database, Plan(poll_interval=timedelta(milliseconds=200))) as worker:
        await _settled(worker, database)
        assert (
            await _cut(connection, "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')")
            == 1
        )
        await ingest(database)
        await worker.events.wait_for(JobCompleted, count=2)


async def test_the_worker_outlives_the_loss_of_all_its_connections(
    connect_database: Callable[[], Database], connection: asyncpg.Connection
) -> None:
    database, service = connect_database(), connect_database()
    async with working(database) as worker:
        await _settled(worker, service)
        await ingest(service)
        assert await _cut(connection) >= 2
        await ingest(service)
        await worker.events.wait_for(JobCompleted, count=3)
        # The session lock is taken again, so that no process declares this worker dead.
        async with asyncio.timeout(60):
            while not await connection.fetchval(HOLDS_ITS_LOCK, worker.worker_id):
                pass
    assert len(worker.events.of(WorkerStopped)) == 1


async def test_connections_cut_under_running_jobs_cost_no_block(
    connect_database: Callable[[], Database], connection: asyncpg.Connection
) -> None:
    database, service = connect_database(), connect_database()
    hanging = Hanging()
    accepted = await ingest(service, *(new_block() for _ in range(5)))
    async with working(database, Plan(enricher=QuotingEnricher(before=hanging))) as worker:
        await hanging.reached.wait()
        await _cut(connection)
        hanging.released.set()
        await worker.events.wait_for(JobCompleted, count=5)
    for response in accepted:
        assert (await job_row(connection, response.job_id))["status"] == "completed"
        assert (await _ended(service, response.id)).status == "active"


async def test_another_worker_takes_over_and_the_late_result_is_dropped(
    connect_database: Callable[[], Database], connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(connect_database())
    hanging = Hanging()
    slow = Plan(enricher=QuotingEnricher(kind="fallback", before=hanging))
    async with working(connect_database(), slow) as late:
        await hanging.reached.wait()
        await connection.execute("UPDATE memory_jobs SET locked_until = now() - interval '1 s'")
        # The late one must not be the rescuer of its own job.
        async with working(connect_database()) as other:
            done = asyncio.create_task(other.events.wait_for(JobCompleted))
            again = asyncio.create_task(_claimed_again(connection, accepted.job_id, late.worker_id))
            await asyncio.wait([done, again], return_when=asyncio.FIRST_COMPLETED)
            hanging.released.set()
            await late.events.wait_for(JobLost)
            done.cancel()
            again.cancel()
    row = await job_row(connection, accepted.job_id)
    assert (row["status"], row["attempts"]) == ("completed", 2)


async def _claimed_again(connection: asyncpg.Connection, job_id: int, worker_id: str) -> None:
    """Ends when the worker has taken its own job a second time."""
    while True:
        row = await job_row(connection, job_id)
        if row["attempts"] == 2 and row["locked_by"] == worker_id:
            return


async def test_log_lines_that_operators_search_for(database: Database) -> None:
    async with working(database) as worker:
        pass
    (started,) = worker.events.of(WorkerStarting)
    assert started.message() == "🚀 Memory Worker Starting..."
    assert not worker.events.of(WorkerRoundFailed)

"""What calls take is counted, and a spent budget defers work and drops none."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from tests.fakes.openai_server import FakeOpenAI, hang, html
from tests.support.context_replica import replica
from tests.support.providers import model_target
from tests.support.running import Plan, ingest, job_row, working

from luma_memory.cache.in_process import InProcessCache
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.context import Statement, Synthesis, SynthesisRequest
from luma_memory.domain.enrichment import Enrichment, EnrichmentRequest, ModelCall
from luma_memory.domain.errors import ProviderResponseInvalid, StoreUnavailable
from luma_memory.domain.scope import DEFAULT_PROJECT, Scope
from luma_memory.domain.usage import DailyLimits, PriceTable, Spent, UsageEntry, UsageFilter
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.pipeline.accounts.usage import UsageReports
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.postgres.database import Database
from luma_memory.providers.completion.synthesis import ModelSynthesizer
from luma_memory.providers.embedding.caching import CachingEmbedder
from luma_memory.providers.embedding.openai_compatible import OpenAIEmbedder
from luma_memory.store.usage import PostgresUsageStore
from luma_memory.telemetry.events import JobCompleted, JobDeferred
from luma_memory.testing.models import QuotingEnricher, WordEmbedder
from luma_memory.testing.moved_clock import MovedClock
from luma_memory.testing.sample_blocks import new_block

ADA = Scope(DEFAULT_PROJECT, "ada")
MODEL = "openai/some-model"


class CentAToken:
    """Prices that can be added up in the head."""

    def cost_usd(self, call: ModelCall) -> Decimal | None:
        if call.model.startswith("nobody/"):
            return None
        return Decimal(call.input_tokens + call.output_tokens) / 100

    def knows(self, model: str) -> bool:
        return not model.startswith("nobody/")

    @property
    def table(self) -> PriceTable:
        return PriceTable("test", date(2024, 1, 2))


class CountingEnricher(QuotingEnricher):
    """Reports the tokens of its call."""

    async def enrich(self, request: EnrichmentRequest) -> Enrichment:
        made = await super().enrich(request)
        call = ModelCall(MODEL, 30, 10)
        return Enrichment(
            made.title, made.summary, made.tags, made.entities, made.importance, made.language,
            model=made.model, calls=(call,),
        )  # fmt: skip


class CitingSynthesizer:
    """`ports.models.Synthesizer` that reports the tokens of its call, also of a failed one."""

    name = "citing-1"
    spoilt = False

    async def synthesize(self, request: SynthesisRequest) -> Synthesis:
        call = ModelCall(MODEL, 30, 10)
        if self.spoilt:
            error = ProviderResponseInvalid("no JSON")
            error.calls = (call,)
            raise error
        return Synthesis([Statement(request.blocks[0].content, [1])], calls=[call])

    async def close(self) -> None:
        return


class HangingUsageStore(PostgresUsageStore):
    """Writes nothing until it is let."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.reached, self.free = asyncio.Event(), asyncio.Event()
        self.statements = 0

    async def add(self, entries: Sequence[UsageEntry]) -> Collection[Scope]:
        self.statements += 1
        self.reached.set()
        await self.free.wait()
        return await super().add(entries)


@pytest.fixture(autouse=True)
async def users(connection: asyncpg.Connection) -> None:
    """Calls are made for blocks, and their users are there."""
    await connection.execute("INSERT INTO memory_users (user_id) VALUES ('ada'), ('bea')")


def _spending(database: Database, limits: DailyLimits | None = None) -> Spending:
    return Spending(
        PostgresUsageStore(database),
        prices=CentAToken(),
        limits=limits or DailyLimits(),
        clock=SystemClock(),
    )


def _which(user_id: str | None = None) -> UsageFilter:
    today = datetime.now(UTC).date()
    return UsageFilter(
        project_id=None, user_id=user_id, since=today - timedelta(1), until=today + timedelta(1)
    )


def _reports(database: Database) -> UsageReports:
    return UsageReports(PostgresUsageStore(database), prices=CentAToken, clock=SystemClock())


async def test_calls_are_added_up_by_day_scope_operation_and_model(database: Database) -> None:
    spending = _spending(database)
    for _ in range(20):
        spending.record(ADA, "enrichment", [ModelCall(MODEL, 30, 10)], blocks=1)
        spending.record(ADA, "embedding", [ModelCall("openai/vectors", 7)], blocks=1)
    spending.record(Scope(DEFAULT_PROJECT, "bea"), "enrichment", [ModelCall(MODEL, 1, 1)], blocks=0)
    # A model that failed first costs too; the block is the last one's.
    spending.record(
        ADA, "enrichment", [ModelCall("nobody/x", 5), ModelCall(MODEL, 30, 10)], blocks=1
    )
    await spending.close()
    report = await _reports(database).report(_which("ada"))
    lines = {(line.key.operation, line.key.model): line.spent for line in report.lines}
    assert lines == {
        ("enrichment", MODEL): Spent(21, 630, 210, Decimal("8.4"), 21),
        ("enrichment", "nobody/x"): Spent(1, 5, 0, Decimal(0), 0),
        ("embedding", "openai/vectors"): Spent(20, 140, 0, Decimal("1.4"), 20),
    }
    assert report.by_operation["enrichment"].cost_per_block_usd == Decimal("0.4")
    assert report.unpriced_models == ["nobody/x"]
    all_users = await _reports(database).report(_which())
    assert all_users.total.calls == report.total.calls + 1


async def test_questions_are_counted_once_and_cached_results_are_not(
    dsn: str, database: Database
) -> None:
    await ingest(database, new_block("Ada keeps bees.", user_id="ada"))
    spending = _spending(database)
    cache = InProcessCache(size_bytes_max=1 << 20, clock=SystemClock())
    embedder = CachingEmbedder(
        WordEmbedder(model_id="openai/vectors"), cache, name="vectors", ttl=timedelta(hours=1)
    )
    writer = CitingSynthesizer()
    async with replica(
        dsn, cache=cache, embedder=embedder, synthesizer=writer, spending=spending
    ) as parts:
        result = await parts.ask(ADA, "Who keeps bees?")
        assert result.context.synthesized_by == writer.name
        await parts.ask(ADA, "Who keeps bees?")  # all of it is kept
        await parts.recall.search(
            SearchRequest(scope=ADA, query="Who keeps bees?", limit=1)
        )  # its vector is kept
        writer.spoilt = True
        result = await parts.ask(ADA, "Which bees?")
        assert result.context.synthesized_by is None
    await embedder.close()
    await spending.close()
    report = await _reports(database).report(_which("ada"))
    lines = {(line.key.operation, line.key.model): line.spent for line in report.lines}
    assert lines == {
        ("query", "openai/vectors"): Spent(2, 5, 0, Decimal("0.05"), 0),
        ("synthesis", MODEL): Spent(2, 60, 20, Decimal("0.8"), 0),
    }


async def test_calls_cut_off_by_a_deadline_and_useless_ones_are_counted(
    dsn: str, database: Database
) -> None:
    await ingest(database, new_block("Ada keeps bees.", user_id="ada"))
    spending = _spending(database)
    with FakeOpenAI(dimension=4) as provider:
        account: dict[str, Any] = {"api_key": None, "base_url": provider.base_url}
        embedder = OpenAIEmbedder(model="vectors", dimension=4, **account)
        writer = ModelSynthesizer([model_target("some-model", **account)])
        async with replica(
            dsn,
            embedder=embedder,
            synthesizer=writer,
            spending=spending,
            cache=InProcessCache(size_bytes_max=1 << 20, clock=SystemClock()),
        ) as parts:
            provider.always(hang())
            result = await parts.ask(ADA, "Who keeps bees?", timeout_seconds=1.0)
            assert result.degraded == ["embedding", "synthesis"]
            assert {call.path for call in provider.calls} == {
                "/v1/embeddings",
                "/v1/chat/completions",
            }
            provider.always(html(200))
            result = await parts.ask(ADA, "Which bees?", timeout_seconds=5.0)
            assert result.degraded == ["embedding", "synthesis"]
        await embedder.close()
        await writer.close()
    await spending.close()
    report = await _reports(database).report(_which("ada"))
    lines = {(line.key.operation, line.key.model): line.spent for line in report.lines}
    assert lines == {
        ("query", "openai/vectors"): Spent(2, 0, 0, Decimal(0), 0),
        ("synthesis", MODEL): Spent(2, 0, 0, Decimal(0), 0),
    }


async def test_local_work_is_not_counted(database: Database) -> None:
    spending = _spending(database)
    spending.record(ADA, "embedding", [ModelCall("local/some-model", 9)], blocks=1)
    await spending.close()
    assert (await _reports(database).report(_which())).lines == []


async def test_a_failed_spending_write_delays_no_response(dsn: str, database: Database) -> None:
    await ingest(database, new_block("Ada keeps bees.", user_id="ada"))
    store = HangingUsageStore(database)
    spending = Spending(store, prices=CentAToken(), limits=DailyLimits(), clock=SystemClock())
    cache = InProcessCache(size_bytes_max=1 << 20, clock=SystemClock())
    async with replica(
        dsn, cache=cache, embedder=WordEmbedder(model_id="openai/vectors"), spending=spending
    ) as parts:
        async with asyncio.timeout(60):
            for number in range(20):
                await parts.recall.search(SearchRequest(scope=ADA, query=f"bees {number}", limit=1))
    await store.reached.wait()
    store.free.set()
    await spending.close()
    # Twenty questions, two statements: the first one's, and all that came while it hung.
    (line,) = (await _reports(database).report(_which())).lines
    assert (line.spent.calls, store.statements) == (20, 2)


async def test_a_locked_user_delays_no_others_lines(
    dsn: str, database: Database, connection: asyncpg.Connection
) -> None:
    spending = Spending(
        PostgresUsageStore(database), prices=CentAToken(), limits=DailyLimits(), clock=SystemClock()
    )
    count = "SELECT coalesce(sum(calls), 0) FROM memory_usage WHERE user_id = $1"
    holder = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(30), holder.transaction():
            await holder.execute("SELECT FROM memory_users WHERE user_id = 'ada' FOR UPDATE")
            for user_id in ("ada", "bea"):
                scope = Scope(DEFAULT_PROJECT, user_id)
                spending.record(scope, "enrichment", [ModelCall(MODEL, 30, 10)], blocks=1)
            while await connection.fetchval(count, "bea") != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert await connection.fetchval(count, "ada") == 0
        async with asyncio.timeout(30):
            while await connection.fetchval(count, "ada") != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        await holder.close()
        await spending.close()
    assert await connection.fetchval(count, "bea") == 1, "added once"


async def test_a_worker_counts_what_its_blocks_took_also_in_vain(
    database: Database, connection: asyncpg.Connection
) -> None:
    tries: list[int] = []

    async def spoilt_once(_request: object) -> None:
        tries.append(1)
        if len(tries) == 1:
            error = ProviderResponseInvalid("no JSON")
            error.calls = (ModelCall(MODEL, 30, 400),)
            raise error

    spending = _spending(database)
    await ingest(database, new_block(user_id="ada"))
    plan = Plan(enricher=CountingEnricher(before=spoilt_once), spending=spending)
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted)
    await spending.close()
    report = await _reports(database).report(_which("ada"))
    enrichment = report.by_operation["enrichment"]
    assert (enrichment.calls, enrichment.blocks) == (2, 1)
    assert (enrichment.input_tokens, enrichment.output_tokens) == (60, 410)
    # The vectors were made twice: an attempt each.
    assert report.by_operation["embedding"].blocks == 2


async def test_a_spent_budget_defers_and_drops_nothing(
    database: Database, connection: asyncpg.Connection
) -> None:
    accepted = await ingest(
        database,
        *(new_block(f"block {n}", user_id="ada") for n in range(5)),
        *(new_block(f"block {n}", user_id="bea") for n in range(2)),
    )
    limits = DailyLimits(calls=4)
    spending = _spending(database, limits)
    plan = Plan(enricher=CountingEnricher(), spending=spending, concurrent_jobs_max=1)
    async with working(database, plan) as worker:
        # Two calls a block: two of Ada's, and both of Bea's.
        await worker.events.wait_for(JobCompleted, count=4)
        deferred = await worker.events.wait_for(JobDeferred, count=3)
    assert all(0 < event.seconds <= 3_600 for event in deferred)
    rows = [await job_row(connection, result.job_id) for result in accepted]
    assert [row["attempts"] for row in rows if row["status"] == "pending"] == [0, 0, 0]
    assert {row["user_id"] for row in rows if row["status"] == "pending"} == {"ada"}
    # The next day, or with a higher limit, they are done.
    await spending.close()
    await connection.execute("UPDATE memory_usage SET day = day - 1")
    await connection.execute("UPDATE memory_jobs SET run_at = now()")
    plan = Plan(enricher=CountingEnricher(), spending=_spending(database, DailyLimits(calls=100)))
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted, count=3)


@pytest.mark.parametrize(
    ("limits", "reached"),
    [
        (DailyLimits(calls=2), True),
        (DailyLimits(calls=3), False),
        (DailyLimits(tokens=40), True),
        (DailyLimits(tokens=41), False),
        (DailyLimits(cost_usd=Decimal("0.4")), True),
        (DailyLimits(cost_usd=Decimal("0.41")), False),
        (DailyLimits(calls=0), True),
    ],
)
async def test_limits_in_calls_tokens_and_money(
    limits: DailyLimits, reached: bool, database: Database
) -> None:
    spending = _spending(database, limits)
    spending.record(ADA, "enrichment", [ModelCall(MODEL, 20, 10)], blocks=1)
    spending.record(ADA, "embedding", [ModelCall(MODEL, 10)], blocks=1)
    # Counted before it is written, and after.
    assert (await spending.admit(ADA) is not None) is reached
    spending.leave(ADA)
    await spending.close()
    assert (await spending.admit(ADA) is not None) is reached
    other = _spending(database, limits)
    assert (await other.admit(ADA) is not None) is reached
    assert (await other.admit(Scope("another", "ada")) is not None) is (limits.calls == 0)


async def test_running_jobs_count_against_the_limit(database: Database) -> None:
    spending = _spending(database, DailyLimits(calls=3))
    assert await spending.admit(ADA) is None
    assert await spending.admit(ADA) is None
    wait = await spending.admit(ADA)
    assert wait is not None
    # They may fail: the limit is checked again soon, not tomorrow.
    assert wait - datetime.now(UTC) < timedelta(seconds=10)
    spending.leave(ADA)
    assert await spending.admit(ADA) is None


class AwayAtFirst:
    """A store that is away for the first writes."""

    def __init__(self, inner: PostgresUsageStore) -> None:
        self.inner = inner
        self.tries = 0

    async def add(self, entries: Sequence[UsageEntry]) -> Collection[Scope]:
        self.tries += 1
        if self.tries < 3:
            raise StoreUnavailable("away")
        return await self.inner.add(entries)

    async def spent(self, keys: Sequence[tuple[Scope, date]]) -> Sequence[Spent]:
        return await self.inner.spent(keys)

    async def lines(self, which: UsageFilter, *, limit: int) -> Sequence[UsageEntry]:
        return await self.inner.lines(which, limit=limit)


async def test_nothing_is_lost_while_the_database_is_away(database: Database) -> None:
    store, clock = AwayAtFirst(PostgresUsageStore(database)), MovedClock()
    spending = Spending(store, prices=CentAToken(), limits=DailyLimits(), clock=clock)
    for _ in range(3):
        spending.record(ADA, "enrichment", [ModelCall(MODEL, 1, 1)], blocks=1)
        await asyncio.sleep(0)
    await spending.close()
    (spent,) = await store.spent([(ADA, clock.now().date())])
    assert (spent.calls, spent.tokens) == (3, 6)

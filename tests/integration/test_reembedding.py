"""The embedding model changes on a live installation: search is right before, during and after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from tests.support.running import Plan, ingest, working

from luma_memory.bootstrap.service import open_service
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import ProviderRejected, ProviderUnavailable
from luma_memory.domain.scope import DEFAULT_PROJECT, Scope
from luma_memory.domain.windows import MadeWindow
from luma_memory.pipeline.enrichment import reembed as reembed_module
from luma_memory.pipeline.enrichment.reembed import Reembedding
from luma_memory.pipeline.enrichment.scope_embedders import ScopeEmbedders
from luma_memory.pipeline.enrichment.session_windows import SessionWindows
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.ports.models import Embedder
from luma_memory.postgres.database import Database
from luma_memory.queue.producer import PostgresJobProducer
from luma_memory.settings import load_settings
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.vector_models import PostgresVectorModels
from luma_memory.store.windows import PostgresWindowStore
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import WordEmbedder
from luma_memory.testing.sample_blocks import new_block

OLD, NEW = "words-64", "words-32"
USERS = ("caroline", "melanie")
ALL_ARE_NEW = f"count(*) = 12 FROM memory_passages WHERE embedding_model = '{NEW}'"
TEXTS = [f"note number {n} about nothing in particular" for n in range(6)]


async def _nothing(_texts: object) -> None:
    return


def _new(before: Callable[[Sequence[str]], Awaitable[None]] = _nothing) -> WordEmbedder:
    return WordEmbedder(model_id=NEW, dimension=32, before=before)


def _scope_embedders(
    database: Database, configured: WordEmbedder, *others: WordEmbedder
) -> ScopeEmbedders:
    by_id = {embedder.model.id: embedder for embedder in others}

    async def open_other(model_id: str) -> Embedder | None:
        return by_id.get(model_id)

    return ScopeEmbedders(
        configured,
        model_id=configured.model.id,
        models=PostgresVectorModels(database),
        open_other=open_other,
        clock=SystemClock(),
    )


def _plan(database: Database, configured: WordEmbedder, *others: WordEmbedder) -> Plan:
    models = PostgresVectorModels(database)
    return Plan(
        embedder=configured,
        scope_embedders=_scope_embedders(database, configured, *others),
        reembedding=Reembedding(models, model_id=configured.model.id, circuits=()),
        reembed_store=models,
    )


async def _stored_with_the_old_model(database: Database) -> None:
    blocks = [new_block(text, user_id=user) for user in USERS for text in TEXTS]
    await ingest(database, *blocks)
    await PostgresVectorModels(database).register(OLD)
    async with working(database, _plan(database, WordEmbedder())) as worker:
        await worker.events.wait_for(JobCompleted, count=len(blocks))


async def _models(connection: asyncpg.Connection, user: str | None = None) -> dict[str | None, int]:
    rows = await connection.fetch(
        "SELECT embedding_model, count(*) AS n FROM memory_passages"
        " WHERE $1::text IS NULL OR user_id = $1 GROUP BY 1",
        user,
    )
    return {row["embedding_model"]: row["n"] for row in rows}


def _recall(database: Database, scope_embedders: ScopeEmbedders, embedder: WordEmbedder) -> Recall:
    return Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=1),
        embedder=embedder,
        scope_embedders=scope_embedders,
        emit=EventLog(),
    )


async def _dense(recall: Recall, user: str) -> list[float]:
    """Similarities that the answer is made of; empty when vectors did not count."""
    result = await recall.search(
        SearchRequest(
            scope=Scope(DEFAULT_PROJECT, user), query="note number 3", limit=20, explain=True
        )
    )
    assert result.degraded == []
    assert len(result.hits) > 0
    found = [hit.explanation.get("dense_similarity") for hit in result.hits]
    return [float(value) for value in found if value is not None]


async def _until(connection: asyncpg.Connection, condition: str) -> None:
    async with asyncio.timeout(60):
        while not await connection.fetchval(f"SELECT {condition}"):  # noqa: ASYNC110 - rows of others
            await asyncio.sleep(0.05)


async def test_search_is_right_before_during_and_after(
    database: Database, connect_database: Callable[[], Database], connection: asyncpg.Connection
) -> None:
    await _stored_with_the_old_model(database)
    models = PostgresVectorModels(database)
    await models.register(NEW)
    embedding_started, may_continue = asyncio.Event(), asyncio.Event()

    async def hold_melanie(texts: Sequence[str]) -> None:
        # One scope is done while the other is in progress.
        if len(await _models(connection, "caroline")) == 1 and NEW in await _models(
            connection, "caroline"
        ):
            embedding_started.set()
            await may_continue.wait()

    api = connect_database()
    configured = _new()
    recall = _recall(api, _scope_embedders(api, configured, WordEmbedder()), configured)
    before = {user: await _dense(recall, user) for user in USERS}
    assert all(before.values())

    plan = _plan(database, _new(hold_melanie), WordEmbedder())
    plan.concurrent_jobs_max = 1
    async with working(database, plan) as worker:
        await Reembedding(models, model_id=NEW, circuits=()).start()
        await asyncio.wait_for(embedding_started.wait(), 60)
        # During: one scope new, one old, each whole.
        assert [set(await _models(connection, user)) for user in USERS] == [{NEW}, {OLD}]
        for user in USERS:
            assert await _dense(recall, user)
        # A block that comes now is embedded with its scope's model, and found by its vector.
        for user in USERS:
            await ingest(database, new_block("note number 33 comes late", user_id=user))
        may_continue.set()
        await worker.events.wait_for(JobCompleted, count=4)
        await _until(
            connection,
            "NOT EXISTS (SELECT FROM memory_passages WHERE"
            f" embedding_model IS DISTINCT FROM '{NEW}')",
        )
    assert await _models(connection) == {NEW: 14}
    for user in USERS:
        assert len(await _dense(recall, user)) >= len(before[user])
    assert await connection.fetchval("SELECT count(*) FROM memory_next_passages") == 0


async def test_a_query_is_embedded_again_if_its_scope_switches_models_meanwhile(
    database: Database, connection: asyncpg.Connection
) -> None:
    await _stored_with_the_old_model(database)
    models = PostgresVectorModels(database)
    await models.register(NEW)
    scope = Scope(DEFAULT_PROJECT, "caroline")
    new = _new()
    stale = await models.stale(scope, NEW, limit=100)
    embedded = await new.embed_documents([passage.text for passage in stale])
    await models.put(scope, NEW, [(p, e.vector) for p, e in zip(stale, embedded, strict=True)])
    switched: list[bool] = []

    async def switch_now(_texts: object) -> None:
        if not switched:
            switched.append(True)
            await models.switch(scope, NEW)

    old = WordEmbedder(before=switch_now)
    recall = _recall(database, _scope_embedders(database, new, old), new)
    assert await _dense(recall, "caroline")
    assert switched


async def test_a_killed_reembedding_resumes_where_it_was(
    database: Database, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reembed_module, "BATCH_PASSAGES", 2)
    await _stored_with_the_old_model(database)
    models = PostgresVectorModels(database)
    await models.register(NEW)
    await models.request(NEW)
    embedded: list[str] = []

    async def die_after_two_batches(texts: Sequence[str]) -> None:
        embedded.extend(texts)
        if len(embedded) > 4:
            await asyncio.Event().wait()

    plan = _plan(database, _new(die_after_two_batches), WordEmbedder())
    plan.concurrent_jobs_max = 1
    async with working(database, plan) as worker:
        await _until(connection, "count(*) = 4 FROM memory_next_passages")
        worker.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker.task
        await connection.execute("UPDATE memory_jobs SET locked_until = now() - interval '1 s'")
        worker.task = asyncio.create_task(asyncio.sleep(0))
    assert set(await _models(connection)) == {OLD}  # nothing half done is in use
    progress = await models.progress(NEW)
    assert (progress.requested, progress.total, progress.done) == (True, 12, 4)
    again: list[str] = []

    async def count(texts: Sequence[str]) -> None:
        again.extend(texts)

    async with working(database, _plan(database, _new(count), WordEmbedder())):
        await _until(
            connection, f"count(*) = 12 FROM memory_passages WHERE embedding_model = '{NEW}'"
        )
    assert len(again) == 12 - 4


async def test_passages_without_a_vector_get_one(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, new_block(TEXTS[0]))
    async with working(database, Plan(embedder=None)) as worker:
        await worker.events.wait_for(JobCompleted)
    models = PostgresVectorModels(database)
    await models.request(OLD)
    async with working(database, _plan(database, WordEmbedder())):
        await _until(connection, f"embedding_model = '{OLD}' FROM memory_passages")
        await _until(connection, "wanted_at IS NULL FROM memory_embedding_models")


async def test_a_text_the_model_refuses_keeps_no_one_waiting(
    database: Database, connection: asyncpg.Connection
) -> None:
    await _stored_with_the_old_model(database)
    models = PostgresVectorModels(database)

    async def picky(texts: Sequence[str]) -> None:
        if any("number 3" in text for text in texts):
            raise ProviderRejected("refused", code="provider_refused")

    await models.request(NEW)
    async with working(database, _plan(database, _new(picky), WordEmbedder())):
        await _until(
            connection, f"NOT EXISTS (SELECT FROM memory_passages WHERE embedding_model = '{OLD}')"
        )
        await _until(
            connection, f"retired_at IS NOT NULL FROM memory_embedding_models WHERE id = '{OLD}'"
        )
    assert await _models(connection) == {NEW: 10, f"none:{NEW}": 2}


async def test_a_concurrent_edit_is_not_covered_by_its_old_vector(
    database: Database, connection: asyncpg.Connection
) -> None:
    await _stored_with_the_old_model(database)
    models = PostgresVectorModels(database)
    scope = Scope(DEFAULT_PROJECT, "caroline")
    stale = await models.stale(scope, NEW, limit=100)
    vector = (await _new().embed_query("x")).vector
    await models.put(scope, NEW, [(passage, vector) for passage in stale])
    assert await models.stale(scope, NEW, limit=100) == []
    await connection.execute(
        "UPDATE memory_blocks SET revision = revision + 1 WHERE id = $1", stale[0].block_id
    )
    (edited,) = await models.stale(scope, NEW, limit=100)
    assert edited.block_id == stale[0].block_id
    await models.switch(scope, NEW)
    assert await _models(connection, "caroline") == {NEW: 5, OLD: 1}


async def test_a_model_that_made_no_vectors_is_not_waited_for(database: Database) -> None:
    models = PostgresVectorModels(database)
    await models.register("configured-once")
    await models.register(NEW)
    assert await models.in_use() == [NEW]
    await models.register("configured-once")
    assert await models.in_use() == ["configured-once"]


async def test_a_window_stored_after_the_switch_of_its_scope_is_embedded_again(
    database: Database, connection: asyncpg.Connection
) -> None:
    """By a job that had read the scope's model before: search would never use that window."""
    at = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    turns = [
        new_block(text, session_id="s1", occurred_at=at + timedelta(minutes=number))
        for number, text in enumerate(TEXTS[:2])
    ]
    accepted = await ingest(database, *turns)
    models = PostgresVectorModels(database)
    await models.register(OLD)
    async with working(database, _plan(database, WordEmbedder())) as worker:
        await worker.events.wait_for(JobCompleted, count=len(turns))
    reembedding = Reembedding(models, model_id=NEW, circuits=())
    await reembedding.start()
    plan = _plan(database, _new(), WordEmbedder())
    plan.reembedding = None
    async with working(database, plan) as worker:
        assert await reembedding.round() == 1
        await worker.events.wait_for(JobCompleted, count=1)
    (late,) = await WordEmbedder().embed_documents(["the text of a window"])
    windows = PostgresWindowStore(database)
    await windows.store(
        turns[0].scope,
        [MadeWindow(accepted[1].id, 1, late.vector)],
        embedding_model=OLD,
        dropped=[],
        turns=[],
    )
    await reembedding.round()
    await connection.execute(
        "UPDATE memory_embedding_models SET retired_at = retired_at - interval '1 minute'"
    )
    await reembedding.round()
    assert await models.requested() is None

    plan.windows = SessionWindows(
        windows,
        PostgresJobProducer(database, attempts_max=3),
        embedder=_new(),
        clock=SystemClock(),
    )
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted, count=2)
    assert await _models(connection) == {NEW: 3}


async def test_no_user_is_reembedded_without_a_request(
    database: Database, connection: asyncpg.Connection
) -> None:
    await _stored_with_the_old_model(database)
    models = PostgresVectorModels(database)
    await models.register(NEW)
    assert await Reembedding(models, model_id=NEW, circuits=()).round() == 0
    await models.request(NEW)
    await connection.execute(
        "INSERT INTO memory_circuits (name, state, blocked_until)"
        " VALUES ('down', 'away', now() + interval '1 hour')"
    )
    assert await Reembedding(models, model_id=NEW, circuits=["down"]).round() == 0
    assert await Reembedding(models, model_id=NEW, circuits=["well"]).round() == len(USERS)
    assert await Reembedding(models, model_id=NEW, circuits=["well"]).round() == 0


async def test_a_provider_that_fails_now_and_then_only_slows_it_down(
    database: Database, connection: asyncpg.Connection
) -> None:
    await _stored_with_the_old_model(database)
    models = PostgresVectorModels(database)
    failed: list[int] = []

    async def flaky(_texts: object) -> None:
        failed.append(1)
        if len(failed) % 2:
            raise ProviderUnavailable("now and then")

    await models.request(NEW)
    async with working(database, _plan(database, _new(flaky), WordEmbedder())):
        await _until(
            connection, f"count(*) = 12 FROM memory_passages WHERE embedding_model = '{NEW}'"
        )


async def test_passages_and_the_questions_of_a_user_with_a_name_name_the_speaker(
    database: Database, connection: asyncpg.Connection
) -> None:
    own = new_block("I went to my group, and it was good", user_id="caroline", speaker="Caroline")
    other = new_block("I went to the group as well", user_id="caroline", speaker="assistant")
    await ingest(database, own, other)
    await PostgresVectorModels(database).register(OLD)
    async with working(database, _plan(database, WordEmbedder())) as worker:
        await worker.events.wait_for(JobCompleted, count=2)
    embedded: list[str] = []

    async def note(texts: Sequence[str]) -> None:
        embedded.extend(texts)

    new = WordEmbedder(model_id=NEW, dimension=32, names_speakers=True, before=note)
    models = PostgresVectorModels(database)
    await models.register(NEW)
    async with working(database, _plan(database, new, WordEmbedder())):
        await Reembedding(models, model_id=NEW, circuits=()).start()
        await _until(connection, ALL_ARE_NEW.replace("12", "2"))
    assert sorted(embedded) == [
        "Caroline: Caroline went to Caroline's group, and it was good",
        "assistant: I went to the group as well",
    ]
    del embedded[:]
    recall = _recall(database, _scope_embedders(database, new), new)
    for user, query in (
        ("caroline", "When did I go to my group?"),
        ("dana", "When did I go?"),
        ("dana", "Which sports group did I mention in our conversations?"),
    ):
        scope = Scope(DEFAULT_PROJECT, user)
        await recall.search(SearchRequest(scope=scope, query=query, limit=5))
    # Nothing says that Dana is a speaker, and "did I mention" is about no group.
    assert embedded == [
        "When did Caroline go to Caroline's group?",
        "When did I go?",
        "Which sports group?",
    ]


async def test_a_worker_replaces_the_earlier_version_of_its_own_model_without_a_request(
    database: Database, dsn: str
) -> None:
    models = PostgresVectorModels(database)
    await ingest(database, new_block("note", user_id="caroline"))
    await models.register("local/all-MiniLM-L6-v2-int8")
    plan = _plan(database, WordEmbedder(model_id="local/all-MiniLM-L6-v2-int8"))
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted, count=1)
    for kind in ("api", "worker"):
        assert await models.requested() is None
        async with open_service(load_settings(database_url=dsn), kind=kind):
            pass
    assert await models.requested() == "local/all-MiniLM-L6-v2-int8-named"

"""Reranking over real HTTP: its order, and what happens to a search when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.fakes import openai_server as fake
from tests.fakes.openai_server import FakeOpenAI
from tests.support.running import ingest

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import SearchResult
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.pipeline.recall.reranking import CANDIDATES_MAX
from luma_memory.postgres.database import Database
from luma_memory.providers.breaker import Breaker
from luma_memory.providers.model_provider import http_reranker
from luma_memory.providers.reranking import HttpReranker
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.circuits import PostgresCircuits
from luma_memory.store.search import PostgresSearchStore
from luma_memory.telemetry.events import RecallDegraded
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.sample_blocks import new_block

ADA = Scope("default", "ada")


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as running:
        yield running


@pytest.fixture
async def reranker(server: FakeOpenAI, database: Database) -> AsyncIterator[HttpReranker]:
    clock = SystemClock()
    made = http_reranker(
        model="rerank-test",
        api_key="secret-key",
        base_url=server.base_url,
        timeout_seconds=0.5,
        breaker_of=lambda name: Breaker(PostgresCircuits(database), name, clock=clock),
    )
    assert isinstance(made, HttpReranker)
    yield made
    await made.close()


def _recall(database: Database, reranker: HttpReranker | None, events: EventLog) -> Recall:
    return Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=None,
        emit=events,
        reranker=reranker,
    )


async def _stored(database: Database, count: int) -> None:
    await ingest(
        database,
        *[new_block(f"The boat has number {n}.", user_id=ADA.user_id) for n in range(count)],
    )


async def _ask(recall: Recall, **fields: Any) -> SearchResult:
    return await recall.search(
        SearchRequest(scope=ADA, query="Which boat?", **{"limit": 3} | fields)
    )


def _texts(result: SearchResult) -> list[str]:
    return [hit.block.content for hit in result.hits]


async def test_its_order_applies_beyond_the_requested_limit(
    database: Database, reranker: HttpReranker, server: FakeOpenAI
) -> None:
    await _stored(database, 60)
    recall = _recall(database, reranker, EventLog())
    before = await _ask(_recall(database, None, EventLog()), limit=CANDIDATES_MAX)
    last = before.hits[-1].block.content
    server.script(fake.ranking(favored=last))
    result = await _ask(recall, explain=True)
    assert _texts(result) == [last, *_texts(before)[:2]]
    assert result.hits[0].explanation["rerank_score"] == 2.0
    assert (list(result.degraded), "rerank" in result.timings_ms) == ([], True)
    assert [hit.score for hit in result.hits] == [hit.score for hit in before.hits[:3]]
    (call,) = server.calls
    assert call.path == "/v1/rerank"
    assert call.headers["authorization"] == "Bearer secret-key"
    assert {name: call.body[name] for name in ("model", "query", "top_n")} == {
        "model": "rerank-test",
        "query": "Which boat?",
        "top_n": CANDIDATES_MAX,
    }
    assert len(call.body["documents"]) == CANDIDATES_MAX
    assert len((await _ask(recall, limit=60)).hits) == 60


@pytest.mark.parametrize(
    "fault",
    [
        fake.error(500),
        fake.error(401, code="invalid_api_key"),
        fake.rate_limited(seconds=30),
        fake.redirect("http://127.0.0.1:9/v1/rerank"),
        fake.html(200),
        fake.respond_with(200, {"results": [{"index": 0, "relevance_score": 1.0}]}),
        fake.respond_with(200, {"results": [{"index": 7, "relevance_score": 1.0}] * 2}),
        fake.respond_with(200, '{"results": [{"index": 0, "relevance_score": NaN}]}'),
        fake.respond_with(200, b" " * (5 << 20)),
        fake.reset(),
        fake.hang(),
    ],
    ids=["500", "key", "429", "redirect", "html", "few", "twice", "nan", "huge", "reset", "hang"],
)
async def test_a_search_without_it_is_a_search(
    fault: fake.Reply, database: Database, reranker: HttpReranker, server: FakeOpenAI
) -> None:
    await _stored(database, 2)
    events = EventLog()
    server.always(fault)
    result = await _ask(_recall(database, reranker, events))
    assert (len(result.hits), list(result.degraded)) == (2, ["rerank"])
    (event,) = events.of(RecallDegraded)
    assert event.stage == "rerank"
    assert "secret-key" not in event.error


async def test_it_is_done_without_when_the_time_is_short(
    database: Database, reranker: HttpReranker, server: FakeOpenAI
) -> None:
    await _stored(database, 2)
    server.always(fake.late(0.45))
    loop = asyncio.get_running_loop()
    started = loop.time()
    result = await _ask(_recall(database, reranker, EventLog()), timeout_ms=400)
    assert loop.time() - started < 0.4
    assert (len(result.hits), list(result.degraded)) == (2, ["rerank"])


async def test_nothing_is_requested_for_one_block_or_another_ranking(
    database: Database, reranker: HttpReranker, server: FakeOpenAI
) -> None:
    recall = _recall(database, reranker, EventLog())
    assert _texts(await _ask(recall)) == []
    await _stored(database, 1)
    assert len(_texts(await _ask(recall))) == 1
    await _stored(database, 1)
    assert len(_texts(await _ask(recall, ranking="lexical"))) == 2
    assert server.calls == []

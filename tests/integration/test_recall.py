"""Recall on a real database: who, when, what was replaced, and what is done without."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
from tests.support.running import ingest, working

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import SearchTimeout
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.recall import recall as recall_module
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.pipeline.text.questions import query_terms
from luma_memory.pipeline.text.terms import QueryTerm
from luma_memory.postgres.database import Database
from luma_memory.providers.completion.extract.question import (
    LocalQuestionReader,
    load_language_data,
)
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.telemetry.events import JobCompleted, RecallDegraded
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import WordEmbedder
from luma_memory.testing.sample_blocks import OCCURRED_AT, new_block

CAROLINE = Scope("default", "caroline")


def _recall(
    database: Database, embedder: WordEmbedder | None = None, *, events: EventLog
) -> Recall:
    return Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=embedder,
        reader=LocalQuestionReader(SystemClock()),
        emit=events,
    )


async def _texts(recall: Recall, query: str, **fields: object) -> list[str]:
    result = await recall.search(SearchRequest(scope=CAROLINE, query=query, limit=10, **fields))  # type: ignore[arg-type]
    return [hit.block.content for hit in result.hits]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("What did Ada Smith say of the lake?", "Ada Smith"),
        ("What did Ada say of the lake?", "Ada Smith"),
        ("What did Bob say of the lake?", "Bob"),
        ("what about the lake?", "user"),
        ("What did the assistant say of the lake?", "assistant"),
    ],
)
async def test_the_speaker_who_is_meant_comes_first(
    query: str, first: str, database: Database
) -> None:
    speakers = ("assistant", "Bob", "user", "Ada Smith", None)
    # The same text from all speakers, so that only the speaker and not a term can match.
    blocks = [new_block("The lake is cold.", speaker=speaker) for speaker in speakers]
    await ingest(database, *blocks)
    result = await _recall(database, events=EventLog()).search(
        SearchRequest(scope=CAROLINE, query=query, limit=5, explain=True)
    )
    assert result.hits[0].block.speaker == first
    assert [hit.explanation["speaker"] for hit in result.hits][:2] == [1.0, 0.0]


async def test_a_time_that_is_named_prefers_what_is_of_it(database: Database) -> None:
    days = [datetime.fromisoformat(f"2023-{month:02}-10T12:00:00Z") for month in (3, 5, 7)]
    await ingest(database, *(new_block("We went to the lake.", occurred_at=day) for day in days))
    recall = _recall(database, events=EventLog())
    result = await recall.search(
        SearchRequest(scope=CAROLINE, query="lake in 2023-05", limit=3, explain=True)
    )
    assert result.hits[0].block.occurred_at == days[1]
    assert [hit.explanation["time"] for hit in result.hits] == [0.5, 0.0, 0.0]
    # "Last month" is relative to the requested time.
    as_of = datetime.fromisoformat("2023-08-01T00:00:00Z")
    then = await recall.search(
        SearchRequest(scope=CAROLINE, query="lake last month", limit=1, as_of=as_of)
    )
    assert then.hits[0].block.occurred_at == days[2]


@pytest.mark.parametrize(
    ("query", "names_times"),
    [("the lake yesterday", True), ("the lake last week", True), ("Who was at the lake?", False)],
)
async def test_a_result_reports_whether_the_question_names_a_time(
    query: str, names_times: bool, database: Database
) -> None:
    load_language_data()  # a search gives up waiting for it on a busy machine
    recall = _recall(database, events=EventLog())
    for count in (0, 1):  # without and with anything stored
        result = await recall.search(SearchRequest(scope=CAROLINE, query=query, limit=3))
        assert (len(result.hits), result.names_times) == (count, names_times)
        await ingest(database, new_block("We went to the lake."))


async def test_the_day_that_a_question_names_ranks_first(database: Database) -> None:
    dishes = ("pasta", "rice", "soup", "salad", "pizza", "curry", "stew", "fish", "beans", "eggs")
    start = datetime.fromisoformat("2026-03-01T19:00:00Z")
    await ingest(
        database,
        *(
            new_block(f"Dinner: {dish}", occurred_at=start + timedelta(days=day))
            for day, dish in enumerate(dishes)
        ),
    )
    recall = _recall(database, WordEmbedder(), events=EventLog())
    now = start + timedelta(days=len(dishes) - 1, hours=1)
    found = await recall.search(
        SearchRequest(scope=CAROLINE, query="What was dinner yesterday?", limit=3, as_of=now)
    )
    assert found.hits[0].block.content == f"Dinner: {dishes[-2]}"


async def test_a_question_about_a_time_alone_returns_the_blocks_of_that_time(
    database: Database,
) -> None:
    """None of its words is in the block, and nothing of it is embedded yet."""
    at = datetime.fromisoformat("2026-03-10T09:00:00Z")
    await ingest(
        database,
        new_block("The boiler broke.", occurred_at=at),
        new_block("Old news.", occurred_at=at - timedelta(days=40)),
    )
    recall = _recall(database, events=EventLog())
    for query, expected in (
        ("What did I do yesterday?", ["The boiler broke."]),
        ("Which car did I buy yesterday?", []),
    ):
        now = at + timedelta(days=1)
        found = await recall.search(
            SearchRequest(scope=CAROLINE, query=query, limit=5, as_of=now, relevant_only=True)
        )
        assert [hit.block.content for hit in found.hits] == expected


@pytest.mark.parametrize(
    ("query", "timely"),
    [
        ("What did we do at the lake before the move to Lisbon?", [1.0, 0.0]),
        ("What did we do at the lake after we moved to Lisbon?", [0.0, 1.0]),
        ("Since the move to Lisbon, were we at the lake?", [0.0, 1.0]),
        (
            "What did we do at the lake before the wedding in Rome?",
            [0.0, 0.0],
        ),  # never mentioned
        ("Were we at the lake before?", [0.0, 0.0]),
    ],
)
async def test_a_time_relative_to_an_event_prefers_its_side(
    query: str, timely: list[float], database: Database
) -> None:
    early, moved, late = (OCCURRED_AT + timedelta(days=days) for days in (0, 40, 80))
    await ingest(
        database,
        new_block("We went to the lake.", occurred_at=early),
        new_block("Today we moved to Lisbon!", occurred_at=moved),
        new_block("We went to the lake.", occurred_at=late),
    )
    result = await _recall(database, events=EventLog()).search(
        SearchRequest(scope=CAROLINE, query=query, limit=3, explain=True)
    )
    lake = sorted(
        (hit for hit in result.hits if "lake" in hit.block.content),
        key=lambda hit: hit.block.occurred_at,
    )
    assert [float(bool(hit.explanation["time"])) for hit in lake] == timely
    if any(timely):
        first = next(hit for hit in result.hits if "lake" in hit.block.content)
        assert first is lake[timely.index(1.0)]


async def test_a_replaced_block_is_hidden_unless_requested_or_as_of_before(
    database: Database, connection: asyncpg.Connection
) -> None:
    old, new = await ingest(
        database,
        new_block("Ada lives in Rome."),
        new_block("Ada lives in Oslo.", occurred_at=OCCURRED_AT + timedelta(days=30)),
    )
    await connection.execute(
        "UPDATE memory_blocks SET superseded_by = $2, superseded_at = now() WHERE id = $1",
        *(old.id, new.id),
    )
    recall = _recall(database, events=EventLog())
    query = "Where does Ada live?"
    assert await _texts(recall, query) == ["Ada lives in Oslo."]
    assert len(await _texts(recall, query, include_superseded=True)) == 2
    before, after = OCCURRED_AT + timedelta(days=10), OCCURRED_AT + timedelta(days=40)
    assert await _texts(recall, query, as_of=before) == ["Ada lives in Rome."]
    assert await _texts(recall, query, as_of=after) == ["Ada lives in Oslo."]


async def test_what_has_expired_since_was_there_then(database: Database) -> None:
    await ingest(database, new_block(expires_at=OCCURRED_AT + timedelta(days=10)))
    recall = _recall(database, events=EventLog())
    assert await _texts(recall, "cat") == []
    assert len(await _texts(recall, "cat", as_of=OCCURRED_AT + timedelta(days=5))) == 1
    assert await _texts(recall, "cat", as_of=OCCURRED_AT + timedelta(days=15)) == []


async def test_a_slow_provider_is_done_without_in_the_time_given(database: Database) -> None:
    await ingest(database)
    async with working(database) as worker:
        await worker.events.wait_for(JobCompleted)
    never = asyncio.Event()

    async def hang(_texts: Sequence[str]) -> None:
        await never.wait()

    events = EventLog()
    recall = _recall(database, WordEmbedder(before=hang), events=events)
    started = asyncio.get_running_loop().time()
    result = await recall.search(
        SearchRequest(scope=CAROLINE, query="grey cat", limit=3, timeout_ms=1_000)
    )
    assert asyncio.get_running_loop().time() - started < 1.0
    assert (len(result.hits), list(result.degraded)) == (1, ["embedding"])
    assert events.of(RecallDegraded)


async def test_a_database_timeout_is_reported(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database)
    async with connection.transaction():
        await connection.execute("LOCK TABLE memory_passages IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SearchTimeout):
            await _recall(database, events=EventLog()).search(
                SearchRequest(scope=CAROLINE, query="grey cat", limit=3, timeout_ms=300)
            )
    assert len(await _texts(_recall(database, events=EventLog()), "grey cat")) == 1


@pytest.mark.parametrize("word", ["next ", "Jan ", "1 day ", "ﷺ", "aB", "漢"])
async def test_the_words_of_a_long_question_are_read_beside_the_event_loop(
    database: Database, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    threads: list[threading.Thread] = []

    def noted(query: str, **options: Any) -> Sequence[QueryTerm]:
        threads.append(threading.current_thread())
        return query_terms(query, **options)

    monkeypatch.setattr(recall_module, "query_terms", noted)
    recall = _recall(database, events=EventLog())
    for query in ("Where is the kayak?", (word * 10_000)[:10_000]):
        await recall.search(SearchRequest(scope=CAROLINE, query=query, limit=5))
    short, long = threads
    assert short is threading.current_thread()
    assert long is not threading.current_thread()

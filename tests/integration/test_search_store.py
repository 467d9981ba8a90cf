"""The scan's columns: every live passage of one scope, scored, in one order."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest
from tests.support.running import ingest, working

from luma_memory.domain.block_selection import BlockSelection
from luma_memory.domain.enrichment import Vector
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import ScanRequest, ScopeScan
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.pipeline.recall.scope_layout import lay_out, scored_by_scan
from luma_memory.pipeline.text.questions import query_terms
from luma_memory.pipeline.text.terms import TermVector, document_terms, query_vector
from luma_memory.postgres.database import Database
from luma_memory.store.block_selections import PostgresBlockSelections
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.telemetry.events import JobCompleted, RecallDegraded
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import WordEmbedder
from luma_memory.testing.sample_blocks import OCCURRED_AT, ingest_item, new_block

CAROLINE = Scope("default", "caroline")
CAROLINE_BLOCKS = BlockSelection(project_id="default", user_id="caroline")
TEXTS = [
    "Caroline adopted a grey cat from the shelter.",
    "The cat sleeps on the grey sofa, the cat eats, the cat purrs.",
    "Melanie walks her dog in the park.",
    "A long story without the animals in question. " * 60,
]


def _one_hot(indices: Sequence[int]) -> bytes:
    ordered = sorted(set(indices))
    return TermVector(ordered, [1.0] * len(ordered)).to_binary()


async def _scan(
    database: Database,
    query: str,
    *,
    scope: Scope = CAROLINE,
    vector: Vector | None = None,
    model: str | None = None,
    **fields: Any,
) -> ScopeScan:
    terms = query_terms(query)
    return await PostgresSearchStore(database).scan(
        scope,
        ScanRequest(
            vector=vector,
            embedding_model=model,
            terms=[_one_hot([term.index]) for term in terms],
            all_terms=_one_hot([term.index for term in terms]),
            **fields,
        ),
    )


def _ids(scan: ScopeScan) -> list[UUID]:
    raw = scan.block_ids
    return [UUID(bytes=raw[at : at + 16]) for at in range(0, len(raw), 16)]


async def _embed(database: Database, count: int) -> None:
    async with working(database) as worker:
        await worker.events.wait_for(JobCompleted, count=count)


async def test_a_scope_without_blocks_is_empty(database: Database) -> None:
    await ingest(database, new_block(user_id="melanie"), new_block(project_id="other"))
    scan = await _scan(database, "cat")
    assert (scan.row_count, scan.block_ids, list(scan.dense)) == (0, b"", [])
    assert [list(column) for column in scan.term_weights] == [[]]


async def test_columns_speak_of_the_same_passages(database: Database) -> None:
    items = [ingest_item(new_block(text)) for text in TEXTS]
    await PostgresBlockStore(database, attempts_max=3).ingest(items, lease=None)
    scan = await _scan(database, "Did the cat purr?")
    expected = {(item.id, p.ordinal): p for item in items for p in item.passages}
    found = list(zip(_ids(scan), scan.ordinals, strict=True))
    assert sorted(found) == sorted(expected)
    assert scan.row_count > len(TEXTS)
    assert all(math.isnan(similarity) for similarity in scan.dense)
    for term, column in zip(query_terms("Did the cat purr?"), scan.term_weights, strict=True):
        for key, weight in zip(found, column, strict=True):
            passage = expected[key]
            assert weight == pytest.approx(_weight(passage.lexemes, term.index), abs=1e-6)
    assert any(column.count(0.0) < len(column) for column in scan.term_weights)


def _weight(lexemes: bytes, index: int) -> float:
    """A term's weight in pgvector's binary form."""
    _, count, _ = np.frombuffer(lexemes, ">i4", 3)
    indices = np.frombuffer(lexemes, ">i4", count, 12).tolist()
    values = np.frombuffer(lexemes, ">f4", count, 12 + 4 * int(count))
    return float(values[indices.index(index - 1)]) if index - 1 in indices else 0.0


async def test_bm25_of_the_columns_is_bm25_by_inner_product(database: Database) -> None:
    blocks = [new_block(text) for text in TEXTS[:3]]
    accepted = await ingest(database, *blocks)
    query = "grey cat cat park"
    scan = await _scan(database, query)
    terms = query_terms(query)
    layout = lay_out(scored_by_scan(scan), terms)
    frequencies = [sum(weight > 0 for weight in column) for column in scan.term_weights]
    weighed = query_vector(terms, frequencies, passage_count=scan.row_count)
    expected = {
        one.id: document_terms(block.content).inner_product(weighed)
        for one, block in zip(accepted, blocks, strict=True)
    }
    # The day is a word of every passage but makes none longer.
    for number, score in zip(layout.scores.block, layout.scores.lexical.tolist(), strict=True):
        assert score == pytest.approx(expected[layout.block_id(int(number))], rel=1e-4)


async def test_dense_is_the_cosine_of_vectors_of_that_model_only(database: Database) -> None:
    accepted = await ingest(database, *(new_block(text) for text in TEXTS[:2]))
    await _embed(database, 2)
    await ingest(database, new_block(TEXTS[2]))
    embedder = WordEmbedder()
    query = (await embedder.embed_query(TEXTS[0])).vector
    scan = await _scan(database, "cat", vector=query, model=embedder.model.id)
    similarity = dict(zip(_ids(scan), scan.dense, strict=True))
    assert similarity[accepted[0].id] == pytest.approx(1.0, abs=2e-3)
    other = (await embedder.embed_query(TEXTS[1])).vector
    cosine = sum(a * b for a, b in zip(query, other, strict=True))
    assert similarity[accepted[1].id] == pytest.approx(cosine, abs=2e-3)
    assert sum(math.isnan(value) for value in similarity.values()) == 1
    foreign = await _scan(database, "cat", vector=array("f", [1.0] * 3), model="other-3")
    assert all(math.isnan(value) for value in foreign.dense)


async def test_what_has_expired_is_not_scanned(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(
        database,
        new_block(expires_at=datetime(2020, 1, 1, tzinfo=UTC)),
        new_block(expires_at=datetime(2100, 1, 1, tzinfo=UTC)),
    )
    assert (await _scan(database, "cat")).row_count == 1


async def test_a_query_without_words_or_with_too_many_is_no_error(database: Database) -> None:
    await ingest(database)
    for query in ("", "?!…", "word" * 50_000, " ".join(f"word{n}" for n in range(500))):
        assert (await _scan(database, query)).row_count == 1


async def test_a_block_is_found_before_and_after_its_enrichment(database: Database) -> None:
    accepted = await ingest(database, *(new_block(text) for text in TEXTS))
    events = EventLog()
    recall = Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=WordEmbedder(),
        emit=events,
    )
    for _ in range(2):
        result = await recall.search(
            SearchRequest(
                scope=CAROLINE, query="Whose dog walks in the park?", limit=2, explain=True
            )
        )
        assert result.hits[0].block.id == accepted[2].id
        assert len(result.hits) <= 2
        assert result.degraded == []
        assert result.hits[0].explanation["lexical_score"]
        await _embed(database, len(TEXTS)) if not result.hits[0].block.title else None
    assert result.hits[0].block.title is not None
    assert result.hits[0].explanation["dense_similarity"] is not None
    assert not events.of(RecallDegraded)


async def test_pages_are_newest_first_and_complete(database: Database) -> None:
    blocks = [new_block(f"Message {n}", session_id=f"s{n % 2}") for n in range(7)]
    accepted = await ingest(database, *blocks, new_block(user_id="melanie"))
    store, of_caroline = PostgresBlockSelections(database), CAROLINE_BLOCKS
    seen: list[UUID] = []
    before: UUID | None = None
    while True:
        page = await store.page(of_caroline, limit=3, before=before)
        seen += [block.id for block in page.blocks]
        if (before := page.next_before) is None:
            break
    assert seen == [one.id for one in accepted[6::-1]]
    waiting = replace(of_caroline, status="pending_enrichment", session_id="s1")
    of_session = await store.page(waiting, limit=10, before=None)
    assert [block.content for block in of_session.blocks] == ["Message 5", "Message 3", "Message 1"]
    active = await store.page(replace(of_caroline, status="active"), limit=10, before=None)
    assert (active.blocks, active.next_before) == ([], None)


async def test_a_foreign_block_reads_like_a_missing_one(database: Database) -> None:
    (mine, theirs) = await ingest(database, new_block(), new_block(user_id="melanie"))
    store = PostgresBlockStore(database, attempts_max=3)
    keys = [(CAROLINE, theirs.id), (CAROLINE, mine.id), (Scope("other", "caroline"), mine.id)]
    assert [block.id if block else None for block in await store.read(keys)] == [
        None,
        mine.id,
        None,
    ]
    assert await store.read([]) == []
    (again, twice) = await store.read([(CAROLINE, mine.id)] * 2)
    assert again is not None
    assert again == twice
    assert again.occurred_at == OCCURRED_AT

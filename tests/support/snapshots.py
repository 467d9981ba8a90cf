"""Searches by snapshots, and their comparison with the scan."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from tests.support.scope_world import ADA, MODELS, embedder

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.search import SearchResult
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.pipeline.recall.snapshots import Snapshots
from luma_memory.postgres.database import Database
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.snapshots import PostgresSnapshotStore
from luma_memory.testing.event_log import EventLog

QUERIES = ("Where is Bea's grey kayak?", "who sold the old boat in May, E0277?")


def new_snapshots(database: Database, *, bytes_max: int = 1 << 28) -> Snapshots:
    return Snapshots(PostgresSnapshotStore(database), bytes_max, SystemClock())


def new_recall(database: Database, snapshots: Snapshots | None, model: str = MODELS[0]) -> Recall:
    return Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=embedder(model),
        emit=EventLog(),
        snapshots=snapshots,
    )


async def top(recall: Recall, query: str, **fields: Any) -> SearchResult:
    return await recall.search(
        SearchRequest(scope=ADA, query=query, limit=50, explain=True, **fields)
    )


def assert_equal(found: SearchResult, expected: SearchResult) -> None:
    """The same blocks in the same order, but for scores that are one within 1e-6."""
    scores = [[hit.score for hit in result.hits] for result in (found, expected)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-6)
    by_id = {hit.block.id: hit for hit in expected.hits}
    assert {hit.block.id for hit in found.hits} == set(by_id)
    for hit in found.hits:
        other = by_id[hit.block.id]
        assert abs(hit.score - other.score) <= 1e-6
        assert abs(hit.relevance - other.relevance) <= 1e-6
        assert hit.block == other.block


async def assert_as_scanned(recall: Recall, scan: Recall, query: str, **fields: Any) -> None:
    """As the scan just before or just after: a block may expire in between. One that expires within
    the search, when its score is known and its text is not read yet, is left out of the hits.
    """
    before, found = await top(scan, query, **fields), await top(recall, query, **fields)
    with suppress(AssertionError):
        assert_equal(found, before)
        return
    after = await top(scan, query, **fields)
    with suppress(AssertionError):
        assert_equal(found, after)
        return
    there = {hit.block.id for hit in (*found.hits, *after.hits)}
    assert_equal(found, replace(before, hits=[h for h in before.hits if h.block.id in there]))

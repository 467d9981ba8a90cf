"""Search by a snapshot in this process: what it computes, and against the scan of the same scope.

Scopes of made-up vectors and terms, in sizes that hide no threshold, with a window for every second
block; each term of the query is in one of 30 passages. Searches include the embedding.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numkong
import numpy as np

from benchmarks.figures import Line, Target
from benchmarks.processor import database_process, processor_seconds
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.enrichment import EmbeddingModel
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.recall.fusion import Fusion
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.pipeline.recall.scope_layout import lay_out
from luma_memory.pipeline.recall.snapshots import Current, Snapshots
from luma_memory.pipeline.text.questions import query_terms
from luma_memory.providers.embedding.local import LocalEmbedder
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.snapshots import PostgresSnapshotStore
from luma_memory.testing.sample_blocks import ingest_item, new_block

_CLIENTS = 16
_BYTES_MAX = 2 << 30
_ROUNDS = 15
_SEARCHES = 100  # one after the other; their median is compared with another scope's
_QUERY = "Where did Marta leave the grey kayak in May?"
_BLOCKS = """
INSERT INTO memory_blocks (id, user_id, content, session_id, occurred_at, content_hash, status)
SELECT gen_random_uuid(), $1, 'block ' || n, 's' || n / 20, now() - n * interval '1 min', 'h',
       'active'
FROM generate_series(1, $2::integer) AS n
"""
_PASSAGES = """
INSERT INTO memory_passages (user_id, block_id, ordinal, start_at, stop_at, session_id, occurred_at,
                             lexemes, embedding, embedding_model)
SELECT b.user_id, b.id, o.ordinal, 0, 9, b.session_id, b.occurred_at,
       CASE WHEN o.ordinal < 0 THEN '{}/1000000000'::sparsevec ELSE v.lexemes END,
       l2_normalize(v.embedding), $2
FROM memory_blocks AS b CROSS JOIN LATERAL (
    SELECT ('{' || string_agg(k || ':1', ',') || '}/1000000000')::sparsevec AS lexemes,
           (SELECT array_agg(random()::real - 0.5) FROM generate_series(1, $3::integer)
            WHERE b.id IS NOT NULL)::halfvec AS embedding
    FROM (SELECT 1 + n * 997 + abs(hashtext(b.id::text || n)) % 997 AS k
          FROM generate_series(0, 29) AS n
          UNION SELECT t FROM unnest($4::integer[]) AS t
          WHERE abs(hashtext(b.id::text || t)) % 30 = 0) AS k) AS v
CROSS JOIN LATERAL (
    SELECT 0 AS ordinal UNION ALL SELECT -1 WHERE abs(hashtext(b.id::text)) % 2 = 0) AS o
WHERE b.user_id = $1
"""
_VERSION = """
INSERT INTO memory_users AS u (user_id, version) VALUES ($1, memory_next_version(0, now()))
ON CONFLICT (project_id, user_id) DO NOTHING
"""


async def compare(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """By size of the scope: compute over the bare product, and p50 over that of the smallest."""
    lines: list[Line] = []
    smallest: _Speed | None = None
    embedder = await LocalEmbedder.open()
    try:
        for count in sizes.snapshot_scopes:
            found, smallest = await _of_scope(stack, count, embedder, smallest)
            lines += found
    finally:
        await embedder.close()
    await stack.clear()
    return lines


@dataclass(frozen=True, slots=True)
class _Speed:
    p50: float  # ms
    per_second: float  # of all clients


async def _of_scope(
    stack: Stack, count: int, embedder: LocalEmbedder, smallest: _Speed | None
) -> tuple[Sequence[Line], _Speed]:
    """smallest: of the smallest scope; None where this is it. Returned with the lines."""
    scope = Scope("default", f"snapshots-{count}")
    await _store(stack, scope, count, embedder.model)
    snapshots = Snapshots(PostgresSnapshotStore(stack.database), _BYTES_MAX, SystemClock())
    current, load = await _loaded(snapshots, scope, embedder.model.id)
    kept, scanned = (_recall(stack, embedder, used) for used in (snapshots, None))
    vector = (await embedder.embed_query(_QUERY)).vector
    product = await _median(partial(_product, current, vector))
    compute = await _median(partial(_compute, current, vector))
    plain = await _median(partial(_search, kept, scope), _SEARCHES)
    scan = await _median(partial(_search, scanned, scope))
    after_write = await _after_writes(stack, kept, scope)
    per_second = await _per_second(kept, scope)
    kept_cpu, scan_cpu = [await _processor_ms(stack, one, scope) for one in (kept, scanned)]
    memory = snapshots.size_bytes / count
    await snapshots.close()
    smallest = smallest or _Speed(plain, per_second)
    key, what = f"snapshot_{count}", f"snapshot of {count:,} blocks"
    lines = [
        _line(f"{key}_compute", f"{what}, compute", compute, product, "bare product"),
        _line(f"{key}_p50", f"{what}, search p50", plain, smallest.p50, "smallest scope"),
        _line(f"{key}_scan", f"{what}, search p50", plain, scan, "scan"),
        _line(f"{key}_write", f"{what}, first after a write", after_write, plain, "plain"),
        _line(
            *(f"{key}_rate", f"{what}, {_CLIENTS} clients", per_second, smallest.per_second),
            name="smallest scope",
            unit="searches/s",
        ),
        _line(
            *(f"{key}_processor", f"{what}, processor time a search", scan_cpu, kept_cpu),
            name="snapshot; value: scan",
        ),
        Line(f"{key}_load", f"{what}, load", load, "ms"),
        Line(f"{key}_memory", f"{what}, memory a block", memory, "bytes"),
    ]
    return lines, smallest


async def _store(stack: Stack, scope: Scope, count: int, model: EmbeddingModel) -> None:
    await stack.database.execute(_BLOCKS, scope.user_id, count)
    terms = [term.index for term in query_terms(_QUERY)]
    await stack.database.execute(_PASSAGES, scope.user_id, model.id, model.dimension, terms)
    await stack.database.execute(_VERSION, scope.user_id)
    await stack.database.execute("VACUUM ANALYZE memory_passages, memory_blocks")


async def _loaded(snapshots: Snapshots, scope: Scope, model: str) -> tuple[Current, float]:
    """The scope's snapshot, and the milliseconds until it was there."""
    started = time.perf_counter()
    for _ in range(2):
        await snapshots.current(scope, model, ())
    await snapshots.loaded()
    duration = (time.perf_counter() - started) * 1000
    current = await snapshots.current(scope, model, ())
    assert current is not None
    return current, duration


def _recall(stack: Stack, embedder: LocalEmbedder, snapshots: Snapshots | None) -> Recall:
    store = PostgresBlockStore(stack.database, attempts_max=3)
    return Recall(
        PostgresSearchStore(stack.database),
        store,
        embedder=embedder,
        emit=lambda _event: None,
        snapshots=snapshots,
    )


async def _search(recall: Recall, scope: Scope) -> None:
    await recall.search(SearchRequest(scope=scope, query=_QUERY, limit=10))


async def _product(current: Current, vector: Sequence[float]) -> None:
    question = np.asarray(vector, dtype=np.float16)[np.newaxis]
    for segment in current.snapshot.segments:
        _ = numkong.cdist(question, segment.vectors, metric="dot")


async def _compute(current: Current, vector: Sequence[float]) -> None:
    terms = query_terms(_QUERY)
    scored = current.scored(vector, [term.index for term in terms])
    Fusion(lay_out(scored, terms).scores).best(50)


async def _after_writes(stack: Stack, recall: Recall, scope: Scope) -> float:
    store, taken = PostgresBlockStore(stack.database, attempts_max=3), []
    for _ in range(_ROUNDS):
        text = f"The kayak {random.random()} is in the garage."
        await store.ingest([ingest_item(new_block(text, user_id=scope.user_id))], lease=None)
        started = time.perf_counter()
        await _search(recall, scope)
        taken.append((time.perf_counter() - started) * 1000)
    return median(taken)


async def _per_second(recall: Recall, scope: Scope) -> float:
    started = time.perf_counter()

    async def client() -> None:
        for _ in range(_ROUNDS):
            await _search(recall, scope)

    await asyncio.gather(*(client() for _ in range(_CLIENTS)))
    return _CLIENTS * _ROUNDS / (time.perf_counter() - started)


async def _processor_ms(stack: Stack, recall: Recall, scope: Scope) -> float:
    """Of this process and PostgreSQL for one search."""
    server = await database_process(stack)

    def spent() -> float:
        return time.process_time() + processor_seconds(server)

    count = 2 * _ROUNDS
    before = spent()
    for _ in range(count):
        await _search(recall, scope)
    return (spent() - before) * 1000 / count


async def _median(work: Callable[[], Awaitable[None]], rounds: int = _ROUNDS) -> float:
    """Milliseconds, after one call that fills caches."""
    await work()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - started) * 1000)
    return median(taken)


def _line(key: str, what: str, value: float, limit: float, name: str, unit: str = "ms") -> Line:
    target = _TARGETS.get(key)
    return Line(
        key, what, value, unit, limit=limit, limit_name=name, ratio=value / limit, target=target
    )


_TARGETS = {
    "snapshot_10048_compute": Target(3.0, "low"),
    "snapshot_100000_compute": Target(2.0, "low"),
    "snapshot_10048_p50": Target(1.25, "low"),
    "snapshot_100000_p50": Target(3.0, "low"),
    "snapshot_10048_write": Target(1.5, "low"),
    "snapshot_10048_rate": Target(0.85, "high"),
    "snapshot_10048_processor": Target(4.0, "high"),
    "snapshot_100000_processor": Target(15.0, "high"),
}

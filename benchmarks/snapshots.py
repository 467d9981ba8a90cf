"""Search by a snapshot in this process: what it computes, and against the scan of the same scope.

Scopes of made-up vectors and terms, in sizes that hide no threshold, with a window for every second
block; each term of the query is in one of 30 passages. Searches include the embedding. What is
compared is measured in turns: on a shared machine the seconds differ more than the scopes.
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
from luma_memory.pipeline.recall.scope_layout import lay_out_words
from luma_memory.pipeline.recall.snapshots import Current, Snapshots
from luma_memory.pipeline.text.questions import query_terms
from luma_memory.postgres.database import Database
from luma_memory.providers.embedding.local import LocalEmbedder
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.snapshots import PostgresSnapshotStore
from luma_memory.testing.sample_blocks import ingest_item, new_block

_CLIENTS = 16
_BYTES_MAX = 2 << 30
_ROUNDS = 15
_TURNS = 30
_SEARCHES = 10  # one after the other, in each turn
_CLIENT_SEARCHES = 5  # of each client, in each turn of rates
QUERY = "Where did Marta leave the grey kayak in May?"
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
    embedder = await LocalEmbedder.open()
    scopes: list[_LoadedScope] = []
    lines: list[Line] = []
    try:
        vector = (await embedder.embed_query(QUERY)).vector
        for count in sizes.snapshot_scopes:
            scopes += [await _load(stack, count, embedder)]
        times = await _in_turns([partial(_search, one.kept, one.scope) for one in scopes])
        rates = await _rates(scopes)
        for one, p50, per_second in zip(scopes, times, rates, strict=True):
            lines += await _beside_scan(stack, one, vector)
            lines += _beside_smallest(one, (p50, per_second), (times[0], rates[0]))
    finally:
        for one in scopes:
            await one.snapshots.close()
        await embedder.close()
    await stack.clear()
    return lines


@dataclass(frozen=True, slots=True)
class _LoadedScope:
    """A scope whose snapshot is loaded, searched by the snapshot (kept) and by a scan."""

    count: int  # blocks
    scope: Scope
    snapshots: Snapshots
    current: Current
    load: float  # ms
    kept: Recall
    scanned: Recall

    @property
    def key(self) -> str:
        return f"snapshot_{self.count}"

    @property
    def what(self) -> str:
        return f"snapshot of {self.count:,} blocks"


async def _load(stack: Stack, count: int, embedder: LocalEmbedder) -> _LoadedScope:
    scope = Scope("default", f"snapshots-{count}")
    await store_scope(stack.database, scope, count, embedder.model)
    snapshots = Snapshots(PostgresSnapshotStore(stack.database), _BYTES_MAX, SystemClock())
    current, load = await _loaded(snapshots, scope, embedder.model.id)
    kept, scanned = (_recall(stack, embedder, used) for used in (snapshots, None))
    return _LoadedScope(count, scope, snapshots, current, load, kept, scanned)


async def _beside_scan(stack: Stack, one: _LoadedScope, vector: Sequence[float]) -> Sequence[Line]:
    """What the scope's own scan, product, or search without a write is the limit of."""
    size = one.snapshots.size_bytes / one.count
    product, compute = await _in_turns(
        [partial(_product, one.current, vector), partial(_compute, one.current, vector)]
    )
    found, scan = await _in_turns(
        [partial(_search, recall, one.scope) for recall in (one.kept, one.scanned)], searches=1
    )
    plain, after_write = await _after_writes(stack, one)
    kept_cpu, scan_cpu = [
        await _processor_ms(stack, recall, one.scope) for recall in (one.kept, one.scanned)
    ]
    key, what = one.key, one.what
    return [
        _line(f"{key}_compute", f"{what}, compute", compute, product, "bare product"),
        _line(f"{key}_scan", f"{what}, search p50", found, scan, "scan"),
        _line(f"{key}_write", f"{what}, first after a write", after_write, plain, "plain"),
        _line(
            *(f"{key}_processor", f"{what}, processor time a search", scan_cpu, kept_cpu),
            name="snapshot; value: scan",
        ),
        Line(f"{key}_load", f"{what}, load", one.load, "ms"),
        Line(f"{key}_memory", f"{what}, memory a block", size, "bytes"),
    ]


def _beside_smallest(
    one: _LoadedScope, speed: tuple[float, float], smallest: tuple[float, float]
) -> Sequence[Line]:
    """speed, smallest: the p50 in milliseconds and the searches per second of all clients."""
    (p50, rate), (p50_smallest, rate_smallest) = speed, smallest
    name = "smallest scope"
    rated = f"{one.what}, {_CLIENTS} clients"
    return [
        _line(f"{one.key}_p50", f"{one.what}, search p50", p50, p50_smallest, name),
        _line(f"{one.key}_rate", rated, rate, rate_smallest, name, unit="searches/s"),
    ]


async def store_scope(database: Database, scope: Scope, count: int, model: EmbeddingModel) -> None:
    """So many blocks; each term of QUERY is in one of 30 passages."""
    await database.execute(_BLOCKS, scope.user_id, count)
    terms = [term.index for term in query_terms(QUERY)]
    await database.execute(_PASSAGES, scope.user_id, model.id, model.dimension, terms)
    await database.execute(_VERSION, scope.user_id)
    await database.execute("VACUUM ANALYZE memory_passages, memory_blocks")


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
    await recall.search(SearchRequest(scope=scope, query=QUERY, limit=10))


async def _product(current: Current, vector: Sequence[float]) -> None:
    question = np.asarray(vector, dtype=np.float16)[np.newaxis]
    for segment in current.snapshot.segments:
        _ = numkong.cdist(question, segment.vectors, metric="dot")


async def _compute(current: Current, vector: Sequence[float]) -> None:
    terms = query_terms(QUERY)
    rows = current.matched([term.index for term in terms])
    words = lay_out_words(rows, terms, with_own=False)
    layout = words.with_vectors(current.similarities(vector))
    Fusion(layout.scores, words=layout.word_scores).best(50)


async def _after_writes(stack: Stack, one: _LoadedScope) -> tuple[float, float]:
    """Median milliseconds of a search with nothing new, and of the first after a write."""
    store = PostgresBlockStore(stack.database, attempts_max=3)
    plain: list[float] = []
    after: list[float] = []
    for _ in range(_ROUNDS):
        text = f"The kayak {random.random()} is in the garage."
        await store.ingest([ingest_item(new_block(text, user_id=one.scope.user_id))], lease=None)
        for taken in (after, plain):
            taken.append(await _duration(partial(_search, one.kept, one.scope)))
    return median(plain), median(after)


async def _rates(scopes: Sequence[_LoadedScope]) -> Sequence[float]:
    """Searches per second of all clients, by scope: the median of rounds in turns."""
    rates: list[list[float]] = [[] for _ in scopes]
    for _ in range(_TURNS // 4):
        for one, taken in zip(scopes, rates, strict=True):
            taken.append(await _per_second(one.kept, one.scope))
    return [median(taken) for taken in rates]


async def _per_second(recall: Recall, scope: Scope) -> float:
    started = time.perf_counter()

    async def client() -> None:
        for _ in range(_CLIENT_SEARCHES):
            await _search(recall, scope)

    await asyncio.gather(*(client() for _ in range(_CLIENTS)))
    return _CLIENTS * _CLIENT_SEARCHES / (time.perf_counter() - started)


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


async def _in_turns(
    works: Sequence[Callable[[], Awaitable[None]]], *, searches: int = _SEARCHES
) -> Sequence[float]:
    """The median milliseconds of each. A turn calls each so often, and once before, for caches."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(_TURNS):
        for work, durations in zip(works, taken, strict=True):
            await work()
            durations += [await _duration(work) for _ in range(searches)]
    return [median(durations) for durations in taken]


async def _duration(work: Callable[[], Awaitable[None]]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    await work()
    return (time.perf_counter() - started) * 1000


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

"""Search in a scope of 10,000 blocks, beside its parts alone."""

from __future__ import annotations

import time
from array import array
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any

import numpy as np

from benchmarks.accept import ATTEMPTS_MAX
from benchmarks.chat import questions, turns
from benchmarks.client import Connection, connections, expect, post
from benchmarks.figures import Line, Round, Target, WrongResultError, compared
from benchmarks.inputs import stored_item
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack
from luma_memory.domain.block import Accepted, IngestItem
from luma_memory.domain.enrichment import EmbeddingModel, Vector
from luma_memory.domain.job import Job
from luma_memory.domain.scope import DEFAULT_PROJECT, Scope
from luma_memory.domain.windows import MadeWindow
from luma_memory.pipeline.text.questions import query_terms
from luma_memory.pipeline.text.terms import query_vector
from luma_memory.ports.blocks import EnrichedBlock, EnrichedPassage, Lease
from luma_memory.postgres.vectors import encode_halfvec
from luma_memory.providers.embedding.local import LocalEmbedder
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.windows import PostgresWindowStore

LIMIT = 10
SEARCHED_USER = "searched"
BLOCKS_PER_STATEMENT = 600
FOREIGN_USERS = 50
_LEASE = Lease("benchmark", timedelta(hours=1))

_DENSE = """
SELECT block_id, ordinal, -(embedding <#> $3) AS score FROM memory_passages
WHERE project_id = $1 AND user_id = $2 AND embedding_model = $4
  AND (expires_at IS NULL OR expires_at > now())
ORDER BY embedding <#> $3 LIMIT $5
"""
_LEXICAL = """
SELECT block_id, ordinal, -(lexemes <#> $3) AS score FROM memory_passages
WHERE project_id = $1 AND user_id = $2 AND (expires_at IS NULL OR expires_at > now())
ORDER BY lexemes <#> $3 LIMIT $4
"""


async def search(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """Questions over HTTP; the limit is the two bare scans and the embedding of the question."""
    embedder = await LocalEmbedder.open()
    try:
        await _fill(stack, sizes, embedder.model)
        bare = _Bare(stack, embedder)
        rounds, timings = [], []
        async with connections(stack.api, 1) as (client,):
            for number in range(sizes.rounds + 1):
                # No question twice, or its vector would be a kept one.
                some = [
                    f"{question} ({number}/{place})"
                    for place, question in enumerate(questions(sizes.questions, seed=60 + number))
                ]
                measured = [await _measured(client, bare, question) for question in some]
                if number > 0:  # the first one fills caches
                    rounds.append(_round(measured))
                    timings += [entry.stages for entry in measured]
    finally:
        await embedder.close()
    await stack.clear()
    return [
        compared(
            "search_p50",
            f"search in {sizes.searched:,} blocks, p50",
            rounds,
            unit="ms",
            limit_name="2 bare scans + query embedding",
            target=Target(2.0, "low"),
            note=f"besides {sizes.foreign:,} blocks of other users",
        ),
        *_stage_lines(timings),
    ]


@dataclass(frozen=True, slots=True)
class _Measured:
    """One question, through the API and as bare parts."""

    http_ms: float
    bare_ms: Mapping[str, float]  # by part
    stages: Mapping[str, float]  # as reported by the response, and the bare parts


async def _measured(client: Connection, bare: _Bare, question: str) -> _Measured:
    response = await client.ask(
        post("/search", {"user_id": SEARCHED_USER, "query": question, "limit": LIMIT})
    )
    expect(response, 200)
    body = response.json()
    if len(body["results"]) != LIMIT or body["degraded"]:
        raise WrongResultError(f"{len(body['results'])} results, degraded: {body['degraded']}")
    parts = await bare.parts(question)
    stages = {f"in search: {name}": value for name, value in body["timings_ms"].items()}
    return _Measured(response.duration_ms, parts, stages | parts)


def _round(measured: Sequence[_Measured]) -> Round:
    return Round(
        median(entry.http_ms for entry in measured),
        median(sum(entry.bare_ms.values()) for entry in measured),
    )


def _stage_lines(timings: Sequence[Mapping[str, float]]) -> Iterator[Line]:
    for stage in timings[0]:
        key = stage.replace(":", "").replace(" ", "_")
        yield Line(
            f"search_stage_{key}",
            f"  {stage}, p50",
            median(timing[stage] for timing in timings),
            "ms",
        )


class _Bare:
    """The parts of a search, one by one, with nothing around them."""

    def __init__(self, stack: Stack, embedder: LocalEmbedder) -> None:
        self._stack = stack
        self._embedder = embedder

    async def parts(self, question: str) -> dict[str, float]:
        """Milliseconds of each."""
        embedding, embed_ms = await _timed(self._embedder.embed_query(question))
        vector, model = encode_halfvec(embedding.vector), self._embedder.model.id
        terms = query_terms(question)
        words = query_vector(terms, [10] * len(terms), passage_count=10_000).to_binary()
        async with self._stack.database.connection() as connection:
            scope = ("default", SEARCHED_USER)
            dense, dense_ms = await _timed(connection.fetch(_DENSE, *scope, vector, model, LIMIT))
            lexical, lexical_ms = await _timed(connection.fetch(_LEXICAL, *scope, words, LIMIT))
        if len(dense) != LIMIT or len(lexical) != LIMIT:
            raise WrongResultError("a bare scan found too little")
        return {"bare: embed": embed_ms, "bare: dense": dense_ms, "bare: lexical": lexical_ms}


async def _timed(work: Awaitable[Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = await work
    return result, (time.perf_counter() - started) * 1000


async def store_template(stack: Stack, user_id: str, count: int, model: EmbeddingModel) -> None:
    """Store so many blocks of a user, and the windows that belong to them."""
    items = [
        stored_item(turn, user_id, number) for number, turn in enumerate(turns(count, seed=72))
    ]
    await store_items(stack, items, user_id, model)


async def _fill(stack: Stack, sizes: Sizes, model: EmbeddingModel) -> None:
    """All blocks of the section.

    The users' blocks come mixed, as they do in life: one user's rows do not lie side by side.
    """
    await store_items(stack, list(_mixed_items(sizes)), SEARCHED_USER, model)


async def store_items(
    stack: Stack, items: Sequence[IngestItem], windows_of: str, model: EmbeddingModel
) -> None:
    """Store blocks as the service does: accepted, then written back with a random vector each.

    windows_of: the user whose every second block ends a window.
    """
    store = PostgresBlockStore(stack.database, attempts_max=ATTEMPTS_MAX)
    noise = np.random.default_rng(70)
    for first in range(0, len(items), BLOCKS_PER_STATEMENT):
        some = items[first : first + BLOCKS_PER_STATEMENT]
        accepted = await store.ingest(some, lease=_LEASE)
        results = [
            _result(item, response, model, noise)
            for item, response in zip(some, accepted, strict=True)
        ]
        if not all(await store.write_back(_LEASE.worker_id, results)):
            raise WrongResultError("a block could not be written back")
        await _fill_windows(stack, some, windows_of, model, noise)
    await stack.database.execute("VACUUM ANALYZE memory_passages, memory_blocks")


async def _fill_windows(
    stack: Stack,
    items: Sequence[IngestItem],
    user_id: str,
    model: EmbeddingModel,
    noise: np.random.Generator,
) -> None:
    """Every second block of the user ends a window, as a session's does."""
    ends = [item.id for item in items if item.block.scope.user_id == user_id][1::2]
    if ends:
        await PostgresWindowStore(stack.database).store(
            Scope(DEFAULT_PROJECT, user_id),
            [MadeWindow(end, 1, _unit_vector(model.dimension, noise)) for end in ends],
            embedding_model=model.id,
            dropped=[],
            turns=[],
        )


def _mixed_items(sizes: Sizes) -> Iterator[IngestItem]:
    count = sizes.searched + sizes.foreign
    searched_count = 0
    for number, turn in enumerate(turns(count, seed=71)):
        # The share of the searched user's blocks is the same everywhere.
        is_searched = (
            searched_count * count <= number * sizes.searched and searched_count < sizes.searched
        )
        searched_count += is_searched
        user_id = SEARCHED_USER if is_searched else f"other-{number % FOREIGN_USERS}"
        yield stored_item(turn, user_id, number)


def _result(
    item: IngestItem,
    response: Accepted | Exception,
    model: EmbeddingModel,
    noise: np.random.Generator,
) -> EnrichedBlock:
    if isinstance(response, Exception):
        raise response
    job = Job(
        id=response.job_id,
        scope=item.block.scope,
        job_type="enrich_and_embed",
        block_id=response.id,
        attempt=1,
        attempts_max=ATTEMPTS_MAX,
    )
    return EnrichedBlock(
        job=job,
        revision=1,
        enrichment=None,
        kind=None,
        passages=[
            EnrichedPassage(passage, _unit_vector(model.dimension, noise))
            for passage in item.passages
        ],
        embedding_model=model.id,
    )


def _unit_vector(dimension: int, noise: np.random.Generator) -> Vector:
    """Any direction: a scan costs the same whatever the vectors say."""
    values = noise.standard_normal(dimension, dtype=np.float32)
    return array("f", (values / np.linalg.norm(values)).astype(np.float32).tobytes())

"""A change of the embedding model while blocks are searched and stored, with a worker killed.

The blocks have random vectors under the id of the included model as it was before it named
speakers; the first worker re-embeds them by itself. Every search is checked: its similarities are
all those of the old vectors or all those of the new ones.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final
from uuid import UUID

import numpy as np

from benchmarks.chat import Turn, questions, turns
from benchmarks.client import Address, Connection, connections, expect, get, post
from benchmarks.figures import Line, Round, WrongResultError, compared, percentile
from benchmarks.inputs import block_request, stored_item
from benchmarks.recall import LIMIT, store_items
from benchmarks.sizes import Sizes
from benchmarks.stack import WAIT_SECONDS_MAX, Stack, api_process, child_process
from luma_memory.cli.running import one_error
from luma_memory.domain.enrichment import EmbeddingModel
from luma_memory.pipeline.ingest.indexing import embedding_text, spoken
from luma_memory.providers.embedding.local import LocalEmbedder
from luma_memory.store.vector_models import PostgresVectorModels

# One user has a fifth of the blocks, the others share the rest.
LARGE_USER: Final = "large"
_LARGE_SHARE: Final = 5
_BLOCKS_PER_USER: Final = 1_250
_USERS_MIN: Final = 6
_SEARCHES_BEFORE: Final = 100
# Halves of precision of vectors and of a cosine over the wire.
_TOLERANCE: Final = 4e-3
_KILLED_AT: Final = 1 / 3
_CHECK_SECONDS: Final = 2.0
_STORE_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.05
# On an idle machine it takes some minutes; on a busy one hours.
_SWITCH_SECONDS_MAX: Final = 14_400.0
_TEXTS_COMPARED: Final = 2_000

# The blocks' vectors of a user are of one model in every state that a statement can see. A block or
# a window that is computed while its user's vectors are switched may keep one of the old model for
# a while: a search, which compares vectors of one model, ranks it without its vector until then. At
# the end all are of the new model.
_MIXED = """
SELECT m.user_id, array_agg(DISTINCT m.embedding_model) AS models, count(*) AS vectors
FROM memory_passages AS m JOIN benchmark_old_vectors AS o ON o.block_id = m.block_id
WHERE m.embedding IS NOT NULL AND m.ordinal >= 0
GROUP BY m.project_id, m.user_id HAVING count(DISTINCT m.embedding_model) > 1
"""
_COUNTS_OF_FILLED = """
SELECT count(*) AS passages, count(*) FILTER (WHERE m.embedding_model = $1) AS with_new_vector
FROM memory_passages AS m JOIN benchmark_old_vectors AS o ON o.block_id = m.block_id
WHERE m.ordinal >= 0
"""
# Of all blocks and windows, those stored meanwhile as well.
_STALE = """
SELECT coalesce(embedding_model, 'none') AS model, ordinal < 0 AS is_window, count(*) AS n
FROM memory_passages WHERE embedding_model IS DISTINCT FROM $1 GROUP BY 1, 2
"""
_COUNTS = """
SELECT count(*) AS total, count(*) FILTER (WHERE m.embedding_model = $1)
       + (SELECT count(*) FROM memory_next_passages WHERE model = $1) AS done
FROM memory_passages AS m WHERE m.ordinal >= 0
"""


@dataclass(slots=True)
class _Watched:
    """What was seen while the model changed."""

    seconds: float = 0.0  # from the first worker's start to the last new vector
    searches_ms: list[float] = field(default_factory=list)
    models: dict[str, set[str]] = field(default_factory=dict)  # of a user, in checked responses
    checked: int = 0
    states: int = 0  # of the database that were checked
    progress: list[int] = field(default_factory=list)  # as the command showed it
    stored: dict[UUID, str] = field(default_factory=dict)  # blocks stored meanwhile, by user


async def switch(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """Blocks re-embedded per second, and searches meanwhile."""
    old = await LocalEmbedder.open(names_speakers=False, threads=1)
    new = await LocalEmbedder.open(threads=1)
    try:
        await _fill(stack, sizes.reembedded, old.model)
        await stack.database.execute("DELETE FROM memory_embedding_models")
        await PostgresVectorModels(stack.database).register(old.model.id)
        async with api_process(stack.dsn, {}, {"MEMORY_AUTH_DISABLED": "true"}) as api:
            searches = _Searches(stack, new, api, sizes.reembedded)
            before = await searches.before()
            watched = await _watch(stack, sizes, searches, new.model.id)
        rates = await _rates(new, sizes.reembedded / watched.seconds)
    finally:
        await old.close()
        await new.close()
    await stack.database.execute("DROP TABLE benchmark_old_vectors")
    await stack.database.execute("TRUNCATE memory_scope_models, memory_next_passages")
    await stack.clear()
    return [
        compared(
            "reembedded_rate",
            f"{sizes.reembedded:,} blocks re-embedded while searched, a worker killed",
            [rates],
            unit="blocks/s",
            limit_name="bare embedder, one thread, idle",
            target=None,
            note=f"{watched.seconds:.0f} s; {watched.states} states and {watched.checked} responses"
            f" of {len(watched.searches_ms)} checked: none mixed; {len(watched.stored)} blocks"
            f" stored meanwhile; progress shown {len(watched.progress)} times",
        ),
        Line(
            "reembedded_search_p50",
            "  search meanwhile, p50",
            median(watched.searches_ms),
            "ms",
            note=f"p99 {percentile(watched.searches_ms, 99):.1f} ms; before, without a worker:"
            f" p50 {median(before):.1f}, p99 {percentile(before, 99):.1f} ms",
        ),
    ]


async def _fill(stack: Stack, count: int, model: EmbeddingModel) -> None:
    items = [
        stored_item(turn, _user(number, count), number)
        for number, turn in enumerate(turns(count, seed=90))
    ]
    await store_items(stack, items, LARGE_USER, model)
    await stack.database.execute(
        "CREATE TABLE benchmark_old_vectors AS"
        " SELECT block_id, embedding::real[] AS vector FROM memory_passages WHERE ordinal = 0"
    )
    await stack.database.execute("ALTER TABLE benchmark_old_vectors ADD PRIMARY KEY (block_id)")


def _user(number: int, count: int) -> str:
    """The user of a block, of so many in all."""
    users = max(_USERS_MIN, count // _BLOCKS_PER_USER)
    return LARGE_USER if number % _LARGE_SHARE == 0 else f"user-{number % users}"


class _Searches:
    """Searches of all users in turn, each checked for vectors of two models."""

    def __init__(self, stack: Stack, embedder: LocalEmbedder, api: Address, count: int) -> None:
        self._stack = stack
        self._embedder = embedder
        self.api = api
        self._count = count
        self._dice = random.Random(91)
        self._new_vectors: dict[UUID, np.ndarray[Any, Any]] = {}
        self._number = 0

    async def before(self) -> Sequence[float]:
        """Milliseconds of searches while nothing else happens."""
        async with connections(self.api, 1) as (client,):
            return [(await self._search(client))[2] for _ in range(_SEARCHES_BEFORE)]

    async def repeated(self, watched: _Watched, done: asyncio.Event) -> None:
        """Search until `done`, with a short pause so that the worker has most of the machine."""
        async with connections(self.api, 1) as (client,):
            while not done.is_set():
                user, results, duration_ms = await self._search(client)
                watched.searches_ms.append(duration_ms)
                self._note(watched, user, await self._models(results))
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _search(self, client: Connection) -> tuple[str, Sequence[Any], float]:
        self._number += 1
        # A fifth of them in the large scope, as its blocks are a fifth of all.
        user = _user(self._dice.randrange(self._count), self._count)
        (question,) = questions(1, seed=9_000 + self._number)
        body = {"user_id": user, "query": f"{question} ({self._number})", "limit": LIMIT}
        response = await client.ask(post("/search", body | {"explain": True}))
        expect(response, 200)
        found = response.json()
        if len(found["results"]) != LIMIT or found["degraded"]:
            raise WrongResultError(f"{len(found['results'])} results, {found['degraded']}")
        for hit in found["results"]:
            hit["query"] = body["query"]
        return user, found["results"], response.duration_ms

    async def _models(self, results: Sequence[Any]) -> set[str]:
        """Which models' vectors explain every similarity of a response."""
        query = np.frombuffer((await self._embedder.embed_query(results[0]["query"])).vector, "f4")
        ids = [UUID(hit["block"]["id"]) for hit in results]
        rows = await self._stack.database.fetch(
            "SELECT block_id, vector FROM benchmark_old_vectors WHERE block_id = ANY ($1)", ids
        )
        old = {row["block_id"]: np.array(row["vector"], dtype=np.float32) for row in rows}
        new = await self._embedded(results)
        possible = {"old", "new"}
        for block_id, hit in zip(ids, results, strict=True):
            similarity = hit["explanation"]["dense_similarity"]
            if similarity is None:
                if block_id in old:
                    raise WrongResultError("a block was compared without its vector")
                continue  # stored a moment ago
            expected = {"new": float(query @ new[block_id])}
            if block_id not in old:  # stored meanwhile, by the old model as it was written
                (found,) = await self._embedder.embed_documents([_as_written(hit["block"])])
                old[block_id] = np.frombuffer(found.vector, "f4")
            expected["old"] = float(query @ old[block_id])
            possible &= {
                name for name, value in expected.items() if abs(value - similarity) <= _TOLERANCE
            }
        return possible

    async def _embedded(self, results: Sequence[Any]) -> Mapping[UUID, np.ndarray[Any, Any]]:
        missing = [hit for hit in results if UUID(hit["block"]["id"]) not in self._new_vectors]
        texts = [
            embedding_text(hit["block"]["content"], self._embedder, speaker=hit["block"]["speaker"])
            for hit in missing
        ]
        for hit, found in zip(missing, await self._embedder.embed_documents(texts), strict=True):
            self._new_vectors[UUID(hit["block"]["id"])] = np.frombuffer(found.vector, "f4")
        return self._new_vectors

    def _note(self, watched: _Watched, user: str, possible: set[str]) -> None:
        if not possible:
            raise WrongResultError(f"a response to {user} mixes vectors of two models")
        seen = watched.models.setdefault(user, set())
        if possible == {"old"} and "new" in seen:
            raise WrongResultError(f"{user} went back to the old model")
        watched.checked += 1
        if len(possible) == 1:
            seen |= possible


def _as_written(block: Mapping[str, Any]) -> str:
    return spoken(block["content"], speaker=block["speaker"])


async def _watch(stack: Stack, sizes: Sizes, searches: _Searches, model_id: str) -> _Watched:
    """From the first worker's start until every passage has a vector of the new model."""
    watched, switched, done = _Watched(), asyncio.Event(), asyncio.Event()
    with one_error():
        async with asyncio.timeout(_SWITCH_SECONDS_MAX), asyncio.TaskGroup() as group:
            group.create_task(searches.repeated(watched, done))
            group.create_task(_states(stack, watched, done))
            stores = group.create_task(_stores(searches.api, watched, switched, sizes.reembedded))
            async with _worked(stack, sizes, searches, watched, model_id):
                switched.set()
                await stores
                if sizes.rounds > 1:
                    await _idle(stack)
            done.set()
    await _checked_at_the_end(stack, sizes, watched, model_id)
    return watched


@asynccontextmanager
async def _worked(
    stack: Stack, sizes: Sizes, searches: _Searches, watched: _Watched, model_id: str
) -> AsyncIterator[None]:
    """A worker that is killed, then another, and the command that shows the progress."""
    started = time.perf_counter()
    async with AsyncExitStack() as first:
        worker_id = await first.enter_async_context(stack.worker())
        killed_at = await _until_done(stack, model_id, round(sizes.reembedded * _KILLED_AT))
        os.kill(worker_id, signal.SIGKILL)
    async with stack.worker():
        async with _progress(stack, watched, is_awaited=sizes.rounds > 1):
            await _shown_by_the_service(searches.api)
            resumed_at, _ = await _done(stack, model_id)
            if resumed_at < killed_at:
                raise WrongResultError(f"{killed_at - resumed_at} finished vectors were lost")
            await _until_done(stack, model_id, None)
            watched.seconds = time.perf_counter() - started
        yield


async def _until_done(stack: Stack, model_id: str, count: int | None) -> int:
    """Wait for so many new vectors (None: for all); how many there are."""
    while True:
        done, total = await _done(stack, model_id)
        if done >= (total if count is None else count):
            return done
        await asyncio.sleep(_CHECK_SECONDS / 4)


async def _done(stack: Stack, model_id: str) -> tuple[int, int]:
    row = await stack.database.fetch_row(_COUNTS, model_id)
    assert row is not None
    return row["done"], row["total"]


@asynccontextmanager
async def _progress(stack: Stack, watched: _Watched, *, is_awaited: bool) -> AsyncIterator[None]:
    """`luma-memory reembed` beside it: what it shows never falls.

    is_awaited: until it ends by itself, once the old model is retired: some 20 s later.
    """

    first = asyncio.Event()

    def read(_name: str, line: str) -> None:
        if shown := re.search(r"([\d,]+) of [\d,]+", line):
            watched.progress.append(int(shown[1].replace(",", "")))
            first.set()

    async with child_process(
        "reembed", "luma_memory", stack.dsn, {}, read, ("reembed",)
    ) as command:
        yield
        if is_awaited and await command.wait() != 0:
            raise WrongResultError(command.exit_report())
        # The workers may be done before it has started.
        await asyncio.wait_for(first.wait(), WAIT_SECONDS_MAX)
    if watched.progress != sorted(watched.progress):
        raise WrongResultError(f"the progress fell: {watched.progress}")


async def _shown_by_the_service(api: Address) -> None:
    """In health and metrics, once the passages are counted."""
    async with connections(api, 1) as (client,), asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            metrics, health = [await client.ask(get(path)) for path in ("/metrics", "/health")]
            expect(metrics, 200)
            in_health = (health.json()["reembedding"] or {}).get("done")
            if in_health and b'luma_reembed_passages{state="done"}' in metrics.body:
                return
            await asyncio.sleep(_CHECK_SECONDS)


async def _stores(api: Address, watched: _Watched, done: asyncio.Event, count: int) -> None:
    """A block a second, of one user after the other."""
    async with connections(api, 1) as (client,):
        for number, turn in enumerate(turns(10_000, seed=92)):
            if done.is_set():
                return
            user = _user(number, count)
            response = await client.ask(block_request(turn, user, 1_000_000 + number))
            expect(response, 202)
            watched.stored[UUID(response.json()["id"])] = user
            await asyncio.sleep(_STORE_SECONDS)


async def _states(stack: Stack, watched: _Watched, done: asyncio.Event) -> None:
    while not done.is_set():
        if mixed := await stack.database.fetch(_MIXED):
            raise WrongResultError(f"vectors of two models: {[dict(row) for row in mixed]}")
        watched.states += 1
        await asyncio.sleep(_CHECK_SECONDS)


async def _idle(stack: Stack) -> None:
    """Until no job is left: those of windows run last."""
    while True:
        stats = await stack.database.fetch_row("SELECT * FROM get_memory_job_stats()")
        if stats is not None and stats["pending"] + stats["processing"] == 0:
            return
        await asyncio.sleep(_CHECK_SECONDS)


async def _checked_at_the_end(stack: Stack, sizes: Sizes, watched: _Watched, model_id: str) -> None:
    counts = await stack.database.fetch_row(_COUNTS_OF_FILLED, model_id)
    if counts is None or set(counts.values()) != {sizes.reembedded}:
        raise WrongResultError(f"at the end, of {sizes.reembedded}: {dict(counts or {})}")
    # In the short form the worker stops before the last windows are computed.
    stale = await stack.database.fetch(_STALE, model_id) if sizes.rounds > 1 else []
    if stale:
        raise WrongResultError(f"at the end: {[dict(row) for row in stale]}")
    kept = await stack.database.fetch(
        "SELECT FROM memory_blocks WHERE id = ANY ($1)", list(watched.stored)
    )
    if len(kept) != len(watched.stored):
        raise WrongResultError(f"{len(watched.stored) - len(kept)} blocks were lost")


async def _rates(embedder: LocalEmbedder, per_second: float) -> Round:
    """Beside the bare embedder with the same texts, afterwards."""
    some: Sequence[Turn] = turns(_TEXTS_COMPARED, seed=90)
    texts = [embedding_text(turn.content, embedder, speaker=turn.speaker) for turn in some]
    started = time.perf_counter()
    await embedder.embed_documents(texts)
    return Round(per_second, len(texts) / (time.perf_counter() - started))

"""Search in scopes of 1,000 to 100,000 blocks, and in one of 1,000 beside a million of others.

A thousand blocks are stored the way the service stores them; the rest are copies of them made
inside the database, each with ids, a session and a user of its own. Copies of one block are
adjacent, so the rows of all users are interleaved, as with concurrent users.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil

from benchmarks.chat import questions
from benchmarks.client import Connection, connections, expect, post
from benchmarks.figures import Line, Target, WrongResultError
from benchmarks.recall import LIMIT, store_template
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack
from luma_memory.providers.embedding.local import LocalEmbedder

TEMPLATE = "template"
CLIENTS_MANY = 16
# Users searched in turn where there are many, so that not only one user's rows are cached.
SEARCHED_USERS = 16
_SEEDS = itertools.count(800, 10)
_ID = "(left(replace(t.{0}::text, '-', ''), 16) || right(md5(t.{0}::text || n), 16))::uuid"
_BLOCKS = f"""
INSERT INTO memory_blocks (id, user_id, content, session_id, speaker, occurred_at, content_hash,
                           status, enrichment)
SELECT {_ID.format("id")}, user_name, t.content, t.session_id || '-' || n, t.speaker, t.occurred_at,
       t.content_hash, t.status, t.enrichment
FROM memory_blocks AS t
CROSS JOIN (SELECT n, $1 || CASE WHEN $4 THEN '-' || n ELSE '' END AS user_name
            FROM generate_series($2::int, $3::int) AS n) AS copies
WHERE t.user_id = 'template' ORDER BY t.id
"""
_PASSAGES = f"""
INSERT INTO memory_passages (user_id, block_id, ordinal, start_at, stop_at, session_id, occurred_at,
                             lexemes, embedding, embedding_model, speaker_key)
SELECT user_name, {_ID.format("block_id")}, t.ordinal, t.start_at, t.stop_at,
       t.session_id || '-' || n, t.occurred_at, t.lexemes, t.embedding, t.embedding_model,
       t.speaker_key
FROM memory_passages AS t
CROSS JOIN (SELECT n, $1 || CASE WHEN $4 THEN '-' || n ELSE '' END AS user_name
            FROM generate_series($2::int, $3::int) AS n) AS copies
WHERE t.user_id = 'template' ORDER BY t.block_id
"""


async def search(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """p50 and p99 by size of the scope and by what else is stored, with 1 and 16 clients."""
    embedder = await LocalEmbedder.open()
    try:
        await store_template(stack, TEMPLATE, sizes.scale_template, embedder.model)
    finally:
        await embedder.close()
    lines: list[Line] = []
    few, many = sizes.scale_users
    await _copy(stack, "user", 1, few, apart=True)
    beside_few = await _measure(stack, sizes, _users(few))
    lines += _lines(beside_few, sizes.scale_template, few * sizes.scale_template)
    await _copy(stack, "user", few + 1, many, apart=True)
    beside_many = await _measure(stack, sizes, _users(many))
    lines += _lines(beside_many, sizes.scale_template, many * sizes.scale_template)
    lines.append(
        Line(
            "search_beside_others",
            f"search in {sizes.scale_template:,} blocks beside"
            f" {many * sizes.scale_template:,} instead of {few * sizes.scale_template:,}, p50",
            beside_many.p50,
            "ms",
            limit=beside_few.p50,
            limit_name="beside few",
            ratio=beside_many.p50 / beside_few.p50,
            target=Target(1.25, "low"),
        )
    )
    for copies in sizes.scale_copies:
        name = f"scope-{copies}"
        await _copy(stack, name, 1, copies, apart=False)
        found = await _measure(stack, sizes, [name])
        lines += _lines(found, copies * sizes.scale_template, None)
    await stack.clear()
    return lines


@dataclass(frozen=True, slots=True)
class _Found:
    """Milliseconds of questions one after the other, and of 16 clients at once."""

    alone: Sequence[float]  # ascending
    together: Sequence[float]  # ascending
    memory_bytes: int  # of the API process, afterwards

    @property
    def p50(self) -> float:
        return _share(self.alone, 0.5)


async def _measure(stack: Stack, sizes: Sizes, users: Sequence[str]) -> _Found:
    """No question is repeated in any scope, because its vector is cached."""
    count, seed = sizes.scale_questions, next(_SEEDS)
    async with connections(stack.api, 1) as one:
        await _measured(one, users, max(count // 4, len(users)), seed=seed)  # fills caches
        alone = await _measured(one, users, count, seed=seed + 1)
    # Opened when they are needed: the server closes connections that wait for long.
    async with connections(stack.api, CLIENTS_MANY) as clients:
        together = await _measured(clients, users, 2 * count, seed=seed + 2)
    memory = psutil.Process(stack.api.process_id).memory_info().rss
    return _Found(sorted(alone), sorted(together), memory)


async def _measured(
    clients: Sequence[Connection], users: Sequence[str], count: int, *, seed: int
) -> list[float]:
    """Milliseconds of each question; the clients take them from one list."""
    todo = iter(enumerate(questions(count, seed=seed)))
    taken: list[float] = []

    async def work(client: Connection) -> None:
        for number, question in todo:
            body = {"user_id": users[number % len(users)], "query": question, "limit": LIMIT}
            response = await client.ask(post("/search", body))
            expect(response, 200)
            found = response.json()
            if len(found["results"]) != LIMIT or found["degraded"]:
                raise WrongResultError(f"{len(found['results'])} results, {found['degraded']}")
            taken.append(response.duration_ms)

    await asyncio.gather(*map(work, clients))
    return taken


async def _copy(stack: Stack, name: str, first: int, last: int, *, apart: bool) -> None:
    """Copies number first..last of the template: of a user each, or all of one."""
    for statement in (_BLOCKS, _PASSAGES):
        await stack.database.execute(statement, name, first, last, apart)
    await stack.database.execute("VACUUM ANALYZE memory_passages, memory_blocks")


def _users(count: int) -> list[str]:
    step = max(count // SEARCHED_USERS, 1)
    return [f"user-{number}" for number in range(1, count + 1, step)][:SEARCHED_USERS]


def _lines(found: _Found, searched: int, total: int | None) -> Iterator[Line]:
    beside = "" if total is None else f" of {total:,} in all"
    key = f"search_{searched}" + ("" if total is None else f"_of_{total}")
    what = f"search in {searched:,} blocks{beside}"
    for clients, values in ((1, found.alone), (CLIENTS_MANY, found.together)):
        one = "1 client" if clients == 1 else f"{clients} clients"
        yield Line(f"{key}_{clients}_p50", f"{what}, {one}, p50", _share(values, 0.5), "ms")
        yield Line(f"{key}_{clients}_p99", f"{what}, {one}, p99", _share(values, 0.99), "ms")
    yield Line(f"{key}_memory", "  memory of the API afterwards", found.memory_bytes / 2**20, "MiB")


def _share(ascending: Sequence[float], share: float) -> float:
    return ascending[min(int(len(ascending) * share), len(ascending) - 1)]

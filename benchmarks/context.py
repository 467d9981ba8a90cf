"""Contexts: cached beside bare look-ups, computed, replayed, in bytes, and with Redis hanging."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from redis.asyncio import Redis

from benchmarks.chat import questions, turns
from benchmarks.client import Address, Connection, closed_loop, connections, expect, post
from benchmarks.figures import Line, Round, Target, WrongResultError, bounded, compared, percentile
from benchmarks.inputs import block_body, block_request
from benchmarks.redis_server import hanging_redis, running_redis
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack, api_process, waited_for
from luma_memory.cache.redis import PREFIX

CLIENTS = 64
SEARCHED_USER = "searched"
BATCH = 500
# Of the promise: 1,000 users with 10 different questions each.
KEPT_CONTEXTS = 10_000
KEPT_BYTES_MAX = 100_000_000
EXTRA_MS_MAX = 50.0
# Shares of requests that store a block instead of asking.
WRITE_SHARES = (0.02, 0.10, 0.30)
QUESTIONS_A_USER = 10
USERS = 20

_VERSION = "SELECT version FROM memory_users WHERE project_id = $1 AND user_id = $2"
_OPEN = {"MEMORY_AUTH_DISABLED": "true"}


async def cached_and_not(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """One service with a Redis: what a cached context costs, what one that is computed costs."""
    async with running_redis() as url:
        variables = {**_OPEN, "REDIS_URL": url}
        async with api_process(stack.dsn, stack.start_ms, variables) as api:
            await _fill(stack, api, sizes)
            bare = Redis.from_url(url)
            try:
                lines = [
                    await _one_client(stack, api, bare, sizes),
                    await _many_clients(api, sizes),
                    *await _uncached(api, sizes),
                    *[await _replayed(api, sizes, share) for share in WRITE_SHARES],
                    *await _bytes(bare),
                ]
            finally:
                await bare.aclose()
    await stack.clear()
    return lines


async def _fill(stack: Stack, api: Address, sizes: Sizes) -> None:
    """Blocks of one user, enriched and embedded by a worker."""
    bodies = [
        block_body(turn, SEARCHED_USER, number)
        for number, turn in enumerate(turns(sizes.context_blocks, seed=80))
    ]
    async with connections(api, 1) as (client,), stack.worker(concurrent_jobs_max=16):
        for first in range(0, len(bodies), BATCH):
            batch = {"blocks": bodies[first : first + BATCH]}
            expect(await client.ask(post("/blocks/batch", batch)), 202)
        left = "SELECT count(*) AS left FROM memory_blocks WHERE status <> 'active'"

        async def is_done() -> bool:
            return bool((await stack.database.fetch(left))[0]["left"] == 0)

        await waited_for(is_done)
    await stack.database.execute("VACUUM ANALYZE memory_passages, memory_blocks, memory_users")


async def _one_client(stack: Stack, api: Address, bare: Any, sizes: Sizes) -> Line:
    """The same context again and again, and the two bare look-ups, turn by turn."""
    question = questions(1, seed=81)[0]
    async with connections(api, 1) as (client,), stack.database.connection() as connection:
        await _measured(client, question)
        (name,) = [key async for key in bare.scan_iter(match=f"{PREFIX}context:*")]
        rounds = []
        for number in range(sizes.rounds + 1):
            ours, theirs = [], []
            for _ in range(sizes.context_reads):
                ours.append(await _measured(client, question, cached=True))
                started = time.perf_counter()
                value = await bare.get(name)
                version = await connection.fetchval(_VERSION, "default", SEARCHED_USER)
                theirs.append((time.perf_counter() - started) * 1000)
                if not value or not version:
                    raise WrongResultError("a bare look-up found nothing")
            if number > 0:  # the first one fills caches
                rounds.append(Round(median(ours), median(theirs)))
    return compared(
        "context_cached_p50",
        "context from the cache, 1 client, p50",
        rounds,
        unit="ms",
        limit_name="bare Redis GET of the value + bare version look-up",
        target=Target(3.0, "low"),
    )


async def _many_clients(api: Address, sizes: Sizes) -> Line:
    some = questions(QUESTIONS_A_USER, seed=82)
    requests = [_request(some[number % len(some)]) for number in range(sizes.loads)]
    async with connections(api, CLIENTS) as clients:
        await closed_loop(clients, requests[: len(some)], 200)
        load = await closed_loop(clients, requests, 200)
    if not all(response.json()["cached"] for response in load.responses):
        raise WrongResultError("a context was computed again though nothing had changed")
    p99 = percentile([response.duration_ms for response in load.responses], 99)
    return Line(
        "context_cached_rate_64_clients",
        "contexts from the cache, 64 clients",
        load.per_second,
        "requests/s",
        note=f"p99 {p99:.1f} ms",
    )


async def _uncached(api: Address, sizes: Sizes) -> Sequence[Line]:
    """Different questions: searched, fitted into the budget, rendered and cached."""
    async with connections(api, 1) as (client,):
        some = questions(sizes.questions * (sizes.rounds + 1), seed=83)
        # Each question is another one, whatever the generator repeats.
        taken = [
            await _measured(client, f"{question} ({number})", cached=False)
            for number, question in enumerate(some)
        ]
    measured = taken[sizes.questions :]
    return [
        Line(
            "context_uncached_p50",
            f"context computed, {sizes.context_blocks:,} blocks, p50",
            median(measured),
            "ms",
            note=f"p99 {percentile(measured, 99):.1f} ms",
        )
    ]


async def _replayed(api: Address, sizes: Sizes, write_share: float) -> Line:
    """A day of conversations: users mostly repeat questions, and store blocks in between.

    20 users, one as often as the next two together (Zipf); each has ten questions, chosen as often
    as their rank says (Zipf). Between questions a share of the requests stores a block, which makes
    all cached contexts of its user outdated.
    """
    dice = random.Random(84)
    users = [f"replay-{write_share}-{number}" for number in range(USERS)]
    user_weights = [1 / rank for rank in range(1, USERS + 1)]
    question_weights = [1 / rank for rank in range(1, QUESTIONS_A_USER + 1)]
    own = {user: questions(QUESTIONS_A_USER, seed=85 + number) for number, user in enumerate(users)}
    blocks = iter(turns(sizes.replayed, seed=86))
    hits = query_count = 0
    async with connections(api, 1) as (client,):
        for number in range(sizes.replayed):
            (user,) = dice.choices(users, user_weights)
            if dice.random() < write_share:
                expect(await client.ask(block_request(next(blocks), user, number)), 202)
                continue
            (question,) = dice.choices(own[user], question_weights)
            response = await client.ask(_request(question, user))
            expect(response, 200)
            hits += response.json()["cached"]
            query_count += 1
    return Line(
        f"context_hit_rate_{write_share:.0%}_writes".replace("%", "_percent"),
        f"hit rate of a replay, {write_share:.0%} of requests store a block",
        hits / query_count,
        "",
        note=f"{query_count:,} questions of {USERS} users, {QUESTIONS_A_USER} different ones each",
    )


async def _bytes(bare: Any) -> Sequence[Line]:
    """Real values under as many names as promised, in the memory of a real server."""
    names = [key async for key in bare.scan_iter(match=f"{PREFIX}context:*")]
    # Of the user with blocks: a context of nothing is smaller.
    values = [value for value in await bare.mget(names) if value and len(value) > 600]
    before = (await bare.info("memory"))["used_memory"]
    pipeline = bare.pipeline(transaction=False)
    for number in range(KEPT_CONTEXTS):
        name = f"{PREFIX}context:{number:032x}:{number * 7:032x}"
        pipeline.set(name, values[number % len(values)], px=3_600_000)
    await pipeline.execute()
    used = (await bare.info("memory"))["used_memory"] - before
    return [
        bounded(
            "context_memory_1000_users",
            "memory of 1,000 users with 10 contexts each",
            used / 1e6,
            unit="MB",
            limit=KEPT_BYTES_MAX / 1e6,
            limit_name="promised",
        ),
        Line(
            "context_bytes",
            "  a cached context, everything included",
            used / KEPT_CONTEXTS,
            "bytes",
            note=f"value alone {median(len(value) for value in values):,.0f} bytes",
        ),
    ]


async def hanging(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """The same requests, turn by turn, at a service whose Redis hangs and at one without."""
    taken = _Taken()
    async with hanging_redis() as url:
        variables = {**_OPEN, "REDIS_URL": url}
        async with (
            api_process(stack.dsn, stack.start_ms, variables) as hampered,
            api_process(stack.dsn, stack.start_ms, _OPEN) as plain,
            connections(hampered, 1) as (ours,),
            connections(plain, 1) as (theirs,),
        ):
            for number, turn in enumerate(turns(sizes.hanging_requests, seed=87)):
                query = {"user_id": "hang", "query": f"{turn.content} ({number})"}
                requests = {
                    "accept": (block_request(turn, "hang", number), 202),
                    "search": (post("/search", query), 200),
                    "context": (post("/context", query), 200),
                }
                for what, (request, status) in requests.items():
                    for client, into in ((ours, taken.ours), (theirs, taken.theirs)):
                        response = await client.ask(request)
                        expect(response, status)
                        into.setdefault(what, []).append(response.duration_ms)
    await stack.clear()
    return [
        bounded(
            f"hanging_redis_{what}_p99",
            f"{what} while Redis hangs, p99: added",
            max(0.01, percentile(taken.ours[what], 99) - percentile(taken.theirs[what], 99)),
            unit="ms",
            limit=EXTRA_MS_MAX,
            limit_name="promised",
            note=f"without Redis {percentile(taken.theirs[what], 99):.1f} ms",
        )
        for what in taken.ours
    ]


@dataclass
class _Taken:
    """Milliseconds by kind of request."""

    ours: dict[str, list[float]] = field(default_factory=dict)
    theirs: dict[str, list[float]] = field(default_factory=dict)


def _request(question: str, user_id: str = SEARCHED_USER) -> bytes:
    return post("/context", {"user_id": user_id, "query": question})


async def _measured(client: Connection, question: str, *, cached: bool | None = None) -> float:
    """Milliseconds of a context. Raises WrongAnswerError when it is not what was expected."""
    response = await client.ask(_request(question))
    expect(response, 200)
    body = response.json()
    if not body["blocks"] or body["degraded"] or cached not in (None, body["cached"]):
        raise WrongResultError(f"a context of {len(body['blocks'])} blocks, {body['cached']=}")
    return response.duration_ms

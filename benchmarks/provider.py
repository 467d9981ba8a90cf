"""The worker with a slow model provider: does it keep its full number of calls running?

The provider is a real server on a real socket, in a process with little overhead; it responds to
each call after 300 ms. A block is enriched and embedded in parallel, so `n` concurrent jobs process
at most `n` blocks in 300 ms: that is the limit. The rest is spent by the worker between two calls.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from subprocess import PIPE

import asyncpg
import httpx2
import psutil

from benchmarks.accept import ATTEMPTS_MAX
from benchmarks.chat import turns
from benchmarks.figures import Line, Round, Target, WrongResultError, compared
from benchmarks.inputs import stored_items
from benchmarks.processor import database_process, processor_seconds
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack, waited_for
from luma_memory.providers.service_client import ServiceClient
from luma_memory.store.blocks import PostgresBlockStore

LATENCY_SECONDS = 0.3
JOBS_AT_ONCE = (5, 50)
SHARE_MIN = 0.9
ROUNDS_MAX = 3
DIMENSION = 1_536
TEXTS_A_CALL = 4
BARE_BYTES_MAX = 1_000_000
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Provider:
    """The far provider's process."""

    url: str
    process: psutil.Process

    async def calls(self) -> int:
        async with httpx2.AsyncClient(trust_env=False) as client:
            return int((await client.get(f"{self.url}/calls")).text)


@asynccontextmanager
async def far_provider() -> AsyncIterator[Provider]:
    """Running in a process of its own; stopped at the end."""
    arguments = ["-m", "benchmarks.far_provider", str(LATENCY_SECONDS), str(DIMENSION)]
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=PIPE, stdout=PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        line = (await child.stdout.readline()).decode()
        yield Provider(line.split()[-1], psutil.Process(child.pid))
    finally:
        child.stdin.close()
        await child.wait()


async def throughput(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """Blocks a second with 5 and with 50 jobs at once, against concurrency divided by latency."""
    lines: list[Line] = []
    async with far_provider() as provider:
        for jobs in JOBS_AT_ONCE:
            lines += await _lines(stack, provider, sizes, jobs)
    return lines


async def _lines(stack: Stack, provider: Provider, sizes: Sizes, jobs: int) -> Sequence[Line]:
    variables = {
        "OPENAI_BASE_URL": f"{provider.url}/v1",
        "OPENAI_API_KEY": "a-key-of-the-benchmark",
    }
    limit = jobs / LATENCY_SECONDS
    rates: list[Round] = []
    processor: list[float] = []
    async with stack.worker(concurrent_jobs_max=jobs, variables=variables) as worker_id:
        processes = (psutil.Process(worker_id), await database_process(stack))
        await _drained(stack, jobs, seed=60)
        before_calls, blocks = await provider.calls(), jobs * sizes.provider_waves
        rounds = min(sizes.rounds, ROUNDS_MAX)
        for number in range(rounds):
            before = sum(map(processor_seconds, processes))
            rates.append(Round(await _drained(stack, blocks, seed=61 + number), limit))
            spent = sum(map(processor_seconds, processes)) - before
            processor.append(spent / blocks * 1_000)
        calls = (await provider.calls() - before_calls) / (blocks * rounds)
    await stack.clear()
    bare = await _bare(provider, jobs, blocks)
    return [
        compared(
            f"provider_rate_{jobs}_jobs",
            f"worker, provider at 300 ms, {jobs} jobs at once",
            rates,
            unit="blocks/s",
            limit_name="concurrency / latency",
            target=Target(SHARE_MIN, "high"),
            note=f"{calls:.2f} calls a block",
        ),
        Line(
            f"provider_processor_{jobs}_jobs",
            f"  {jobs} jobs at once: processor time a block",
            sum(processor) / len(processor),
            "ms",
            note="worker and PostgreSQL",
        ),
        Line(
            f"provider_bare_{jobs}_jobs",
            f"  the same calls by a bare client, {jobs} at once",
            bare,
            "blocks/s",
            note="what provider and machine allow without a worker and a database",
        ),
    ]


async def _bare(provider: Provider, jobs: int, blocks: int) -> float:
    """Blocks a second where nothing is done but one completion each, and vectors for every four."""
    client = ServiceClient(
        api_key=None,
        base_url=f"{provider.url}/v1",
        timeout_seconds=30,
        body_bytes_max=BARE_BYTES_MAX,
    )
    question = json.dumps({"messages": ["x" * 4_000]}).encode()
    texts = json.dumps({"input": ["x" * 100] * TEXTS_A_CALL}).encode()

    async def one_job(number: int) -> None:
        for _ in range(blocks // jobs):
            calls = [client.post("chat/completions", question)]
            if number % TEXTS_A_CALL == 0:
                calls.append(client.post("embeddings", texts))
            await asyncio.gather(*calls)

    started = time.perf_counter()
    await asyncio.gather(*map(one_job, range(jobs)))
    seconds = time.perf_counter() - started
    await client.close()
    return blocks // jobs * jobs / seconds


async def _drained(stack: Stack, count: int, *, seed: int) -> float:
    """Blocks a second, by the database's own clock."""
    row = await stack.database.fetch_row("SELECT coalesce(max(id), 0) AS id FROM memory_jobs")
    assert row is not None
    store = PostgresBlockStore(stack.database, attempts_max=ATTEMPTS_MAX)
    # Many users, as in a service: writes of one user queue at that user's row.
    some = turns(count, seed=seed)
    for start in range(0, count, 50):
        await store.ingest(stored_items(some[start : start + 50], f"user-{start}"), lease=None)
    done = await waited_for(lambda: _finished(stack, int(row["id"])), every_seconds=_POLL_SECONDS)
    if done["active"] != count:
        raise WrongResultError(f"of {count} blocks: {dict(done)}")
    return count / float(done["seconds"])


async def _finished(stack: Stack, after_job: int) -> asyncpg.Record | None:
    row = await stack.database.fetch_row(
        "SELECT count(*) FILTER (WHERE j.status IN ('pending', 'processing')) AS open,"
        " count(*) FILTER (WHERE b.status = 'active' AND b.enrichment = 'model') AS active,"
        " extract(epoch FROM max(j.finished_at) - min(j.started_at))::float8 AS seconds"
        " FROM memory_jobs AS j JOIN memory_blocks AS b ON b.project_id = j.project_id"
        " AND b.user_id = j.user_id AND b.id = j.block_id WHERE j.id > $1",
        after_job,
    )
    assert row is not None
    return row if row["open"] == 0 else None

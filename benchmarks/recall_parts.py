"""What the parts of recall besides two scans cost: search and worker with and without them.

The parts are names for "I", "you" as the assistant, and calibration by language. Both sides take
turns: question by question, backlog by backlog.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import psutil

from benchmarks.chat import Turn, questions, turns
from benchmarks.client import Connection, connections, expect, post
from benchmarks.enrichment import BACKLOG_JOBS, WARM_UP_BLOCKS, drained, idle
from benchmarks.figures import Line, Round, Target, WrongResultError, compared
from benchmarks.plain import WITHOUT_PARTS
from benchmarks.processor import processor_seconds
from benchmarks.recall import LIMIT, SEARCHED_USER, store_template
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack, api_process
from luma_memory.providers.embedding.local import LocalEmbedder

_MODULES: Final = ("luma_memory.worker", "benchmarks.plain")
_OPEN: Final = {"MEMORY_AUTH_DISABLED": "true"}
# Beside the questions of the chat, one for each of the parts.
_FOR_THE_PARTS: Final = (
    "When did I go to my group?",
    "What did you recommend for the kitchen?",
    "Wann bin ich nach Leipzig gezogen und wer hat mir dabei geholfen?",
)


@dataclass(frozen=True, slots=True)
class _Pace:
    blocks_per_second: float
    cpu_ms_per_block: float


async def compare(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """p50 of searches, pace and processor time of a worker, with the parts and without."""
    return [await _search(stack, sizes), *await _worker(stack, sizes)]


async def _search(stack: Stack, sizes: Sizes) -> Line:
    embedder = await LocalEmbedder.open()
    try:
        await store_template(stack, SEARCHED_USER, sizes.searched, embedder.model)
    finally:
        await embedder.close()
    rounds = []
    async with (
        api_process(stack.dsn, {}, _OPEN) as whole,
        api_process(stack.dsn, {}, {**_OPEN, WITHOUT_PARTS: "true"}) as plain,
        connections(whole, 1) as (client,),
        connections(plain, 1) as (other,),
    ):
        for number in range(sizes.rounds + 1):
            some = [*questions(sizes.questions, seed=70 + number), *_FOR_THE_PARTS]
            times = []
            for place, question in enumerate(some):
                # No question twice, or its vector would be a kept one; each side is first in turn.
                sides = (client, other) if place % 2 else (other, client)
                pair = {
                    side: await _duration_ms(side, f"{question} ({number}/{place})")
                    for side in sides
                }
                times.append((pair[client], pair[other]))
            if number > 0:  # the first one loads both snapshots
                rounds.append(Round(*(median(side) for side in zip(*times, strict=True))))
    await stack.clear()
    return compared(
        "parts_search_p50",
        f"search in {sizes.searched:,} blocks with all parts of recall, p50",
        rounds,
        unit="ms",
        limit_name="without names, roles and languages",
        target=Target(1.05, "low"),
    )


async def _duration_ms(client: Connection, question: str) -> float:
    body = {"user_id": SEARCHED_USER, "query": question, "limit": LIMIT}
    response = await client.ask(post("/search", body))
    expect(response, 200)
    if response.json()["degraded"]:
        raise WrongResultError(f"degraded: {response.json()['degraded']}")
    return response.duration_ms


async def _worker(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    rates, costs = [], []
    for number in range(sizes.rounds):
        some = turns(sizes.jobs, seed=80 + number)
        # The later one finds the machine as the earlier one left it: each is first in turn.
        paces = {
            module: await _pace(stack, some, module)
            for module in (_MODULES if number % 2 else reversed(_MODULES))
        }
        named, written = (paces[module] for module in _MODULES)
        rates.append(Round(named.blocks_per_second, written.blocks_per_second))
        costs.append(Round(named.cpu_ms_per_block, written.cpu_ms_per_block))
    return [
        compared(
            "parts_worker_rate",
            f'worker that puts names for "I", {BACKLOG_JOBS} jobs at once',
            rates,
            unit="blocks/s",
            limit_name="passages as written",
            target=Target(0.95, "high"),
        ),
        compared(
            "parts_worker_cpu",
            "  processor time of that worker per block",
            costs,
            unit="ms",
            limit_name="passages as written",
            target=Target(1.05, "low"),
        ),
    ]


async def _pace(stack: Stack, some: Sequence[Turn], module: str) -> _Pace:
    """How a worker that runs this module drains a backlog of these turns."""
    async with stack.worker(concurrent_jobs_max=BACKLOG_JOBS, module=module) as process_id:
        worker = psutil.Process(process_id)
        await drained(stack, turns(WARM_UP_BLOCKS, seed=79))
        await idle(stack)
        before = processor_seconds(worker)
        rate = await drained(stack, some)
        # Windows of turns are computed later.
        cpu_ms = (processor_seconds(worker) - before) / len(some) * 1000
        await stack.database.execute("DELETE FROM memory_jobs WHERE status = 'pending'")
        await idle(stack)
    await stack.clear()
    return _Pace(rate, cpu_ms)

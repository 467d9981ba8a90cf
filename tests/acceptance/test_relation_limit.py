"""The limit of an hour under faults: a burst of one user, three workers, kills, lost rows."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest
from tests.fakes.openai_server import Exchange, FakeOpenAI, completion, late, well
from tests.support.load import client_of
from tests.support.partitions import fellow_of
from tests.support.queue_faults import (
    RETRY_SECONDS,
    Lines,
    Measured,
    accept,
    looking_at,
    measured,
    until_true,
)
from tests.support.servers import Servers
from tests.support.stacks import running_service

from luma_memory.cli.processes import Stack

__all__ = ["measured"]  # the fixture

pytestmark = pytest.mark.asyncio
slow = pytest.mark.slow

LIMIT = 5
# In the partition that the test looks at.
BOB = fellow_of("ada")
HOUR = timedelta(hours=1)
WORKERS = ("worker-1", "worker-2", "worker-3")
NOTHING_TO_DO = (
    "NOT EXISTS (SELECT FROM memory_jobs WHERE status = 'processing'"
    " OR (status = 'pending' AND run_at <= clock_timestamp()))"
)
WAITING = "EXISTS (SELECT FROM memory_jobs WHERE status = 'pending')"


@dataclass
class Detections:
    """The provider's requests by block and time, on a clock that the test moves."""

    offset_seconds: float = 0.0
    seen: list[tuple[float, str]] = field(default_factory=list)
    enrichments: list[str] = field(default_factory=list)

    async def respond(self, exchange: Exchange) -> None:
        if not exchange.call.path.endswith("/chat/completions"):
            await well()(exchange)
            return
        message = exchange.call.body["messages"][-1]["content"]
        request = json.loads(message)
        if "candidates" not in request:
            self.enrichments.append(message)
            await well()(exchange)
            return
        self.seen.append((time.time() + self.offset_seconds, request["block"]["text"]))
        # Long enough for a kill to meet it.
        await late(0.25, completion({"relations": []}))(exchange)

    async def one_more(self) -> None:
        """Until another question about a block has come."""
        before = len(self.seen)
        async with asyncio.timeout(RETRY_SECONDS):
            while len(self.seen) == before:  # noqa: ASYNC110 - another thread changes it
                await asyncio.sleep(0.01)

    def of(self, word: str) -> list[tuple[float, str]]:
        return [(at, text) for at, text in self.seen if word in text]

    def most_within_an_hour(self, word: str) -> int:
        """Blocks, a repeated question about one counting once."""
        seen = self.of(word)
        return max(
            len({text for at, text in seen if end - HOUR.total_seconds() < at <= end})
            for end, _ in seen
        )


async def to_the_next_window(table: asyncpg.Connection) -> float:
    """Let all that is written be so much older that the first waiting job is due; seconds."""
    wait = await table.fetchval(
        "SELECT min(run_at) - clock_timestamp() FROM memory_jobs WHERE status = 'pending'"
    )
    assert isinstance(wait, timedelta)
    await table.execute("UPDATE memory_blocks SET related_at = related_at - $1::interval", wait)
    await table.execute(
        "UPDATE memory_rate_limits SET window_start = window_start - $1::interval", wait
    )
    await table.execute(
        "UPDATE memory_jobs SET run_at = run_at - $1::interval WHERE status = 'pending'", wait
    )
    return wait.total_seconds()


async def who_is_asking(stack: Stack, table: asyncpg.Connection) -> str | None:
    """A worker that is running a detection."""
    holder = await table.fetchval(
        "SELECT w.process_id FROM memory_jobs AS j JOIN memory_workers AS w ON w.id = j.locked_by"
        " WHERE j.status = 'processing' ORDER BY j.id DESC LIMIT 1"
    )
    return next((name for name in WORKERS if stack.children[name].pid == holder), None)


@pytest.mark.parametrize("count", [7, pytest.param(60, marks=slow)])
async def test_relations_of_a_burst_are_detected_for_five_blocks_an_hour_and_none_is_dropped(
    count: int, servers: Servers, measured: Measured
) -> None:
    """In every window a worker is killed while it asks; every other one loses the limit's rows."""
    chance, lines, detections = random.Random(20_261_124), Lines(), Detections()
    with FakeOpenAI(dimension=1_536) as provider:
        provider.always(detections.respond)
        async with (
            running_service(
                servers,
                workers=len(WORKERS),
                on_line=lines,
                openai_base_url=provider.base_url,
                relations_enabled=True,
                retry_attempts=20,
                context_vectors_enabled=False,
                weekly_summaries_enabled=False,
            ) as stack,
            client_of(stack) as client,
            looking_at(stack, "ada") as table,
        ):
            ids = await accept(client, *(f"Ada's number {n} of {uuid4()}." for n in range(count)))
            windows = 0
            while True:
                await until_true(table, NOTHING_TO_DO)
                windows += 1
                assert detections.most_within_an_hour("Ada") <= LIMIT
                if not await table.fetchval(f"SELECT {WAITING}"):
                    break
                if windows == 1:
                    # While all of Ada's wait, another user's are detected at once.
                    await accept(client, "Bob's one thing.", "Bob's other thing.", user_id=BOB)
                    await until_true(table, NOTHING_TO_DO)
                    assert len(detections.of("Bob")) >= 1
                if windows % 2:
                    await table.execute("DELETE FROM memory_rate_limits")
                detections.offset_seconds += await to_the_next_window(table)
                await detections.one_more()
                victim = await who_is_asking(stack, table) or chance.choice(WORKERS)
                stack.children[victim].signal(signal.SIGKILL)
                await stack.restart(victim)
            ends = await table.fetch(
                "SELECT status, count(*), max(attempts) AS attempts FROM memory_jobs"
                " WHERE job_type = 'detect_relations' AND user_id = 'ada' GROUP BY status"
            )
            assert [(row["status"], row["count"]) for row in ends] == [("completed", count)]
    texts = [text for _, text in detections.of("Ada")]
    # Every block but one that stood alone when it was looked at.
    assert len(set(texts)) >= count - LIMIT
    measured("windows", windows)
    measured("most blocks within an hour", detections.most_within_an_hour("Ada"))
    measured("relation calls, of which repeated", (len(texts), len(texts) - len(set(texts))))
    measured("attempts of a job", ends[0]["attempts"])
    assert len(ids) == len(set(ids)) == count
    # No kill met an enrichment: one a block.
    assert len(detections.enrichments) == count + 2

"""Blocks whose vectors take longer than one run of their job has: made in parts, by later runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest
from tests.support.running import Plan, ingest, job_row, read, working

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import ProviderUnavailable
from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database
from luma_memory.telemetry.events import JobCompleted, JobDeferred, JobFailed
from luma_memory.testing.models import WordEmbedder
from luma_memory.testing.sample_blocks import new_block

ADA = Scope("default", "ada")
LOG = "\n".join(f"INFO worker-{n} took {n} ms for queue number {n}." for n in range(900))
CHINESE = "今天我们讨论了新的数据库迁移计划。" * 900
JSON = "[" + ",".join(f'{{"id": {n}, "name": "sensor {n}"}}' for n in range(700)) + "]"
VECTORS = """SELECT count(*), count(embedding), count(DISTINCT embedding_model)
FROM memory_passages WHERE user_id = 'ada' AND ordinal >= 0"""


class SlowModel(SystemClock):
    """Takes 0.4 s for each text by its own clock, and counts the texts."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self.texts: list[str] = []
        self.longest_call = 0

    def monotonic(self) -> float:
        return self._seconds

    async def __call__(self, texts: Sequence[str]) -> None:
        self._seconds += 0.4 * len(texts)
        self.texts += texts
        self.longest_call = max(self.longest_call, len(texts))


def _plan(model: SlowModel, *, has_provider: bool = True) -> Plan:
    """A step has 20 s, and a run 5 of them: less than sixteen texts take."""
    return Plan(
        embedder=WordEmbedder(before=model),
        provider_timeout=timedelta(seconds=20) if has_provider else None,
        job_timeout=timedelta(seconds=30 if has_provider else 20),
        clock=model,
        concurrent_jobs_max=3,
    )


@pytest.mark.parametrize("has_provider", [True, False], ids=["provider", "local"])
@pytest.mark.parametrize("content", [LOG, CHINESE, JSON], ids=["log", "Chinese", "JSON"])
async def test_a_block_too_long_for_one_run_is_embedded_by_several(
    content: str, has_provider: bool, database: Database, connection: asyncpg.Connection
) -> None:
    model = SlowModel()
    block = replace(new_block(content), scope=ADA)
    (accepted,) = await ingest(database, block)
    async with working(database, _plan(model, has_provider=has_provider)) as running:
        await running.events.wait_for(JobCompleted)
        assert len(running.events.of(JobDeferred)) > 2
        assert not running.events.of(JobFailed)
    assert model.longest_call == 16
    assert (await read(database, block, accepted.id)).status == "active"
    passages, embedded, models = await connection.fetchrow(VECTORS) or (0, 0, 0)
    assert passages == embedded > 48
    assert models == 1
    assert len(model.texts) == passages  # none twice
    assert (await job_row(connection, accepted.job_id))["attempts"] == 1


async def test_a_failed_part_leaves_what_was_made(
    database: Database, connection: asyncpg.Connection
) -> None:
    model = SlowModel()
    is_away = False

    async def fails_once(texts: Sequence[str]) -> None:
        nonlocal is_away
        if len(model.texts) >= 32 and not is_away:
            is_away = True
            raise ProviderUnavailable("away")
        await model(texts)

    block = replace(new_block(LOG), scope=ADA)
    (accepted,) = await ingest(database, block)
    plan = replace(_plan(model), embedder=WordEmbedder(before=fails_once))
    async with working(database, plan) as running:
        await running.events.wait_for(JobCompleted)
        assert len(running.events.of(JobFailed)) == 1
    passages, embedded, _ = await connection.fetchrow(VECTORS) or (0, 0, 0)
    assert passages == embedded == len(model.texts)
    assert (await read(database, block, accepted.id)).status == "active"

"""Health is reported in time even if a dependency hangs."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from luma_memory import insights
from luma_memory.cache.in_process import InProcessCache
from luma_memory.domain.cache import CacheCounts
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import StoreUnavailable
from luma_memory.domain.job import JobStats
from luma_memory.domain.partition import PartitionFault
from luma_memory.insights import Insights
from luma_memory.ports.circuits import CircuitFault
from luma_memory.ports.jobs import JobQueue
from luma_memory.ports.vector_models import ReembedProgress, ReembedState

STATS = JobStats(1, 2, 3, 4, 0, None)


@dataclass
class Database:
    """JobQueue, SystemProbe and CacheHits: answers, raises, or hangs and will not be cancelled."""

    error: Exception | None = None
    faults: list[CircuitFault] = field(default_factory=list)
    partitions: list[PartitionFault] = field(default_factory=list)
    hangs: bool = False
    replica: bool | None = None
    change: ReembedState | None = None
    thawed: asyncio.Event = field(default_factory=asyncio.Event)

    async def stats(self) -> JobStats:
        await self._respond()
        return STATS

    async def live_worker_count(self) -> int:
        await self._respond()
        return 1

    async def provider_faults(self) -> list[CircuitFault]:
        await self._respond()
        return self.faults

    async def reembedding(self) -> ReembedState | None:
        await self._respond()
        return self.change

    def partition_faults(self) -> list[PartitionFault]:
        return self.partitions

    def replica_is_used(self) -> bool | None:
        return self.replica

    async def schema_is_current(self) -> bool:
        await self._respond()
        return True

    async def last_day(self) -> CacheCounts:
        await self._respond()
        return CacheCounts(hits=3, misses=1)

    async def _respond(self) -> None:
        while self.hangs and not self.thawed.is_set():
            try:
                await self.thawed.wait()
            except asyncio.CancelledError:
                continue  # as a driver that waits for its server to confirm
        if self.error:
            raise self.error


def _insights(database: Database, *, is_warming: bool = False) -> Insights:
    return Insights(
        cast("JobQueue", database),
        database,
        cache=InProcessCache(size_bytes_max=1 << 20, clock=SystemClock()),
        hits=database,
        clock=SystemClock(),
        system_enabled=True,
        worker_enabled=True,
        reembedding=database.reembedding,
        is_warming=lambda: is_warming,
    )


async def test_all_is_well() -> None:
    service = _insights(Database())
    health = await service.health()
    assert (health.status, health.stats, health.workers) == ("ok", STATS, 1)
    assert await service.missing() == []
    assert (health.cache.facts.connected, health.cache.hit_rate) == (True, 0.75)


async def test_a_provider_that_is_away_is_named() -> None:
    fault = CircuitFault("embed m @1", "away", SystemClock().now(), "provider_timeout")
    health = await _insights(Database(faults=[fault])).health()
    assert (health.status, health.provider_faults) == ("degraded", [fault])


async def test_a_change_of_the_embedding_model_is_shown_and_no_fault() -> None:
    change = ReembedState("m", ReembedProgress(requested=True, total=4, done=3))
    health = await _insights(Database(change=change)).health()
    assert (health.status, health.reembedding) == ("ok", change)
    health = await _insights(Database(change=change, error=StoreUnavailable("away"))).health()
    assert health.reembedding is None


async def test_an_unavailable_database_is_reported() -> None:
    service = _insights(Database(error=StoreUnavailable("away")))
    health = await service.health()
    assert (health.status, health.database, health.stats) == ("unavailable", "unavailable", None)
    assert (health.cache.facts.connected, health.cache.hit_rate) == (True, None)
    assert await service.missing() == ["database"]


async def test_a_process_that_still_loads_is_alive_and_not_ready() -> None:
    service = _insights(Database(), is_warming=True)
    assert (await service.health()).status == "ok"
    assert await service.missing() == ["language data"]


async def test_a_question_that_cannot_be_cancelled_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(insights, "PROBE_SECONDS", 0.01)
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: reported.append(what))
    database = Database(hangs=True, error=StoreUnavailable("late"))
    service = _insights(database)
    asyncio.get_running_loop().call_later(10, database.thawed.set)  # or a failure never ends
    async with asyncio.timeout(3):
        assert (await service.health()).status == "unavailable"
        assert await service.missing() == ["database"]
    database.thawed.set()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
    gc.collect()
    assert not reported


@pytest.mark.parametrize("replica", [None, True, False])
async def test_a_replica_that_is_not_used_degrades_nothing(replica: bool | None) -> None:
    health = await _insights(Database(replica=replica)).health()
    assert (health.status, health.replica_is_used) == ("ok", replica)

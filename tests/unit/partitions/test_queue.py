"""Claims from several partitions: in turn, and without waiting for one that hangs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from luma_memory.domain.errors import StoreUnavailable
from luma_memory.domain.job import Job
from luma_memory.domain.partition import Partition
from luma_memory.domain.scope import Scope
from luma_memory.partitions.places import Places
from luma_memory.partitions.presence import PartitionedPresence
from luma_memory.partitions.queue import PartitionedQueue
from luma_memory.partitions.work_checks import WorkChecks
from luma_memory.ports.jobs import JobQueue
from luma_memory.postgres.database import Database

LEASE = timedelta(seconds=30)


class Checks:
    """WorkChecks that find jobs in the given partitions each time."""

    def __init__(self, *due: int) -> None:
        self.due = due
        self.with_webhooks: Sequence[int] = ()
        self.busy: Sequence[int] = due
        self.responds = True
        self._listeners: list[Callable[[Sequence[int]], None]] = []

    def subscribe(self, listener: Callable[[Sequence[int]], None]) -> None:
        self._listeners.append(listener)

    async def fresh(self, *, is_idle: bool) -> None:
        if not self.responds:
            raise StoreUnavailable("No partition responds")
        if is_idle:
            for listener in self._listeners:
                listener(self.due)


class Queue:
    """Jobs of one partition; hangs while `thawed` is not set."""

    def __init__(self, partition: int, jobs: int) -> None:
        self.partition = partition
        self.jobs = [self._job(n) for n in range(jobs)]
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.released: list[Job] = []
        self.error: StoreUnavailable | None = None

    def _job(self, n: int) -> Job:
        scope = Scope("default", f"user-{n}")
        return Job(n, scope, "enrich_and_embed", None, 1, 3, partition=self.partition)

    async def claim(self, _worker_id: str, *, limit: int, **_options: Any) -> Sequence[Job]:
        await self.thawed.wait()
        claimed, self.jobs = self.jobs[:limit], self.jobs[limit:]
        return claimed

    async def release(self, _worker_id: str, jobs: Sequence[Job], **_options: Any) -> list[bool]:
        if self.error is not None:
            raise self.error
        self.released += jobs
        return [True] * len(jobs)

    async def claimed_jobs(self, _worker_id: str) -> Sequence[Job]:
        return ()


def _queue(checks: Checks, queues: Sequence[Queue]) -> PartitionedQueue:
    return _queue_of(_places(len(queues)), checks, queues)


def _places(count: int) -> Places:
    async def no_directory(_home: Database) -> Sequence[Partition]:
        return []

    return Places(
        [Partition(n, f"p{n}", None, "serving") for n in range(count)],
        home=cast("Database", object()),
        open_server=lambda _dsn: cast("Database", object()),
        read_directory=no_directory,
    )


def _queue_of(places: Places, checks: Checks, queues: Sequence[Queue]) -> PartitionedQueue:
    return PartitionedQueue(
        places, [cast("JobQueue", queue) for queue in queues], cast("WorkChecks", checks)
    )


async def _claim(queue: PartitionedQueue, limit: int) -> Sequence[Job]:
    return await queue.claim(
        "worker", limit=limit, lease=LEASE, job_types=["enrich_and_embed"], rescue=False
    )


async def test_no_partition_starves() -> None:
    """One has thousands of jobs, the others a few: all get their turn."""
    queues = [Queue(0, 5_000), Queue(1, 20), Queue(2, 20)]
    queue = _queue(Checks(0, 1, 2), queues)
    counts: Counter[int] = Counter()
    for _ in range(12):
        jobs = await _claim(queue, 5)
        assert len(jobs) == 5
        counts.update(job.partition for job in jobs)
    assert counts[1] == counts[2] == 20


async def test_slots_are_filled_from_as_many_partitions_as_it_takes() -> None:
    queue = _queue(Checks(0, 1, 2, 3), [Queue(n, 2) for n in range(4)])
    assert len(await _claim(queue, 7)) == 7
    assert len(await _claim(queue, 7)) == 1
    assert await _claim(queue, 7) == []


async def test_a_partition_that_hangs_delays_no_other_and_its_jobs_arrive_later() -> None:
    queues = [Queue(0, 3), Queue(1, 40)]
    queue = _queue(Checks(0, 1), queues)
    woken = asyncio.Event()
    queue.wake = woken.set
    queues[0].thawed.clear()
    jobs = await _claim(queue, 10)
    assert {job.partition for job in jobs} == {1}
    assert {job.partition for job in await _claim(queue, 10)} == {1}
    queues[0].thawed.set()
    await woken.wait()
    assert Counter(job.partition for job in await _claim(queue, 10))[0] == 3


async def _late_jobs(queue: PartitionedQueue, hanging: Queue) -> None:
    """Jobs of a claim that took long arrive after it."""
    woken = asyncio.Event()
    queue.wake = woken.set
    hanging.thawed.clear()
    await _claim(queue, 10)
    hanging.thawed.set()
    await woken.wait()


async def test_late_jobs_are_kept_while_no_partition_responds() -> None:
    queues, checks = [Queue(0, 3), Queue(1, 0)], Checks(0, 1)
    queue = _queue(checks, queues)
    await _late_jobs(queue, queues[0])
    checks.responds = False
    with pytest.raises(StoreUnavailable):
        await _claim(queue, 10)
    checks.responds = True
    assert len(await _claim(queue, 10)) == 3


async def test_late_jobs_without_a_free_slot_are_given_back_and_not_run() -> None:
    """The reconciler would take them for lost and release them, and they would run all the same."""
    queues = [Queue(0, 3), Queue(1, 0)]
    queue = _queue(Checks(0, 1), queues)
    await _late_jobs(queue, queues[0])
    assert await queue.parts(())[0].claimed_jobs("worker") == ()
    assert len(queues[0].released) == 3
    assert await _claim(queue, 10) == []


async def test_a_presence_ends_its_sessions_even_if_late_jobs_cannot_be_released() -> None:
    queues = [Queue(0, 3), Queue(1, 0)]
    places = _places(2)
    queue = _queue_of(places, Checks(0, 1), queues)
    await _late_jobs(queue, queues[0])
    queues[0].error = StoreUnavailable("away")
    await PartitionedPresence(places, "worker", queue=queue).stop()


async def test_a_check_of_another_part_of_the_worker_wakes_the_claims() -> None:
    """Their own next check would be left out, as that one was recent: jobs without a notification
    would wait for two poll intervals."""
    checks = Checks()
    first, second = _queue(checks, queues := [Queue(0, 0), Queue(1, 0)]), _queue(checks, queues)
    woken: list[str] = []
    first.wake, second.wake = (lambda: woken.append("first")), (lambda: woken.append("second"))
    assert await _claim(first, 5) == []
    assert woken == []
    queues[1].jobs = [queues[1]._job(1)]
    checks.due = (1,)
    assert len(await _claim(second, 5)) == 1
    assert woken == ["first"]

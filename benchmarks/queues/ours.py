"""Our own queue, built from the parts of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
from pydantic import SecretStr

from benchmarks.queues.handled import Handled
from luma_memory.bootstrap.database import migrate_database
from luma_memory.bootstrap.jobs import LEASE_MARGIN
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.job import Done, Job, Outcome
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.postgres.database import Database
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.session import WorkerSession, new_worker_id
from luma_memory.queue.signal import Notifier
from luma_memory.queue.upkeep import PostgresQueueUpkeep
from luma_memory.settings import Settings
from luma_memory.telemetry.logs import log_event, log_failure
from luma_memory.worker.worker import Worker, WorkerTimes

CONCURRENT_JOBS = 400
POOL_SIZE = 4
USERS = 64
_TIMEOUT = timedelta(seconds=30)
_BENCH_SECONDS = 900.0

_ENQUEUE = """
SELECT enqueue_memory_jobs($1, $2, $3, $4, $5, $6, $7, $8)
"""
# Places a tenth of a second apart for each user, as the enqueue function gives them.
_PENDING = f"""
INSERT INTO memory_jobs (user_id, job_type, run_at, fair_at)
SELECT 'user-' || n % {USERS}, 'reembed', now(), now() + interval '100 ms' * (n / {USERS})
FROM generate_series(1, $1) AS n
"""
_COMPLETED = f"""
INSERT INTO memory_jobs (user_id, job_type, status, attempts, run_at, fair_at, locked_by,
    created_at, started_at, finished_at)
SELECT 'user-' || n % {USERS}, 'reembed', 'completed', 1, now(), now(), 'worker-of-old',
    now(), now(), now()
FROM generate_series(1, $1) AS n
"""
_COUNTED = """
INSERT INTO memory_workers AS w (id, completed) VALUES ('worker-of-old', $1)
ON CONFLICT (id) DO UPDATE SET completed = w.completed + excluded.completed
"""


class OurQueue:
    """benchmarks.queues.contract.MeasuredQueue."""

    name = "Luma Memory"
    claim_max = CONCURRENT_JOBS

    def __init__(self) -> None:
        self._enqueued = 0

    async def open(self, dsn: str) -> None:
        await migrate_database(Settings(database_url=SecretStr(dsn)), dsn)
        self.database = Database(dsn, pool_size=POOL_SIZE, command_timeout_seconds=_BENCH_SECONDS)
        await self.database.open()
        # Jobs are enqueued by SQL, so a plain connection is enough, as for PgQueuer.
        self._producer = await asyncpg.connect(dsn)
        self._queue = PostgresJobQueue(self.database)
        self._worker_id = new_worker_id()
        self._notifier = Notifier(self.database)

    async def close(self) -> None:
        await self._notifier.stop()
        await self._producer.close()
        await self.database.close()

    async def clear(self) -> None:
        await self.database.execute("TRUNCATE memory_jobs, memory_users, memory_workers")

    async def enqueue(self, count: int) -> None:
        users = [f"user-{(self._enqueued + n) % USERS}" for n in range(count)]
        self._enqueued += count
        nothing = [None] * count
        await self._producer.execute(
            _ENQUEUE,
            ["default"] * count,
            users,
            ["reembed"] * count,
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
        )
        self._notifier.notify()

    async def fill(self, *, pending: int, completed: int) -> None:
        await self.database.execute(_PENDING, pending)
        await self.fill_completed(completed)
        await self.database.execute("VACUUM ANALYZE memory_jobs")

    async def fill_completed(self, count: int) -> None:
        """Completed jobs, counted as a worker counts them."""
        await self.database.execute(_COMPLETED, count)
        await self.database.execute(_COUNTED, count)

    async def claim(self, limit: int) -> Sequence[Any]:
        return await self._queue.claim(
            self._worker_id,
            limit=limit,
            lease=_TIMEOUT + LEASE_MARGIN,
            job_types=["reembed"],
            rescue=False,
        )

    async def complete(self, claimed: Sequence[Any]) -> None:
        await self._queue.complete(self._worker_id, claimed)

    async def open_jobs(self) -> int:
        row = await self.database.fetch_row(
            "SELECT count(*) AS jobs FROM memory_jobs WHERE status IN ('pending', 'processing')"
        )
        assert row is not None
        return int(row["jobs"])


async def work(dsn: str, handled: Handled, stop: asyncio.Event) -> None:
    """A worker as `luma_memory.worker` makes it, with a handler that does nothing."""

    async def handle(_job: Job) -> Outcome:
        handled()
        return Done()

    clock = SystemClock()
    database = Database(dsn, pool_size=POOL_SIZE, application_name="luma-memory worker")
    await database.open()
    queue, worker_id = PostgresJobQueue(database), new_worker_id()
    runner = JobRunner(
        queue,
        {"reembed": handle},
        worker_id=worker_id,
        timeout=_TIMEOUT,
        backoff=timedelta(seconds=1),
        record_timeout=timedelta(minutes=10),
        clock=clock,
        emit=log_event,
        report_bug=log_failure,
    )
    worker = Worker(
        queue,
        PostgresQueueUpkeep(database),
        runner,
        WorkerSession(database, worker_id),
        concurrent_jobs_max=CONCURRENT_JOBS,
        times=WorkerTimes(lease=_TIMEOUT + LEASE_MARGIN),
        clock=clock,
        emit=log_event,
    )
    try:
        await worker.run(stop)
    finally:
        await database.close()

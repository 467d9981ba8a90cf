"""Procrastinate with its psycopg connector (C speedups installed) and concurrent async jobs.

It fetches and ends jobs one by one. Its pool is given from outside, which it allows: the pool it
makes itself asks the server whether a connection lives before each statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
import psycopg_pool
from procrastinate import App, PsycopgConnector
from procrastinate.jobs import Status

from benchmarks.queues.handled import Handled

CONCURRENCY = 20
POOL_SIZE = 20
_TASK = "nothing"

_PENDING = """
WITH jobs AS (
    INSERT INTO procrastinate_jobs (queue_name, task_name)
    SELECT 'default', 'nothing' FROM generate_series(1, %s) RETURNING id
)
INSERT INTO procrastinate_events (job_id, type) SELECT id, 'deferred' FROM jobs
"""
# It keeps completed jobs, and three events of each.
_COMPLETED = """
WITH jobs AS (
    INSERT INTO procrastinate_jobs (queue_name, task_name, status, attempts)
    SELECT 'default', 'nothing', 'succeeded', 1 FROM generate_series(1, %s) RETURNING id
)
INSERT INTO procrastinate_events (job_id, type)
SELECT id, e.type::procrastinate_job_event_type
FROM jobs, unnest(ARRAY['deferred', 'started', 'succeeded']) AS e (type)
"""


class ProcrastinateQueue:
    """benchmarks.queues.contract.MeasuredQueue."""

    name = "Procrastinate"
    claim_max = 1

    async def open(self, dsn: str) -> None:
        self._plain = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        self._app, self._pool = await _opened(dsn, pool_size=1)
        self._task = self._app.task(name=_TASK, queue="default")(_never)
        await self._app.schema_manager.apply_schema_async()

    async def close(self) -> None:
        await self._pool.close()
        await self._plain.close()

    async def clear(self) -> None:
        await self._plain.execute("TRUNCATE procrastinate_jobs, procrastinate_events CASCADE")

    async def enqueue(self, count: int) -> None:
        if count == 1:
            await self._task.defer_async()
        else:
            await self._task.batch_defer_async(*[{}] * count)

    async def fill(self, *, pending: int, completed: int) -> None:
        # Workers remove those that were silent for 30 s; none runs now.
        self._worker_id = await self._app.job_manager.register_worker()
        # Its triggers write the events line by line.
        await self._plain.execute("SET session_replication_role = replica")
        await self._plain.execute(_COMPLETED, (completed,))
        await self._plain.execute(_PENDING, (pending,))
        await self._plain.execute("SET session_replication_role = DEFAULT")
        await self._plain.execute("VACUUM ANALYZE procrastinate_jobs, procrastinate_events")

    async def claim(self, limit: int) -> Sequence[Any]:
        assert limit == 1
        job = await self._app.job_manager.fetch_job(queues=None, worker_id=self._worker_id)
        return [] if job is None else [job]

    async def complete(self, claimed: Sequence[Any]) -> None:
        for job in claimed:
            await self._app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=False)

    async def open_jobs(self) -> int:
        cursor = await self._plain.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
        )
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


async def work(dsn: str, handled: Handled, stop: asyncio.Event) -> None:
    """Its worker, until `stop` is set."""
    app, pool = await _opened(dsn, pool_size=POOL_SIZE)

    @app.task(name=_TASK, queue="default")
    async def nothing() -> None:
        handled()

    worker = asyncio.create_task(
        app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)
    )
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({worker, stopping}, return_when=asyncio.FIRST_COMPLETED)
        worker.cancel()  # it ends its jobs first
        await asyncio.wait({worker})
        if not worker.cancelled():
            worker.result()
    finally:
        stopping.cancel()
        await pool.close()


async def _opened(dsn: str, *, pool_size: int) -> tuple[App, psycopg_pool.AsyncConnectionPool]:
    pool = psycopg_pool.AsyncConnectionPool(dsn, min_size=pool_size, max_size=pool_size, open=False)
    await pool.open(wait=True)
    app = App(connector=PsycopgConnector())
    await app.open_async(pool)
    return app, pool


async def _never() -> None:
    raise AssertionError("this process only enqueues")

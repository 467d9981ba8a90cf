"""PgQueuer as its guide "Performance Tuning" advises.

Durable tables, autovacuum settings of `pgq autovac`, a single asyncpg connection for the worker, a
larger batch for short jobs, and no limits of concurrency, which spares its claim the counting.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.queries import Queries
from pgqueuer.types import QueueEntrypoint, QueueManagerId

from benchmarks.queues.handled import Handled

BATCH_SIZE = 100
_HEARTBEAT = timedelta(seconds=30)  # its default
_ENTRYPOINT = QueueEntrypoint("nothing")

_PENDING = """
INSERT INTO pgqueuer (priority, entrypoint, status)
SELECT 0, 'nothing', 'queued' FROM generate_series(1, $1)
"""
# What it keeps of a completed job are three lines of its log.
_COMPLETED = """
INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)
SELECT -n, s.status::pgqueuer_status, 'nothing', 0
FROM generate_series(1, $1) AS n, unnest(ARRAY['queued', 'picked', 'successful']) AS s (status)
"""


class PgQueuerQueue:
    """benchmarks.queues.contract.MeasuredQueue."""

    name = "PgQueuer"
    claim_max = 1_000

    async def open(self, dsn: str) -> None:
        self._connection = await asyncpg.connect(dsn)
        self._queries = Queries.from_asyncpg_connection(self._connection)
        self._worker_id = QueueManagerId(uuid.uuid4())
        await self._queries.install()
        await self._queries.optimize_autovacuum()

    async def close(self) -> None:
        await self._connection.close()

    async def clear(self) -> None:
        await self._connection.execute("TRUNCATE pgqueuer, pgqueuer_log, pgqueuer_statistics")

    async def enqueue(self, count: int) -> None:
        if count == 1:
            await self._queries.enqueue(_ENTRYPOINT, None)
        else:
            await self._queries.enqueue([_ENTRYPOINT] * count, [None] * count, [0] * count)

    async def fill(self, *, pending: int, completed: int) -> None:
        await self._connection.execute(_PENDING, pending)
        await self._connection.execute(_COMPLETED, completed)
        await self._connection.execute("VACUUM ANALYZE pgqueuer, pgqueuer_log")

    async def claim(self, limit: int) -> Sequence[Any]:
        return await self._queries.dequeue(
            batch_size=limit,
            entrypoints={_ENTRYPOINT: EntrypointExecutionParameter(concurrency_limit=0)},
            queue_manager_id=self._worker_id,
            global_concurrency_limit=None,
            heartbeat_timeout=_HEARTBEAT,
        )

    async def complete(self, claimed: Sequence[Any]) -> None:
        await self._queries.log_jobs([(job, "successful", None) for job in claimed])

    async def open_jobs(self) -> int:
        return int(await self._connection.fetchval("SELECT count(*) FROM pgqueuer"))


async def work(dsn: str, handled: Handled, stop: asyncio.Event) -> None:
    """Its worker, until `stop` is set."""
    connection = await asyncpg.connect(dsn)
    worker = PgQueuer.from_asyncpg_connection(connection)

    @worker.entrypoint(_ENTRYPOINT)
    async def nothing(_job: Job) -> None:
        handled()

    worker.shutdown = worker.qm.shutdown = worker.sm.shutdown = stop
    try:
        await worker.run(batch_size=BATCH_SIZE)
    finally:
        await connection.close()

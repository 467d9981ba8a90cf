"""The limit of a worker: claim and complete in batches, one connection, plain SQL, nothing else.

On our own table with all its indexes, but without our functions: nothing is rescued, deferred,
fenced or counted, and what is claimed is completed at once.
"""

from __future__ import annotations

import time

import asyncpg

_CLAIM = """
UPDATE memory_jobs
SET status = 'processing', attempts = attempts + 1, locked_by = 'bare',
    locked_until = now() + interval '40 s', started_at = now()
WHERE id = ANY (ARRAY(SELECT id FROM memory_jobs
    WHERE status = 'pending' AND fair_at < 'infinity'
    ORDER BY priority DESC, fair_at, id LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING id
"""
_COMPLETE = """
UPDATE memory_jobs SET status = 'completed', finished_at = now(), locked_until = NULL
WHERE id = ANY ($1)
"""


async def jobs_per_second(dsn: str, *, batch: int, warm: int) -> float:
    """Process all pending jobs; the first `warm` of them do not count."""
    connection = await asyncpg.connect(dsn)
    try:
        done, started = 0, time.perf_counter()
        while rows := await connection.fetch(_CLAIM, batch):
            await connection.execute(_COMPLETE, [row["id"] for row in rows])
            done += len(rows)
            if done <= warm:
                started, warm_done = time.perf_counter(), done
        return (done - warm_done) / (time.perf_counter() - started)
    finally:
        await connection.close()

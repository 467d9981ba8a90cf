"""A new database for each queue, on the running server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg

from benchmarks.queues.contract import MeasuredQueue


@dataclass(frozen=True, slots=True)
class Opened:
    """A queue with its tables made, and where it lives."""

    queue: MeasuredQueue
    dsn: str

    @property
    def name(self) -> str:
        return self.queue.name


@asynccontextmanager
async def opened(dsn: str, queue: MeasuredQueue) -> AsyncIterator[Opened]:
    """The queue in a database of its own beside the one at `dsn`, dropped at the end."""
    name = "bench_" + queue.name.lower().replace(" ", "_")
    await _execute(dsn, f"CREATE DATABASE {name}")
    try:
        own = urlsplit(dsn)._replace(path=f"/{name}").geturl()
        # An empty host before the path would be lost.
        own = own if own.startswith("postgresql://") else own.replace(":", "://", 1)
        await queue.open(own)
        try:
            yield Opened(queue, own)
        finally:
            await queue.close()
    finally:
        await _execute(dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()

"""The service as it runs elsewhere: durable embedded PostgreSQL, API and worker as processes.

Made by hand and not by `cli.processes`: the sections need an API with a route more, and a worker
that comes and goes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from benchmarks.client import Address
from benchmarks.figures import WrongResultError
from luma_memory.bootstrap.database import migrate_database
from luma_memory.cli.child import Child
from luma_memory.concurrency.cores import usable_cores
from luma_memory.postgres.database import Database
from luma_memory.postgres.embedded import EmbeddedPostgres
from luma_memory.settings import Settings

WaitedT = TypeVar("WaitedT")

WAIT_SECONDS_MAX = 300.0
STOP_SECONDS = 30.0
# What a child takes over: where models are kept says nothing about speed.
_KEPT = ("MEMORY_MODEL_CACHE_DIR", "MEMORY_LOCAL_MODEL")
_FOREIGN = (
    "MEMORY_", "OPENAI_", "DATABASE_URL", "REDIS_URL", "SUPABASE_", "PG", "OTEL_", "LANGFUSE_",
)  # fmt: skip


@dataclass(slots=True)
class Stack:
    """What runs, and how long each part took to start."""

    dsn: str
    database: Database
    api: Address
    start_ms: dict[str, float] = field(default_factory=dict)

    async def clear(self) -> None:
        """Empty tables, so that one section does not measure what another one left."""
        await self.database.execute(
            "TRUNCATE memory_blocks, memory_passages, memory_jobs, memory_users,"
            " memory_block_revisions"
        )

    @asynccontextmanager
    async def api_with_keys(self) -> AsyncIterator[Address]:
        """A second API process on the same database, which asks for keys."""
        async with api_process(self.dsn, self.start_ms, {}) as address:
            yield address

    @asynccontextmanager
    async def worker(
        self,
        *,
        concurrent_jobs_max: int | None = None,
        variables: Mapping[str, str] | None = None,
        module: str = "luma_memory.worker",
    ) -> AsyncIterator[int]:
        """A worker process, registered and waiting for jobs, by its id; stopped at the end.

        concurrent_jobs_max: None leaves it to the worker. variables: further settings. module: the
        program.
        """
        variables = dict(variables or {})
        if concurrent_jobs_max is not None:
            variables["MEMORY_WORKER_MAX_CONCURRENT_JOBS"] = str(concurrent_jobs_max)
        started = time.perf_counter()
        async with child_process("worker", module, self.dsn, variables) as child:
            await waited_for(lambda: self._is_registered(child))
            self.start_ms.setdefault("worker", _ms_since(started))
            yield child.pid

    async def _is_registered(self, child: Child) -> bool:
        check_running(child)
        statement = "SELECT id FROM memory_workers WHERE process_id = $1 AND stopped_at IS NULL"
        return bool(await self.database.fetch(statement, child.pid))


@asynccontextmanager
async def running_stack(parent: Path | None) -> AsyncIterator[Stack]:
    """PostgreSQL and API in a fresh directory below `parent`, which is removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="luma-memory-bench-", dir=parent))
    embedded = EmbeddedPostgres(directory / "data", durable=True)
    start_ms: dict[str, float] = {}
    try:
        with _timed(start_ms, "database"):
            dsn = await asyncio.to_thread(embedded.start)
        with _timed(start_ms, "migrate"):
            await migrate_database(Settings(database_url=SecretStr(dsn)), dsn)
        # Without keys, also when a section makes one.
        off = {"MEMORY_AUTH_DISABLED": "true"}
        async with api_process(dsn, start_ms, off) as address, _opened(dsn) as database:
            yield Stack(dsn, database, address, start_ms)
    finally:
        await asyncio.to_thread(embedded.stop)
        shutil.rmtree(directory, ignore_errors=True)


async def waited_for(
    check: Callable[[], Awaitable[WaitedT | None]], *, every_seconds: float = 0.02
) -> WaitedT:
    """The first true result of `check`. Raises TimeoutError after WAIT_SECONDS_MAX."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not (found := await check()):  # noqa: ASYNC110 - another process's work
            await asyncio.sleep(every_seconds)
    return found


def machine() -> dict[str, object]:
    """The environment of the measurement, without identifying the machine."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cores": usable_cores(),
        "python": sys.version.split()[0],
        "load_average": None if load is None else round(load, 1),
    }


@asynccontextmanager
async def _opened(dsn: str) -> AsyncIterator[Database]:
    database = Database(dsn, pool_size=4, command_timeout_seconds=WAIT_SECONDS_MAX)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def api_process(
    dsn: str, start_ms: dict[str, float], variables: Mapping[str, str]
) -> AsyncIterator[Address]:
    """An API process that listens, by its address; stopped at the end."""
    started = time.perf_counter()
    listening = asyncio.Event()
    lines: list[str] = []

    def read(_name: str, line: str) -> None:
        if "Listening on http://" in line:
            lines.append(line)
            listening.set()

    environment = {"MEMORY_PORT": "0", **variables}
    async with child_process("api", "benchmarks.server", dsn, environment, read) as child:
        await _first(listening.wait(), child.wait())
        check_running(child)
        start_ms.setdefault("api", _ms_since(started))
        host, _, port = lines[0].partition("http://")[2].split()[0].rpartition(":")
        yield Address(host, int(port), child.pid)


@asynccontextmanager
async def child_process(
    name: str,
    module: str,
    dsn: str,
    variables: Mapping[str, str],
    on_line: Callable[[str, str], None] = lambda _name, _line: None,
    arguments: Sequence[str] = (),
) -> AsyncIterator[Child]:
    """`python -m module` with only what it is given of our settings; stopped at the end."""
    command = [sys.executable, "-m", module, *arguments]
    child = await Child.start(name, command, {**_environment(dsn), **variables}, on_line)
    try:
        yield child
    finally:
        await child.stop(grace_seconds=STOP_SECONDS)


async def _first(*works: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    await asyncio.wait(tasks, timeout=WAIT_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def check_running(child: Child) -> None:
    """Raises WrongAnswerError with its last words when the process has ended."""
    if child.exit_code is not None:
        raise WrongResultError(child.exit_report())


def _environment(dsn: str) -> dict[str, str]:
    """Ours without anything the service would read from it."""
    own = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not name.startswith(_FOREIGN)
    }
    return own | {"DATABASE_URL": dsn, "MEMORY_STOP_WITH_PARENT": "true"}


@contextmanager
def _timed(into: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    into[name] = _ms_since(started)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000

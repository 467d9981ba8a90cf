"""Locate, start, open and migrate the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Literal

from luma_memory.domain.errors import SetupError
from luma_memory.postgres.database import Database
from luma_memory.postgres.embedded import EmbeddedPostgres, server_runs
from luma_memory.postgres.migrator import (
    MigrationReport,
    migrate,
    migration_script,
    schema_is_current,
)
from luma_memory.postgres.replica import NOT_A_REPLICA, Replica
from luma_memory.settings import Settings
from luma_memory.telemetry.events import Emit, Notice
from luma_memory.telemetry.logs import log_event

ProcessKind = Literal["api", "worker"]
# A statement takes milliseconds; one that takes this long hangs, and its caller should get an
# error. At the API a client is waiting.
_COMMAND_SECONDS: Mapping[ProcessKind, float] = {"api": 4.0, "worker": 10.0}
# An operator may read millions of rows, and can press Ctrl-C.
_OPERATOR_SECONDS = 300.0
SCHEMA_MISSING: Final = "schema_missing"
_POOLER_NOTICE = (
    "DATABASE_URL leads to a transaction pooler: workers find jobs by polling only (no LISTEN), and"
    " a killed worker's jobs wait until their lease ends (no session lock); the database's direct"
    " address has both."
)


@asynccontextmanager
async def database_address(settings: Settings, *, exclusive: bool = False) -> AsyncIterator[str]:
    """The DSN of the configured database, or of the embedded one, started if necessary.

    exclusive: refuse a data directory that another `luma-memory up` is using. Raises SetupError.
    """
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    embedded = EmbeddedPostgres(data_dir(settings), exclusive=exclusive)
    dsn = await asyncio.to_thread(embedded.start)
    try:
        yield dsn
    finally:
        await asyncio.to_thread(embedded.stop)


def embedded_database_ended(settings: Settings) -> bool:
    """Whether the embedded database is used and does not run. Raises SetupError."""
    return settings.database_url is None and not server_runs(data_dir(settings))


def data_dir(settings: Settings) -> Path:
    """The folder of the embedded database."""
    return settings.data_folder


async def migrate_database(settings: Settings, dsn: str) -> MigrationReport:
    """Bring the database to this version's schema. Raises SetupError or StoreUnavailable."""
    database = Database(dsn, pool_size=2, pooler=settings.database_pooler)
    try:
        return await migrate(database)
    finally:
        await database.close()


def schema_script() -> str:
    """The schema as one file for a SQL editor."""
    return migration_script()


async def open_database(
    dsn: str, settings: Settings, stack: AsyncExitStack, kind: ProcessKind
) -> Database:
    database = Database(
        dsn,
        pool_size=settings.database_pool_size,
        command_timeout_seconds=_COMMAND_SECONDS[kind],
        application_name=f"luma-memory {kind}",
        pooler=settings.database_pooler,
        # A client waits for the API; a worker may use the time of its jobs.
        notices_hanging=kind == "api",
    )
    stack.push_async_callback(database.close)
    await database.open()
    if await database.shares_sessions():
        log_event(Notice(_POOLER_NOTICE))
    if not await schema_is_current(database):
        if settings.database_url is not None:
            raise schema_missing()
        await migrate(database)
        # Connections opened before the migration lack the vector types.
        await database.renew()
    return database


async def open_replica(
    settings: Settings, home: Database, partition_count: int, stack: AsyncExitStack, emit: Emit
) -> Replica | None:
    """The replica of MEMORY_DATABASE_READ_URL; None without one. It need not respond.

    home: as for `Replica`. Raises SetupError if it is not a replica of it.
    """
    if settings.database_read_url is None:
        return None
    if settings.database_url is None:
        raise SetupError(
            "MEMORY_DATABASE_READ_URL needs DATABASE_URL: the embedded database has no replica",
            code=NOT_A_REPLICA,
        )
    database = Database(
        settings.database_read_url.get_secret_value(),
        pool_size=settings.database_pool_size,
        command_timeout_seconds=_COMMAND_SECONDS["api"],
        application_name="luma-memory api",
        pooler=settings.database_pooler,
        notices_hanging=True,
    )
    if partition_count > 1:
        database.hold_partitions(partition_count)
    replica = Replica(database, home, emit)
    stack.push_async_callback(replica.close)
    await replica.start()
    return replica


@asynccontextmanager
async def operators_database(settings: Settings) -> AsyncIterator[Database]:
    """The database without providers: what an operator needs when the service is down.

    Never creates a database or a schema. Raises SetupError and StoreUnavailable.
    """
    if settings.database_url is None and not (data_dir(settings) / "postgres").exists():
        raise SetupError(
            f"There is no database in {data_dir(settings)}: give its folder with --data-dir, or set"
            " DATABASE_URL",
            code="no_database",
        )
    async with database_address(settings) as dsn:
        database = Database(
            dsn,
            pool_size=2,
            command_timeout_seconds=_OPERATOR_SECONDS,
            application_name="luma-memory operator",
            pooler=settings.database_pooler,
        )
        try:
            if not await schema_is_current(database):
                raise schema_missing()
            yield database
        finally:
            await database.close()


def schema_missing() -> SetupError:
    return SetupError(
        "The database does not have this version's schema: run `luma-memory migrate`",
        code=SCHEMA_MISSING,
    )

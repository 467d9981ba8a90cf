"""Backups of the configured database, and databases made from them."""

from __future__ import annotations

from pathlib import Path

from luma_memory.bootstrap.database import database_address, migrate_database, operators_database
from luma_memory.bootstrap.partitions import Partitions
from luma_memory.domain.errors import SetupError
from luma_memory.postgres.dumps import dump, holds_something, load
from luma_memory.settings import Settings


async def back_up(settings: Settings, file: Path) -> None:
    """Raises SetupError (code partitions_not_included), and as `operators_database` and `dump`."""
    async with operators_database(settings) as database, database_address(settings) as dsn:
        if await Partitions(database).is_spread():
            raise SetupError(
                "Users are in several partitions, of which this command would back up one: back up"
                " the schema of each with pg_dump; `luma-memory partitions list` names them",
                code="partitions_not_included",
            )
        await dump(database, dsn, file)


async def restore(settings: Settings, file: Path) -> None:
    """Bring an empty database to this version's schema and the backup's rows.

    Raises SetupError (code database_not_empty) if the database is not empty, and as `load`.
    """
    async with database_address(settings) as dsn:
        await migrate_database(settings, dsn)
        async with operators_database(settings) as database:
            if await holds_something(database):
                raise SetupError(
                    "This database is not empty; a backup is restored into an empty one",
                    code="database_not_empty",
                )
            await load(database, dsn, file)

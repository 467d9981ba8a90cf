"""Inspect a database without changing it, for `luma-memory doctor`."""

from __future__ import annotations

import asyncpg

from luma_memory.domain.database_facts import DatabaseFacts
from luma_memory.postgres.database import Database
from luma_memory.postgres.migrator import schema_is_current

_FACTS = """
SELECT current_setting('server_version_num')::int / 10000 AS major,
       current_setting('server_version') AS version,
       current_setting('server_encoding') AS encoding,
       current_schema() AS schema,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)
           AS may_create_tables,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector_installed,
       (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')
           AS pgvector_available
"""


async def inspect_database(database: Database) -> DatabaseFacts:
    """Raises StoreUnavailable or SetupError if it cannot be read."""
    row = await database.fetch_row(_FACTS)
    assert row is not None
    installed, available = row["pgvector_installed"], row["pgvector_available"]
    return DatabaseFacts(
        major=row["major"],
        version=row["version"],
        encoding=row["encoding"],
        schema=row["schema"],
        may_create_tables=row["may_create_tables"],
        pgvector=installed or available,
        may_have_pgvector=bool(installed or (available and await _may_create_pgvector(database))),
        schema_current=await schema_is_current(database),
    )


async def _may_create_pgvector(database: Database) -> bool:
    """Try it and roll back: hosted databases grant it in ways that no catalog shows."""
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("CREATE EXTENSION vector")
        except asyncpg.InsufficientPrivilegeError:
            return False
        except asyncpg.PostgresError:
            return True  # another problem, which the migration reports
        finally:
            await transaction.rollback()
    return True

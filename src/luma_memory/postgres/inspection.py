"""What a database is and has, read without changing it: for `luma-memory doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from luma_memory.postgres.database import Database
from luma_memory.postgres.migrator import schema_is_current

POSTGRES_MAJOR_MIN = 16
PGVECTOR_MIN = (0, 8)
_FACTS = """
SELECT current_setting('server_version_num')::int / 10000 AS major,
       current_setting('server_version') AS version,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector_installed,
       (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')
           AS pgvector_available
"""


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """One look at a database."""

    major: int
    version: str
    pgvector: str | None  # installed in the database, else what could be; None: neither
    schema_current: bool

    @property
    def is_recent(self) -> bool:
        return self.major >= POSTGRES_MAJOR_MIN

    @property
    def has_pgvector(self) -> bool:
        return self.pgvector is not None and _numbers(self.pgvector) >= PGVECTOR_MIN


async def inspect_database(database: Database) -> DatabaseFacts:
    """Raises StoreUnavailable or SetupError when it cannot be asked."""
    row = await database.fetch_row(_FACTS)
    assert row is not None
    return DatabaseFacts(
        major=row["major"],
        version=row["version"],
        pgvector=row["pgvector_installed"] or row["pgvector_available"],
        schema_current=await schema_is_current(database),
    )


def _numbers(version: str) -> tuple[int, ...]:
    parts = (part for part in version.split(".")[:2])
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts)

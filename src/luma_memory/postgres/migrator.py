"""Bring a database to the current schema.

The text the runner executes is the text `migrate --print` prints, so the command line and a hosted
SQL editor do the same. It is one transaction under an advisory lock: two concurrent migrators
do the work once, and a killed one leaves no change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import asyncpg

from luma_memory.concurrency.retries import jittered
from luma_memory.domain.errors import SetupError, StoreUnavailable
from luma_memory.postgres.database import Connection, Database, quoted_name
from luma_memory.postgres.errors import UNAVAILABLE, translated

_PACKAGE = "luma_memory.migrations"
_LOCK_WAIT_ROUNDS_MAX = 15
EXTENSION_REFUSED: Final = (
    "This database user may not create the extension pgvector: run CREATE EXTENSION vector; once in"
    " this database as a user who may (a superuser, or the administrator of a hosted database),"
    " then migrate again"
)


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """The result of a run. `applied` is empty if the schema was current."""

    applied: Sequence[str]
    version: str


def migration_names() -> list[str]:
    """The history, oldest first."""
    return _sql_names(files(_PACKAGE))


def migration_script() -> str:
    """The whole schema as one script for any SQL client; safe to run on any earlier state."""
    history = "\n".join(_guarded(name) for name in migration_names())
    definitions = "\n".join(
        _text("definitions", name) for name in _sql_names(files(_PACKAGE) / "definitions")
    )
    return "\n".join([_text("frame", "opening"), history, definitions, _text("frame", "closing")])


async def migrate(database: Database) -> MigrationReport:
    """Apply the missing migrations. Waits for another migrator; retries if a table stays locked.

    Raises SetupError if the schema cannot be applied, StoreUnavailable without a response.
    """
    for attempt in range(_LOCK_WAIT_ROUNDS_MAX):
        connection = await database.dedicated()
        try:
            before = await _applied(connection, database.schema)
            await connection.execute(migration_script(), timeout=600)
            after = await _applied(connection, database.schema)
            return MigrationReport([name for name in after if name not in before], after[-1])
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(jittered(min(5.0, 0.2 * 2**attempt), high=1.0))
        except UNAVAILABLE as error:
            raise StoreUnavailable(
                f"PostgreSQL became unavailable during the migration ({type(error).__name__});"
                " it was rolled back"
            ) from error
        except asyncpg.PostgresError as error:
            raise _refusal(error) from error
        finally:
            await connection.close()
    raise SetupError(
        "The tables stayed locked by other statements; run the migration at a quieter time",
        code="migration_locked",
    )


def _refusal(error: asyncpg.PostgresError) -> SetupError:
    # Only the first line: details quote rows.
    message = str(error.args[0])
    if isinstance(error, asyncpg.InsufficientPrivilegeError) and 'extension "vector"' in message:
        return SetupError(EXTENSION_REFUSED, code="migration_refused")
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        message = f"This database user may not change the schema: {message}"
    elif 'extension "vector" is not available' in message:
        return SetupError(
            "This PostgreSQL has no pgvector: install the extension `vector` 0.8 or newer",
            code="pgvector_missing",
        )
    elif not isinstance(error, asyncpg.RaiseError):
        message = f"The schema cannot be applied: {message}"
    return SetupError(message, code="migration_refused")


async def schema_is_current(database: Database) -> bool:
    """Whether every migration of this version has been applied; newer ones do not matter."""
    async with database.connection() as connection:
        return set(migration_names()) <= set(await _applied(connection, database.schema))


async def _applied(
    connection: asyncpg.Connection | Connection, schema: str | None = None
) -> list[str]:
    # Of this partition: pgvector's schema, which is on the search_path, may have tables of another.
    prefix = "" if schema is None else f"{quoted_name(schema)}."
    with translated():
        if not await connection.fetchval(
            "SELECT to_regclass($1) IS NOT NULL", f"{prefix}memory_migrations"
        ):
            return []
        rows = await connection.fetch(
            f"SELECT version FROM {prefix}memory_migrations ORDER BY version"  # noqa: S608 - quoted
        )
    return [row["version"] for row in rows]


def _guarded(name: str) -> str:
    body = _text(".", name)
    tag = f"$migration_{name[:4]}$"
    return (
        f"DO {tag} BEGIN\n"
        f"IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '{name}') THEN\n"
        f"{body}\n"
        f"INSERT INTO memory_migrations (version) VALUES ('{name}');\n"
        f"END IF;\nEND {tag};\n"
    )


def _sql_names(folder: Traversable) -> list[str]:
    names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".sql") for name in names if name.endswith(".sql"))


def _text(folder: str, name: str) -> str:
    return (files(_PACKAGE) / folder / f"{name}.sql").read_text(encoding="utf-8")

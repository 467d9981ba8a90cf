"""Bring a database to the current schema.

The text the runner executes is the text `migrate --print` prints, so the command line and a hosted
SQL editor do the same. All of it is one transaction under an advisory lock: two migrators at once
do the work once, a killed one leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from luma_memory.domain.errors import SetupError
from luma_memory.postgres.database import Connection, Database, translated

_PACKAGE = "luma_memory.migrations"
# Any number will do, as long as every version of this software uses the same.
_LOCK_KEY = 4_867_010_125_002
_LOCK_WAIT_ROUNDS_MAX = 15

_OPENING = f"""\
-- Luma Memory: schema of the asynchronous memory service, as one file.
-- Paste it whole into a SQL editor, or run `luma-memory migrate`. Running it again changes nothing.
-- Needs PostgreSQL 16 or newer and the extension pgvector 0.8 or newer.

BEGIN;
SELECT pg_advisory_xact_lock({_LOCK_KEY});
-- Give way to running statements instead of queueing everybody behind us.
SET LOCAL lock_timeout = '2s';
SET LOCAL client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS memory_migrations (
    version text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
DO $check$ BEGIN
    IF (SELECT string_to_array(regexp_replace(extversion, '[^0-9.]', '', 'g'), '.')::int[]
        FROM pg_extension WHERE extname = 'vector') < ARRAY[0, 8] THEN
        RAISE EXCEPTION 'pgvector is too old: 0.8 or newer is needed. Run ALTER EXTENSION vector UPDATE.';
    END IF;
END $check$;
"""

# Hosted platforms let anonymous callers run every new function; ours are for the service alone.
_CLOSING = """\
DO $grants$
DECLARE
    v_function regprocedure;
    v_role text;
BEGIN
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace = current_schema()::regnamespace
          AND p.proname LIKE '%memory%' AND p.proname <> 'memory_token_subject'
          AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_function);
        FOR v_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %I', v_function, v_role);
        END LOOP;
        FOR v_role IN SELECT rolname FROM pg_roles WHERE rolname = 'service_role' LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', v_function, v_role);
        END LOOP;
    END LOOP;
END $grants$;

COMMIT;
"""


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What one run did. `applied` is empty when the schema was current."""

    applied: Sequence[str]
    version: str


def migration_names() -> list[str]:
    """The history, oldest first."""
    return sorted(
        entry.name.removesuffix(".sql")
        for entry in files(_PACKAGE).iterdir()
        if entry.name.endswith(".sql")
    )


def migration_script() -> str:
    """The whole schema as one script for any SQL client; safe to run on any earlier state."""
    history = "\n".join(_guarded(name) for name in migration_names())
    definitions = "\n".join(
        entry.read_text(encoding="utf-8")
        for entry in sorted(
            (files(_PACKAGE) / "definitions").iterdir(), key=lambda entry: entry.name
        )
        if entry.name.endswith(".sql")
    )
    return f"{_OPENING}\n{history}\n{definitions}\n{_CLOSING}"


async def migrate(database: Database) -> MigrationReport:
    """Apply what is missing. Waits for another migrator; retries when a table stays locked.

    Raises SetupError when the database cannot take the schema, StoreUnavailable when it is away.
    """
    for attempt in range(_LOCK_WAIT_ROUNDS_MAX):
        connection = await database.dedicated()
        try:
            before = await _applied(connection)
            await connection.execute(migration_script(), timeout=600)
            after = await _applied(connection)
            return MigrationReport([name for name in after if name not in before], after[-1])
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(min(5.0, 0.2 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311
        except asyncpg.RaiseError as error:
            raise SetupError(str(error), code="migration_refused") from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise SetupError(
                f"This database user may not change the schema: {error}", code="migration_refused"
            ) from error
        except asyncpg.UndefinedFileError as error:
            raise SetupError(
                "This PostgreSQL has no pgvector: install the extension `vector` 0.8 or newer",
                code="pgvector_missing",
            ) from error
        finally:
            await connection.close()
    raise SetupError(
        "The tables stayed locked by other statements; run the migration at a quieter time",
        code="migration_locked",
    )


async def schema_is_current(database: Database) -> bool:
    """Whether every migration of this version has been applied; newer ones do no harm."""
    async with database.connection() as connection:
        return set(migration_names()) <= set(await _applied(connection))


async def _applied(connection: asyncpg.Connection | Connection) -> list[str]:
    with translated():
        if not await connection.fetchval("SELECT to_regclass('memory_migrations') IS NOT NULL"):
            return []
        rows = await connection.fetch("SELECT version FROM memory_migrations ORDER BY version")
    return [row["version"] for row in rows]


def _guarded(name: str) -> str:
    body = (files(_PACKAGE) / f"{name}.sql").read_text(encoding="utf-8")
    tag = f"$migration_{name[:4]}$"
    return (
        f"DO {tag} BEGIN\n"
        f"IF NOT EXISTS (SELECT FROM memory_migrations WHERE version = '{name}') THEN\n"
        f"{body}\n"
        f"INSERT INTO memory_migrations (version) VALUES ('{name}');\n"
        f"END IF;\nEND {tag};\n"
    )

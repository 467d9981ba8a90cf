"""Every way to the schema ends in the same schema, and loses no row."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import working

from luma_memory.domain.errors import SetupError, StoreUnavailable
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.postgres.database import Database
from luma_memory.postgres.embedded.account import server_account
from luma_memory.postgres.embedded.programs import programs_of
from luma_memory.postgres.migrator import (
    MigrationReport,
    migrate,
    migration_names,
    migration_script,
    schema_is_current,
)
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import WordEmbedder

pytestmark = every_postgres

MIGRATION_LOCK = 4867010125002
OWNER = "11111111-1111-4111-8111-111111111111"
CAT = "aaaaaaaa-0000-4000-8000-000000000001"
DOG = "aaaaaaaa-0000-4000-8000-000000000002"
_ROWS = f"""
INSERT INTO memory_blocks (id, user_id, content, created_at) VALUES
    ('{CAT}', '{OWNER}', 'Caroline adopted a grey cat.', '2023-05-08 13:56:00'),
    ('{DOG}', '{OWNER}', 'Melanie walks her dog at dawn.', '2023-05-09 08:00:00');
"""
_PLAIN = """
CREATE TABLE memory_blocks (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id text NOT NULL, content text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now());
"""
OLD_SHAPES = {
    "plain": _PLAIN + _ROWS,
    "uuid owners": """
        CREATE TABLE memory_blocks (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid NOT NULL,
            content text NOT NULL, created_at timestamptz DEFAULT now());
        CREATE INDEX ON memory_blocks (user_id, created_at DESC);
    """
    + _ROWS,
    "varchar and times without zone": """
        CREATE TABLE memory_blocks (
            id varchar(36) PRIMARY KEY, user_id varchar(64) NOT NULL, content varchar,
            created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now());
    """
    + _ROWS,
    "columns of its own": """
        CREATE EXTENSION vector;
        CREATE TABLE memory_blocks (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id text NOT NULL,
            content text NOT NULL, embedding vector(3), metadata json, tags jsonb DEFAULT '[]',
            status text NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'old')),
            created_at timestamptz NOT NULL DEFAULT now());
        CREATE INDEX ON memory_blocks USING hnsw (embedding vector_cosine_ops);
    """
    + _ROWS
    + """UPDATE memory_blocks SET metadata = '{"mood": "glad"}', tags = '["pets"]',
             embedding = '[1,2,3]';""",
    "names of ours with other demands": """
        CREATE TABLE memory_blocks (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id text NOT NULL,
            project_id text, content text NOT NULL, title text NOT NULL DEFAULT '',
            source text NOT NULL DEFAULT 'chat' CHECK (source = 'chat'), tags text[],
            session_id text NOT NULL DEFAULT 's', language text DEFAULT 'en', metadata jsonb,
            importance real DEFAULT 5 CHECK (importance BETWEEN 1 AND 10), revision integer,
            category text NOT NULL DEFAULT 'fact', updated_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (user_id, content));
    """
    + _ROWS
    + "ALTER TABLE memory_blocks ALTER COLUMN category DROP DEFAULT;",
    "policies": _PLAIN
    + _ROWS
    + """
        ALTER TABLE memory_blocks ENABLE ROW LEVEL SECURITY;
        CREATE POLICY "Users see their own" ON memory_blocks USING (user_id = current_user);
        CREATE POLICY own_rows ON memory_blocks FOR INSERT WITH CHECK (user_id = current_user);
    """,
    "foreign keys": f"""
        CREATE TABLE accounts (id uuid PRIMARY KEY);
        INSERT INTO accounts VALUES ('{OWNER}');
        CREATE TABLE memory_blocks (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            user_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
            content text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT a_second_key UNIQUE (id, user_id));
    """
    + _ROWS
    + f"""
        CREATE TABLE "odd Name" (block_id uuid REFERENCES memory_blocks ON DELETE CASCADE,
            block uuid, owner uuid,
            FOREIGN KEY (block, owner) REFERENCES memory_blocks (id, user_id));
        INSERT INTO "odd Name" VALUES ('{CAT}', '{DOG}', '{OWNER}');
    """,
}
# What is found, and the beginning of the error message.
REFUSED = {
    "numbers for ids": (
        """CREATE TABLE memory_blocks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            user_id text, content text, created_at timestamptz);""",
        "memory_blocks.id is of type bigint, not uuid",
    ),
    "no owner column": (
        "CREATE TABLE memory_blocks (id uuid, owner text, content text);",
        "memory_blocks has no column user_id",
    ),
    "a foreign table of our name": (
        "CREATE TABLE memory_jobs (id serial);",
        "The table memory_jobs exists already and was not made by this migration",
    ),
    "a row without an owner": (
        """CREATE TABLE memory_blocks (id uuid, user_id text, content text,
            created_at timestamptz);
        INSERT INTO memory_blocks (content) VALUES ('secretword');""",
        "memory_blocks holds rows without a user_id",
    ),
    "ids that are none": (
        """CREATE TABLE memory_blocks (id text, user_id text, content text,
            created_at timestamptz);
        INSERT INTO memory_blocks VALUES ('not-a-uuid', 'u', 'secretword', now());""",
        "The schema cannot be applied: invalid input syntax for type uuid",
    ),
    "one id twice": (
        f"""CREATE TABLE memory_blocks (id uuid, user_id text, content text,
            created_at timestamptz);
        INSERT INTO memory_blocks
        SELECT '{CAT}', 'u', 'secretword', now() FROM generate_series(1, 2);""",
        "The schema cannot be applied: could not create unique index",
    ),
    "a view that hangs on a column": (
        """CREATE TABLE memory_blocks (id uuid, user_id uuid, content text,
            created_at timestamp);
        CREATE VIEW mine AS SELECT user_id FROM memory_blocks;""",
        "The schema cannot be applied: cannot alter type of a column used by a view",
    ),
}
CATALOG = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull,
               a.attidentity::text, a.attstorage::text, pg_get_expr(d.adbin, d.adrelid) AS standard
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind = 'r' AND c.relname LIKE 'memory%'
          AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
          AND a.attname NOT LIKE 'legacy%'
          AND NOT (c.relname = 'memory_blocks' AND a.attname IN ('embedding', 'category'))""",
    "tables": """
        SELECT relname, relrowsecurity, relforcerowsecurity, reloptions FROM pg_class
        WHERE relkind = 'r' AND relname LIKE 'memory%' AND relnamespace = 'public'::regnamespace""",
    "constraints": """
        SELECT conrelid::regclass::text AS relname, conname, pg_get_constraintdef(oid) AS definition
        FROM pg_constraint WHERE conrelid::regclass::text LIKE '%memory%' AND contype <> 'n'""",
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename LIKE 'memory%'
          AND indexname NOT LIKE 'memory_blocks%_idx'""",
    "policies": "SELECT tablename, policyname, roles, cmd, qual, with_check FROM pg_policies",
    "functions": """
        SELECT p.proname, pg_get_functiondef(p.oid) AS definition, p.proacl::text FROM pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f'
          AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')""",
    "triggers": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
}


@pytest.fixture
async def old(empty_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A database before us, with the connection that made it so."""
    connection: asyncpg.Connection = await asyncpg.connect(empty_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def empty_database(empty_dsn: str) -> AsyncIterator[Database]:
    database = Database(empty_dsn, pool_size=4, acquire_timeout_seconds=60.0)
    yield database
    await database.close()


@pytest.fixture
async def fresh_schema(connection: asyncpg.Connection) -> dict[str, set[str]]:
    """What a database without a past gets."""
    return await catalog(connection)


async def catalog(connection: asyncpg.Connection) -> dict[str, set[str]]:
    return {
        part: {str(tuple(row)) for row in await connection.fetch(statement)}
        for part, statement in CATALOG.items()
    }


async def fingerprint(connection: asyncpg.Connection) -> set[tuple[Any, ...]]:
    """Identity of every table, index, constraint, policy and function."""
    rows = await connection.fetch("""
        SELECT 'class', oid::bigint, relname::text, relfilenode::bigint FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT 'proc', oid::bigint, proname::text, 0 FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 'constraint', oid::bigint, conname::text, 0 FROM pg_constraint
        UNION ALL SELECT 'policy', oid::bigint, polname::text, 0 FROM pg_policy
        UNION ALL SELECT 'migration', xmin::text::bigint, version, 0 FROM memory_migrations""")
    return {tuple(row) for row in rows}


def test_the_catalog_queries_see_the_schema(fresh_schema: dict[str, set[str]]) -> None:
    assert {part: len(rows) > 0 for part, rows in fresh_schema.items()} == {
        **dict.fromkeys(CATALOG, True),
        "triggers": False,
    }
    assert any("'memory_jobs_claim'" in row for row in fresh_schema["indexes"])


@pytest.mark.parametrize("shape", OLD_SHAPES)
async def test_an_older_database_ends_in_the_same_schema_with_all_its_rows(
    shape: str,
    old: asyncpg.Connection,
    empty_database: Database,
    fresh_schema: dict[str, set[str]],
) -> None:
    await old.execute(OLD_SHAPES[shape])
    report = await migrate(empty_database)
    assert report == MigrationReport(migration_names(), migration_names()[-1])
    assert await catalog(old) == fresh_schema
    await _assert_rows_kept(old)
    # The older service keeps writing as it did.
    await old.execute("SET row_security = off")
    missing = {"names of ours with other demands": ", category"}.get(shape, "")
    await old.execute(
        f"INSERT INTO memory_blocks (user_id, content{missing}) VALUES ('x', 'y'"
        + (", 'fact')" if missing else ")")
    )


@pytest.mark.parametrize("shape", ["plain", "columns of its own", "uuid owners"])
async def test_old_rows_are_enriched_and_found(
    shape: str, old: asyncpg.Connection, empty_database: Database
) -> None:
    await old.execute(OLD_SHAPES[shape])
    await migrate(empty_database)
    async with working(empty_database) as worker:
        await worker.events.wait_for(JobCompleted, count=2)
    rows = await old.fetch(
        "SELECT status, enrichment, title FROM memory_blocks ORDER BY created_at"
    )
    assert [tuple(row) for row in rows] == [
        ("active", "model", "Caroline adopted a grey cat."),
        ("active", "model", "Melanie walks her dog at dawn."),
    ]
    recall = Recall(
        PostgresSearchStore(empty_database),
        PostgresBlockStore(empty_database, attempts_max=3),
        embedder=WordEmbedder(),
        emit=EventLog(),
    )
    found = await recall.search(
        SearchRequest(scope=Scope("default", OWNER), query="Who adopted a cat?", limit=1)
    )
    assert [str(hit.block.id) for hit in found.hits] == [CAT]


async def _assert_rows_kept(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "SELECT id::text, project_id, user_id, content, created_at::text, status, enrichment,"
        " revision FROM memory_blocks ORDER BY created_at"
    )
    always = ("pending_enrichment", "none", 1)
    assert [tuple(row) for row in rows] == [
        (CAT, "default", OWNER, "Caroline adopted a grey cat.", "2023-05-08 13:56:00+00", *always),
        (
            DOG,
            "default",
            OWNER,
            "Melanie walks her dog at dawn.",
            "2023-05-09 08:00:00+00",
            *always,
        ),
    ]
    jobs = await connection.fetch(
        "SELECT block_id::text, user_id, job_type, status FROM memory_jobs ORDER BY fair_at"
    )
    assert [tuple(job) for job in jobs] == [
        (block_id, OWNER, "enrich_and_embed", "pending") for block_id in (CAT, DOG)
    ]
    assert await connection.fetchval("SELECT array_agg(user_id) FROM memory_users") == [OWNER]


async def test_extra_columns_of_the_old_table_are_kept(
    old: asyncpg.Connection, empty_database: Database
) -> None:
    await old.execute(OLD_SHAPES["columns of its own"])
    await migrate(empty_database)
    rows = await old.fetch(
        "SELECT embedding::text, metadata::text, legacy_tags::text, legacy_status"
        " FROM memory_blocks"
    )
    assert {tuple(row) for row in rows} == {("[1,2,3]", '{"mood": "glad"}', '["pets"]', "new")}


async def test_a_second_run_changes_nothing(
    old: asyncpg.Connection, empty_database: Database, fresh_schema: dict[str, set[str]]
) -> None:
    await old.execute(OLD_SHAPES["foreign keys"])
    await migrate(empty_database)
    before = await fingerprint(old)
    rows = await old.fetch("SELECT xmin::text, * FROM memory_blocks")
    assert await migrate(empty_database) == MigrationReport([], migration_names()[-1])
    assert await fingerprint(old) == before
    assert await catalog(old) == fresh_schema
    assert await old.fetch("SELECT xmin::text, * FROM memory_blocks") == rows
    assert await old.fetchval("SELECT count(*) FROM memory_jobs") == 2


async def test_a_run_with_nothing_to_do_takes_no_lock_that_blocks_others(
    empty_dsn: str, empty_database: Database
) -> None:
    await migrate(empty_database)
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute(migration_script().rpartition("COMMIT;")[0])
    locks = await connection.fetch(
        "SELECT relation::regclass, mode FROM pg_locks WHERE pid = pg_backend_pid()"
        " AND locktype = 'relation' AND relation::regclass::text LIKE 'memory%'"
        " AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')"
    )
    assert locks == []
    await connection.close()


async def test_before_and_after(empty_database: Database) -> None:
    assert not await schema_is_current(empty_database)
    await migrate(empty_database)
    assert await schema_is_current(empty_database)


async def test_several_migrators_at_once_do_the_work_once(
    old: asyncpg.Connection, empty_dsn: str, fresh_schema: dict[str, set[str]]
) -> None:
    await old.execute(OLD_SHAPES["plain"])
    databases = [Database(empty_dsn, pool_size=1) for _ in range(4)]
    reports = await asyncio.gather(*(migrate(database) for database in databases))
    assert {report.version for report in reports} == {migration_names()[-1]}
    assert await catalog(old) == fresh_schema
    assert await old.fetchval("SELECT count(*) FROM memory_jobs") == 2


@asynccontextmanager
async def _table_in_use(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A session reads memory_blocks in a transaction that does not end."""
    reader: asyncpg.Connection = await asyncpg.connect(dsn)
    try:
        await reader.execute("BEGIN; SELECT count(*) FROM memory_blocks")
        yield reader
    finally:
        await reader.close()


async def _waiting_backend(connection: asyncpg.Connection, wait: str) -> int:
    """The process of a migrator that waits for a lock, once there is one."""
    async with asyncio.timeout(60):
        while True:
            pid: int | None = await connection.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND wait_event = $1 AND datname = current_database()",
                wait,
            )
            if pid is not None:
                return pid


async def test_a_migrator_killed_in_the_middle_leaves_nothing(
    old: asyncpg.Connection, empty_dsn: str, empty_database: Database
) -> None:
    await old.execute(OLD_SHAPES["foreign keys"])
    before = await catalog(old)
    async with _table_in_use(empty_dsn):
        migrating = asyncio.create_task(migrate(empty_database))
        backend = await _waiting_backend(old, "relation")
        await old.execute("SELECT pg_terminate_backend($1)", backend)
        with pytest.raises(StoreUnavailable):
            await migrating
    assert await catalog(old) == before
    assert (await migrate(empty_database)).applied == migration_names()
    await _assert_rows_kept(old)


async def test_a_table_in_use_is_waited_for_without_queueing_its_users(
    old: asyncpg.Connection, empty_dsn: str, empty_database: Database
) -> None:
    await old.execute(OLD_SHAPES["plain"])
    async with _table_in_use(empty_dsn):
        migrating = asyncio.create_task(migrate(empty_database))
        await _waiting_backend(old, "relation")
        # Queues behind the migrator, who gives way.
        async with asyncio.timeout(60):
            assert await old.fetchval("SELECT count(*) FROM memory_blocks") == 2
        assert not migrating.done()
    assert (await migrating).applied == migration_names()


async def test_the_printed_script_makes_the_same_schema(
    old: asyncpg.Connection, empty_dsn: str, major: int, fresh_schema: dict[str, set[str]]
) -> None:
    await old.execute(OLD_SHAPES["policies"])
    for _ in range(2):
        result = _psql(empty_dsn, major, migration_script())
        assert result.returncode == 0, result.stdout
    assert await catalog(old) == fresh_schema
    await _assert_rows_kept(old)


async def test_the_script_names_what_it_replaces(
    old: asyncpg.Connection, empty_dsn: str, major: int
) -> None:
    await old.execute(
        OLD_SHAPES["policies"] + "ALTER TABLE memory_blocks ADD CHECK (content <> '');"
    )
    output = _psql(empty_dsn, major, migration_script()).stdout
    assert "WARNING:  Replacing the policy Users see their own on memory_blocks." in output
    assert (
        "WARNING:  Replacing the constraint memory_blocks_content_check on memory_blocks." in output
    )


def _psql(dsn: str, major: int, script: str) -> subprocess.CompletedProcess[str]:
    programs = programs_of(major, server_account())
    command = programs.command("psql", "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", dsn)
    return programs.run(command, stdin=script, timeout_seconds=120)


@pytest.mark.parametrize("case", REFUSED)
async def test_a_failed_migration_is_explained_in_one_sentence(
    case: str, old: asyncpg.Connection, empty_database: Database
) -> None:
    script, message = REFUSED[case]
    await old.execute(script)
    before = await catalog(old)
    with pytest.raises(SetupError) as caught:
        await migrate(empty_database)
    assert caught.value.code == "migration_refused"
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert "secretword" not in str(caught.value)
    assert await catalog(old) == before


async def test_a_role_without_the_right_to_create_gets_a_clear_error(
    old: asyncpg.Connection, empty_dsn: str
) -> None:
    await old.execute(
        "CREATE EXTENSION vector; DROP ROLE IF EXISTS luma_reader; CREATE ROLE luma_reader LOGIN;"
    )
    database = Database(empty_dsn.replace("//postgres@", "//luma_reader@"), pool_size=1)
    with pytest.raises(SetupError, match="This database user may not change the schema") as caught:
        await migrate(database)
    assert caught.value.code == "migration_refused"
    await database.close()

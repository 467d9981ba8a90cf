"""What a hosted REST layer over the same schema may see: an end user's own rows, and no more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.rows import MORE_ROWS
from tests.support.running import ingest, working

from luma_memory.postgres.database import Database
from luma_memory.postgres.migrator import migrate
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.sample_blocks import new_block

pytestmark = every_postgres

OWN_TABLES = [
    "memory_users",
    "memory_blocks",
    "memory_block_revisions",
    "memory_relations",
    "memory_summaries",
]
CLOSED_TABLES = [
    "memory_migrations",
    "memory_passages",
    "memory_jobs",
    "memory_workers",
    "memory_rate_limits",
    "memory_usage",
    "memory_api_keys",
    "memory_cache_hours",
    "memory_idempotency",
    "memory_erasures",
    "memory_secrets",
    "memory_circuits",
    "memory_embedding_models",
    "memory_scope_models",
    "memory_next_passages",
    "memory_changes",
    "memory_job_pauses",
    "memory_webhooks",
    "memory_event_streams",
    "memory_events",
    "memory_webhook_deliveries",
    "memory_partitions",
    "memory_partition_moves",
    "memory_partition_users",
    "memory_history",
]
# As hosted platforms prepare a database: new tables are open to all roles unless a policy forbids
# it.
# The roles themselves exist on every test server.
HOSTED = """
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
"""
# And as those that grant nothing by default.
BARE = """
REVOKE ALL ON SCHEMA public FROM PUBLIC, anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC;
"""
TRIGGER_FUNCTION = "suppress_redundant_updates_trigger"


@pytest.fixture
async def hosted(empty_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A migrated database on a hosted platform, with rows in every table."""
    async with _prepared(empty_dsn, HOSTED) as connection:
        yield connection


@pytest.fixture
async def bare(empty_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """The same on a platform that grants nothing by default."""
    async with _prepared(empty_dsn, BARE) as connection:
        yield connection


@asynccontextmanager
async def _prepared(empty_dsn: str, platform: str) -> AsyncIterator[asyncpg.Connection]:
    connection: asyncpg.Connection = await asyncpg.connect(empty_dsn)
    await connection.execute(platform)
    database = Database(empty_dsn, pool_size=3)
    await migrate(database)
    await database.renew()
    await ingest(
        database,
        new_block(user_id="caroline"),
        new_block(user_id="melanie"),
        new_block(user_id="caroline", project_id="other"),
    )
    async with working(database) as worker:
        await worker.events.wait_for(JobCompleted, count=3)
    await database.close()
    await connection.execute(MORE_ROWS)
    await connection.execute(
        "INSERT INTO memory_partition_users SELECT project_id, user_id FROM memory_users"
    )
    yield connection
    await connection.close()


@asynccontextmanager
async def _as(
    connection: asyncpg.Connection, role: str, claims: object
) -> AsyncIterator[asyncpg.Connection]:
    """A request as the REST layer makes it; undone afterwards."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(f"SET LOCAL ROLE {role}")
    if claims is not None:
        value = claims if isinstance(claims, str) else json.dumps(claims)
        await connection.execute("SELECT set_config('request.jwt.claims', $1, true)", value)
    try:
        yield connection
    finally:
        await transaction.rollback()


async def _owners(connection: asyncpg.Connection, table: str) -> list[tuple[str, str]]:
    rows = await connection.fetch(f"SELECT project_id, user_id FROM {table}")
    return [(row["project_id"], row["user_id"]) for row in rows]


async def _count(connection: asyncpg.Connection, table: str) -> int:
    count: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
    return count


async def test_every_table_has_rows_and_row_security(hosted: asyncpg.Connection) -> None:
    for table in OWN_TABLES + CLOSED_TABLES:
        assert await _count(hosted, table) > 0, table
    ours = await hosted.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relrowsecurity"
        " AND relnamespace = 'public'::regnamespace"
    )
    # Also: no table of ours is missing from the lists of this file.
    assert sorted(row["relname"] for row in ours) == sorted(OWN_TABLES + CLOSED_TABLES)
    all_tables = await hosted.fetchval(
        "SELECT count(*) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    assert all_tables == len(ours)


@pytest.mark.parametrize("user_id", ["caroline", "melanie"])
async def test_an_end_user_sees_their_own_rows_of_the_default_project(
    user_id: str, hosted: asyncpg.Connection
) -> None:
    async with _as(hosted, "authenticated", {"sub": user_id, "role": "authenticated"}) as request:
        for table in OWN_TABLES:
            assert await _owners(request, table) == [("default", user_id)], table
        for table in CLOSED_TABLES:
            assert await _count(request, table) == 0, table


async def test_an_end_user_sees_their_own_items(hosted: asyncpg.Connection) -> None:
    await hosted.execute(
        "INSERT INTO memory_blocks (id, project_id, user_id, content, namespace, key, value,"
        " name_id, position) SELECT gen_random_uuid(), project_id, user_id, '', '{files}',"
        " project_id || '/' || user_id, '1', gen_random_uuid(), 1 FROM memory_users"
    )
    async with _as(hosted, "authenticated", {"sub": "caroline"}) as request:
        rows = await request.fetch("SELECT key FROM memory_blocks WHERE key IS NOT NULL")
        assert [row["key"] for row in rows] == ["default/caroline"]
    async with _as(hosted, "anon", None) as request:
        assert not await request.fetch("SELECT key FROM memory_blocks WHERE key IS NOT NULL")


@pytest.mark.parametrize("role", ["anon", "authenticated"])
@pytest.mark.parametrize(
    "claims", [None, "", {}, {"role": "anon"}, {"sub": None}, {"sub": ""}, {"sub": "nobody"}]
)
async def test_without_a_subject_there_is_nothing_to_see(
    role: str, claims: object, hosted: asyncpg.Connection
) -> None:
    async with _as(hosted, role, claims) as request:
        for table in OWN_TABLES + CLOSED_TABLES:
            assert await _count(request, table) == 0, table


async def test_an_end_user_s_rows_are_found_by_the_key(hosted: asyncpg.Connection) -> None:
    """The policy's condition is one for the index: the token is read once, not for each row."""
    claims = {"sub": "caroline", "role": "authenticated"}
    async with _as(hosted, "authenticated", claims) as request:
        await request.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        # A table of two users has other indexes that cost the same.
        for table in set(OWN_TABLES) - {"memory_users"}:
            lines = await request.fetch(f"EXPLAIN SELECT * FROM {table}")
            plan = "\n".join(line[0] for line in lines)
            assert "SubPlan" not in plan
            assert "InitPlan" not in plan
            conditions = [line[0] for line in lines if "Index Cond" in line[0]]
            assert any("user_id = " in condition for condition in conditions), plan


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_no_role_writes_anywhere(role: str, hosted: asyncpg.Connection) -> None:
    for table in OWN_TABLES + CLOSED_TABLES:
        column = await hosted.fetchval(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum = 1", table
        )
        statements = [
            f"DELETE FROM {table}",
            f"UPDATE {table} SET {column} = {column}",
            f"INSERT INTO {table} DEFAULT VALUES",
            f"TRUNCATE {table}",
            f"CREATE TRIGGER t BEFORE UPDATE ON {table} EXECUTE FUNCTION {TRIGGER_FUNCTION}()",
        ]
        await _assert_refused(hosted, role, statements)
    await _assert_refused(
        hosted,
        role,
        ["INSERT INTO memory_blocks (user_id, content) VALUES ('caroline', 'x')"],
    )


async def test_the_functions_are_the_services_alone(hosted: asyncpg.Connection) -> None:
    rows = await hosted.fetch(
        "SELECT p.oid::regprocedure::text AS name, r.role,"
        " has_function_privilege(r.role, p.oid, 'execute') AS may FROM pg_proc AS p,"
        " (VALUES ('anon'), ('authenticated'), ('service_role')) AS r (role)"
        " WHERE p.pronamespace = 'public'::regnamespace AND NOT EXISTS"
        " (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')"
    )
    allowed = {(row["name"], row["role"]) for row in rows if row["may"]}
    functions = {row["name"] for row in rows}
    assert len(functions) > 10
    assert {name for name, role in allowed if role != "service_role"} == {"memory_token_subject()"}
    assert {name for name, role in allowed if role == "service_role"} == functions
    await _assert_refused(
        hosted,
        "authenticated",
        [
            "SELECT claim_memory_jobs('w', 1, '1 min', ARRAY['enrich_and_embed'])",
            "SELECT get_memory_job_stats()",
        ],
    )


async def _assert_refused(
    connection: asyncpg.Connection, role: str, statements: Sequence[str]
) -> None:
    for statement in statements:
        async with _as(connection, role, {"sub": "caroline"}) as request:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await request.execute(statement)


async def test_without_default_grants_users_still_read_their_own_rows(
    bare: asyncpg.Connection,
) -> None:
    async with _as(bare, "authenticated", {"sub": "caroline"}) as request:
        for table in OWN_TABLES:
            assert await _owners(request, table) == [("default", "caroline")], table
    for table in CLOSED_TABLES:
        await _assert_refused(bare, "authenticated", [f"SELECT FROM {table}"])
    for table in OWN_TABLES + CLOSED_TABLES:
        await _assert_refused(bare, "anon", [f"SELECT FROM public.{table}"])
        await _assert_refused(bare, "authenticated", [f"DELETE FROM {table}"])


async def test_without_default_grants_the_service_role_still_does_everything(
    bare: asyncpg.Connection,
) -> None:
    async with _as(bare, "service_role", None) as request:
        for table in OWN_TABLES + CLOSED_TABLES:
            assert await _count(request, table) > 0, table
        await request.execute("SELECT * FROM get_memory_job_stats()")
        await request.execute(
            "SELECT enqueue_memory_jobs('{default}', '{caroline}', '{reembed}', '{NULL}', '{NULL}',"
            " '{0}', '{NULL}', '{NULL}')"
        )
        claimed = await request.fetch(
            "SELECT id FROM claim_memory_jobs('w', 9, '1 min', ARRAY['weekly_summary'])"
        )
        assert claimed == []
        await request.execute(
            "SELECT * FROM erase_memory_user('default', 'caroline', gen_random_uuid(), NULL, now(),"
            " 0, 0, 0)"
        )
        for table in set(OWN_TABLES + CLOSED_TABLES) - {"memory_migrations"}:
            await request.execute(f"DELETE FROM {table}")


async def test_the_rights_of_the_users_own_functions_stay(
    hosted: asyncpg.Connection, empty_dsn: str
) -> None:
    await hosted.execute(
        "CREATE FUNCTION match_memory_blocks() RETURNS integer LANGUAGE sql AS 'SELECT 1'"
    )
    database = Database(empty_dsn, pool_size=1)
    await migrate(database)
    await database.close()
    async with _as(hosted, "authenticated", None) as request:
        assert await request.fetchval("SELECT match_memory_blocks()") == 1

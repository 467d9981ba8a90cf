"""The statements that run all day keep their indexes, also under a generic plan."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import md5, sha256
from importlib.resources import files
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.servers import Servers

from luma_memory.domain.filters import parse_filter
from luma_memory.pipeline.text.terms import TermVector
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.store.blocks import BLOCK_COLUMNS
from luma_memory.store.filters import FilterCondition
from luma_memory.store.search import NARROWED

BLOCKS = SqlFile("luma_memory.store.blocks")
SEARCH = SqlFile("luma_memory.store.search")
ITEMS = SqlFile("luma_memory.store.items")
SELECTIONS = SqlFile("luma_memory.store.block_selections")
WINDOWS = SqlFile("luma_memory.store.windows")

pytestmark = every_postgres

MANY_JOBS = """
INSERT INTO memory_jobs (user_id, job_type, status, fair_at, run_at, priority, locked_until)
SELECT 'user ' || n % 1000, 'enrich_and_embed',
       CASE WHEN n <= 100000 THEN 'pending' ELSE 'completed' END,
       CASE WHEN n <= 50000 THEN now() + n * interval '1 ms' ELSE 'infinity' END,
       now() + interval '1 hour', 0, NULL
FROM generate_series(1, 200000) AS n;
INSERT INTO memory_jobs (user_id, job_type, status, locked_by, locked_until)
SELECT 'user', 'enrich_and_embed', 'processing', 'w' || n % 5, now() + interval '1 min'
FROM generate_series(1, 50) AS n;
INSERT INTO memory_jobs (user_id, job_type, status)
SELECT 'user', 'enrich_and_embed', 'failed' FROM generate_series(1, 50) AS n;
"""
# Of a size at which reading all of it once costs about as much as a few dozen look-ups.
SOME_BLOCKS = """
INSERT INTO memory_jobs (id, user_id, job_type, status, attempts, locked_by, locked_until, block_id)
SELECT n, 'user ' || n % 20, 'enrich_and_embed', 'processing', 1, 'w1', now() + interval '1 min',
       gen_random_uuid()
FROM generate_series(1, 3000) AS n;
INSERT INTO memory_blocks (id, user_id, content, content_hash, occurred_at, job_id)
SELECT block_id, user_id, id::text, sha256(id::text::bytea), now(), id FROM memory_jobs;
INSERT INTO memory_passages (user_id, block_id, ordinal, start_at, stop_at, occurred_at, lexemes)
SELECT user_id, block_id, 0, 0, 1, now(), '{1:1}/1048576' FROM memory_jobs;
ANALYZE;
"""
INGEST_AGAIN = """SELECT ingest_memory_blocks(ARRAY[gen_random_uuid(), gen_random_uuid()],
    ARRAY['default', 'default'], ARRAY['user 7', 'user 8'], ARRAY['7', '8'],
    array_fill(NULL::text, ARRAY[2]), array_fill(NULL::text, ARRAY[2]),
    array_fill(NULL::text, ARRAY[2]), array_fill(NULL::text, ARRAY[2]),
    array_fill(NULL::text, ARRAY[2]), array_fill('{}'::jsonb, ARRAY[2]),
    array_fill(now(), ARRAY[2]), array_fill(NULL::timestamptz, ARRAY[2]),
    ARRAY['k', 'l'], ARRAY[sha256('7'), sha256('8')], array_fill(NULL::bytea, ARRAY[2]),
    '{}', '{}', '{}', '{}', '{}', 3, '1 ms',
    p_repeats_since => array_fill(now() - interval '1 day', ARRAY[2]))"""
# Of one user, in a table without statistics: the planner knows only its size.
UNSEEN_BLOCKS = """
ALTER TABLE memory_blocks SET (autovacuum_enabled = false);
INSERT INTO memory_users (user_id) VALUES ('user 7');
INSERT INTO memory_blocks (id, user_id, content, content_hash, occurred_at, job_id)
SELECT gen_random_uuid(), 'user 7', repeat(n::text, 40), sha256(n::text::bytea), now(), n
FROM generate_series(1, 15000) AS n;
"""
# Of one user as well.
UNSEEN_ITEMS = """
ALTER TABLE memory_blocks SET (autovacuum_enabled = false);
INSERT INTO memory_users (user_id) VALUES ('user 7');
INSERT INTO memory_blocks (id, user_id, content, namespace, key, value, name_id, position,
    ttl_seconds, expires_at)
SELECT gen_random_uuid(), 'user 7', '', '{notes}', n::text, to_jsonb(n), md5(n::text)::uuid, n,
    60, now() + interval '1 min'
FROM generate_series(1, 15000) AS n;
"""
# Replaces one, deletes one, creates one, and writes one text.
WRITE_ITEMS = """SELECT outcome FROM write_memory_items(
    (SELECT jsonb_agg(jsonb_build_object('op', 'put', 'project_id', 'default', 'user_id', 'user 7',
            'id', gen_random_uuid(), 'name_id', md5(key)::uuid, 'namespace', '["notes"]'::jsonb,
            'key', key, 'value', 0, 'content', content, 'changed_by', 'test') || more ORDER BY key)
     FROM (VALUES ('1', '', '{}'::jsonb), ('2', '', '{"op": "delete"}'), ('a', '', '{}'),
                  ('b', 'text', '{}')) AS v (key, content, more)),
    '{4}', '{0}', '{0}', '{4}', ARRAY['{1:1}/1048576']::sparsevec[], 3, '1 ms')"""
ROWS_READ = """
SELECT sum(seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables
WHERE relname IN ('memory_jobs', 'memory_blocks', 'memory_passages')
"""
MANY_PASSAGES = """
INSERT INTO memory_passages (user_id, block_id, ordinal, start_at, stop_at, occurred_at, lexemes)
SELECT 'user ' || n % 200, gen_random_uuid(), 0, 0, 1, now(), '{1:1}/1048576'
FROM generate_series(1, 40000) AS n;
INSERT INTO memory_blocks (id, user_id, content)
SELECT block_id, user_id, 'x' FROM memory_passages;
"""
CLAIM_PARAMETERS = {
    "p_limit": "integer",
    "p_job_types": "text[]",
    "p_worker": "text",
    "p_lease": "interval",
    "v_now": "timestamptz",
}


@pytest.fixture(scope="module")
def many(servers: Servers) -> Iterator[dict[int, str]]:
    """Databases full enough for the planner to care, one a server; made by their first test."""
    made: dict[int, str] = {}
    yield made
    made.clear()


@pytest.fixture
async def full(
    many: dict[int, str], servers: Servers, major: int
) -> AsyncIterator[asyncpg.Connection]:
    template = await servers.template(major)
    if major not in many:
        admin = await asyncpg.connect(servers.address(major))
        await admin.execute(f"CREATE DATABASE full_tables TEMPLATE {template}")
        await admin.close()
        many[major] = servers.address_of(major, "full_tables")
        filler = await asyncpg.connect(many[major])
        for script in (MANY_JOBS, MANY_PASSAGES):
            await filler.execute(script)
        await filler.execute("VACUUM ANALYZE")
        await filler.close()
    connection: asyncpg.Connection = await asyncpg.connect(many[major])
    yield connection
    await connection.close()


def _claim_statement(which: str) -> str:
    """An UPDATE inside claim_memory_jobs, with its variables numbered."""
    definitions = files("luma_memory.migrations") / "definitions" / "queue.sql"
    found = re.findall(
        r"RETURN QUERY\s+(UPDATE memory_jobs\s+SET status = 'processing'[^;]*?RETURNING \*);",
        definitions.read_text(encoding="utf-8"),
    )
    _, foreground, low_priority = found
    statement: str = {"foreground": foreground, "background": low_priority}[which]
    # An idle worker's.
    statement = statement.replace("v_running_low", "0").replace("v_running", "0")
    statement = statement.replace("v_low_limit", "p_limit")
    for number, (name, type_name) in enumerate(CLAIM_PARAMETERS.items(), start=1):
        statement = re.sub(rf"\b{name}\b", f"(${number}::{type_name})", statement)
    return statement


async def _plan(connection: asyncpg.Connection, statement: str, arguments: str, mode: str) -> Any:
    await connection.execute(f"SET plan_cache_mode = {mode}; DEALLOCATE ALL")
    await connection.execute(f"PREPARE looked_at AS {statement}")
    (row,) = await connection.fetch(f"EXPLAIN (FORMAT json) EXECUTE looked_at ({arguments})")
    return json.loads(row[0])[0]["Plan"]


def _nodes(plan: Any) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _scans(plan: Any) -> set[tuple[str, str | None]]:
    return {
        (node["Node Type"], node.get("Index Name"))
        for node in _nodes(plan)
        if "Scan" in node["Node Type"] and node["Node Type"] != "Function Scan"
    }


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("limit", [1, 5, 100])
@pytest.mark.parametrize("which", ["foreground", "background"])
async def test_a_claim_walks_its_index(
    which: str, mode: str, limit: int, full: asyncpg.Connection
) -> None:
    arguments = f"{limit}, ARRAY['enrich_and_embed'], 'w1', interval '1 min', now()"
    plan = await _plan(full, _claim_statement(which), arguments, mode)
    assert ("Index Scan", "memory_jobs_claim") in _scans(plan)
    assert _scans(plan) <= {
        ("Index Scan", "memory_jobs_claim"),
        ("Index Scan", "memory_jobs_pkey"),
        ("Bitmap Heap Scan", None),
        ("Bitmap Index Scan", "memory_jobs_pkey"),
    }
    assert "Sort" not in {node["Node Type"] for node in _nodes(plan)}


async def test_the_claim_function_reads_few_rows(full: asyncpg.Connection) -> None:
    async with full.transaction():
        await full.execute("SET LOCAL enable_seqscan = on")
        scanned = "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'memory_jobs'"
        before = await full.fetchval(scanned)
        rows = await full.fetch(
            "SELECT id FROM claim_memory_jobs('w1', 5, '1 min', ARRAY['enrich_and_embed'])"
        )
        assert len(rows) == 5
        assert await full.fetchval(scanned) == before  # also not in rescue or activation


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM get_memory_job_stats()",
        "SELECT complete_memory_jobs(ARRAY[1, 2]::bigint[], ARRAY[1, 1], 'w1')",
        "SELECT release_memory_jobs(ARRAY[1, 2]::bigint[], ARRAY[1, 1], 'w1')",
        """SELECT * FROM fail_memory_jobs(ARRAY[1]::bigint[], ARRAY[1], 'w1', ARRAY['provider'],
            ARRAY['away'], ARRAY[interval '1 s'], ARRAY[true])""",
    ],
)
async def test_the_other_functions_never_read_the_whole_table(
    statement: str, full: asyncpg.Connection
) -> None:
    async with full.transaction():
        await full.fetch(statement)
        read = await full.fetchval(
            "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'memory_jobs'"
        )
    assert read == 0


@pytest.fixture
async def some(servers: Servers, major: int) -> AsyncIterator[asyncpg.Connection]:
    template = await servers.template(major)
    admin = await asyncpg.connect(servers.address(major))
    await admin.execute(f"CREATE DATABASE some_blocks TEMPLATE {template}")
    connection: asyncpg.Connection = await asyncpg.connect(servers.address_of(major, "some_blocks"))
    await connection.execute(SOME_BLOCKS)
    yield connection
    await connection.close()
    await admin.execute("DROP DATABASE some_blocks")
    await admin.close()


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT complete_memory_jobs(ARRAY[7, 8]::bigint[], ARRAY[1, 1], 'w1')",
        BLOCKS["read_to_enrich"]
        .replace("$1::text[]", "ARRAY['default', 'default']")
        .replace("$2::text[]", "ARRAY['user 7', 'user 8']")
        .replace("$3::uuid[]", "ARRAY(SELECT block_id FROM memory_jobs WHERE id IN (7, 8))"),
        """SELECT complete_memory_enrichments('w1', ARRAY[7, 8]::bigint[], ARRAY[1, 1], ARRAY[1, 1],
            ARRAY['t', 't'], ARRAY['s', 's'], ARRAY['{"tags": []}'::jsonb, '{"tags": []}'],
            ARRAY[0.5, 0.5]::real[], ARRAY['en', 'en'], ARRAY['local', 'local'],
            ARRAY[1, 2], ARRAY[0, 0], ARRAY[0, 0], ARRAY[1, 1],
            ARRAY['{1:1}/1048576', '{1:1}/1048576']::sparsevec[],
            ARRAY[NULL, NULL]::halfvec[], NULL)""",
        """SELECT complete_memory_enrichments('w1', ARRAY[7, 8]::bigint[], ARRAY[1, 1], ARRAY[1, 1],
            ARRAY['t', 't'], ARRAY['s', 's'], ARRAY['{"tags": []}'::jsonb, '{"tags": []}'],
            ARRAY[0.5, 0.5]::real[], ARRAY['en', 'en'], ARRAY['local', 'local'],
            ARRAY[1, 2], ARRAY[0, 0], ARRAY[0, 0], ARRAY[1, 1],
            ARRAY[NULL, NULL]::sparsevec[], ARRAY['[1]', '[1]']::halfvec[], 'm',
            ARRAY[true, true])""",
        INGEST_AGAIN,
    ],
    ids=["complete", "read", "write back", "write vectors back", "ingest again"],
)
async def test_two_blocks_of_some_thousands_cost_two_look_ups_a_table(
    statement: str, mode: str, some: asyncpg.Connection
) -> None:
    """Joined to the arrays, tables of this size were read whole by every statement of a worker."""
    await some.execute(f"SET plan_cache_mode = {mode}")
    async with some.transaction():
        before = await some.fetchval(ROWS_READ)
        rows = await some.fetch(statement)
        assert len(rows) == 2
        assert await some.fetchval(ROWS_READ) - before <= 20


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_a_repeated_block_is_found_before_the_first_statistics(
    mode: str, servers: Servers, major: int
) -> None:
    """The primary key begins with the scope, too: all 15,000 blocks of the user were read."""
    async with (
        _without_statistics(servers, major, UNSEEN_BLOCKS, mode) as unseen,
        unseen.transaction(),
    ):
        before = await unseen.fetchval(ROWS_READ)
        assert len(await unseen.fetch(INGEST_AGAIN)) == 2
        assert await unseen.fetchval(ROWS_READ) - before <= 20
        repeated = "SELECT content_hash FROM memory_blocks WHERE repeat_count = 1"
        assert await unseen.fetchval(repeated) == sha256(b"7").digest()


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_an_item_is_found_by_its_name_before_the_first_statistics(
    mode: str, servers: Servers, major: int
) -> None:
    """Other indexes begin with the scope, too: each write read all items of the user, twice."""
    async with _without_statistics(servers, major, UNSEEN_ITEMS, mode) as unseen:
        async with unseen.transaction():
            before = await unseen.fetchval(ROWS_READ)
            outcomes = [row["outcome"] for row in await unseen.fetch(WRITE_ITEMS)]
            assert outcomes == ["replaced", "deleted", "created", "created"]
            assert await unseen.fetchval(ROWS_READ) - before <= 20
        async with unseen.transaction():
            before = await unseen.fetchval(ROWS_READ)
            name_ids = [UUID(md5(key.encode()).hexdigest()) for key in ("2", "3", "4")]
            rows = await unseen.fetch(ITEMS["read_items"], "default", "user 7", name_ids)
            assert {row["key"] for row in rows} == {"3", "4"}
            (row,) = await unseen.fetch(ITEMS["read_item"], "default", "user 7", name_ids[2])
            assert row["key"] == "4"
            ids = [row["id"] for row in rows]
            for statement in ("read_items_by_id", "refresh_items"):
                rows = await unseen.fetch(ITEMS[statement], "default", "user 7", ids)
                assert {row["id"] for row in rows} == set(ids)
            assert await unseen.fetchval(ROWS_READ) - before <= 20


@asynccontextmanager
async def _without_statistics(
    servers: Servers, major: int, rows: str, mode: str
) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database of its own, whose planner knows the tables' sizes only."""
    template = await servers.template(major)
    admin = await asyncpg.connect(servers.address(major))
    await admin.execute(f"CREATE DATABASE without_statistics TEMPLATE {template}")
    unseen = await asyncpg.connect(servers.address_of(major, "without_statistics"))
    try:
        await unseen.execute(rows)
        statistics = "SELECT reltuples FROM pg_class WHERE relname = 'memory_blocks'"
        assert await unseen.fetchval(statistics) == -1
        await unseen.execute(f"SET plan_cache_mode = {mode}")
        yield unseen
    finally:
        await unseen.close()
        await admin.execute("DROP DATABASE without_statistics")
        await admin.close()


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_a_search_reads_its_own_scope_only(mode: str, full: asyncpg.Connection) -> None:
    vector = TermVector([1], [1.0]).to_text()
    arguments = (
        f"'default', 'user 7', NULL, NULL, '{vector}', ARRAY['Ada'], NULL, false,"
        f" ARRAY['{vector}']::sparsevec[]"
    )
    typed = SEARCH["scan_scope"].replace("/*term_columns*/", ", count(($9::sparsevec[])[1])")
    plan = await _plan(full, typed, arguments, mode)
    assert {index for _, index in _scans(plan) if index} <= {
        "memory_passages_pkey",
        "memory_blocks_superseded",
        "memory_blocks_pkey",  # the successors of what was superseded
    }
    assert "Seq Scan" not in {node["Node Type"] for node in _nodes(plan)}


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_a_narrowed_search_reads_its_own_scope_only(
    mode: str, full: asyncpg.Connection
) -> None:
    """Whatever the filter: its condition is looked at in the blocks of the scope, and no others."""
    tree = parse_filter(
        {
            "source": "chat",
            "OR": [{"tags": "a"}, {"metadata.team": {"contains": "b"}}],
            "NOT": {"occurred_at": {"gte": "2024-01-01T00:00:00Z"}},
        }
    )
    condition = FilterCondition(tree, first=10)
    typed = (
        SEARCH["scan_scope"]
        .replace("/*term_columns*/", ", count(($9::sparsevec[])[1])")
        .replace("/*filter*/", NARROWED.format(condition.text))
    )
    vector = TermVector([1], [1.0]).to_text()
    arguments = (
        f"'default', 'user 7', NULL, NULL, '{vector}', ARRAY['Ada'], NULL, false,"
        f" ARRAY['{vector}']::sparsevec[], " + ", ".join("NULL" for _ in condition.values)
    )
    plan = await _plan(full, typed, arguments, mode)
    assert {index for _, index in _scans(plan) if index} <= {
        "memory_passages_pkey",
        "memory_blocks_superseded",
        "memory_blocks_pkey",
        "memory_blocks_session",  # also begins with the scope
    }
    assert "Seq Scan" not in {node["Node Type"] for node in _nodes(plan)}
    for node in _nodes(plan):
        if node.get("Index Name"):
            assert "user_id" in node.get("Index Cond", ""), node


@pytest.mark.parametrize("name", ["session_turns", "list_sessions"])
async def test_a_session_is_read_along_its_index(name: str, full: asyncpg.Connection) -> None:
    arguments = {
        "session_turns": "'default', 'user 7', 's1', now(), gen_random_uuid(), 200, 4, 400",
        "list_sessions": "'default', 'user 7', '', 100",
    }[name]
    plan = await _plan(full, WINDOWS[name], arguments, "force_generic_plan")
    used = {index for _, index in _scans(plan) if index}
    assert "memory_blocks_session" in used
    assert used <= {"memory_blocks_session", "memory_passages_pkey"}
    assert "Seq Scan" not in {node["Node Type"] for node in _nodes(plan)}


@pytest.mark.parametrize("name", ["read_blocks", "read_to_enrich"])
async def test_blocks_are_read_by_the_primary_key(name: str, full: asyncpg.Connection) -> None:
    arguments = {
        "read_blocks": "ARRAY['default'], ARRAY['user 7'], ARRAY[gen_random_uuid()]",
        "read_to_enrich": "ARRAY['default'], ARRAY['user 7'], ARRAY[gen_random_uuid()]",
    }[name]
    plan = await _plan(full, BLOCKS[name], arguments, "force_generic_plan")
    used = {index for _, index in _scans(plan) if index}
    assert used - {"memory_passages_pkey"} == {"memory_blocks_pkey"}
    assert "Seq Scan" not in {node["Node Type"] for node in _nodes(plan)}


@pytest.mark.parametrize("name", ["page_of_user", "page_of_project"])
async def test_a_page_of_blocks_is_read_in_the_order_of_an_index(
    name: str, full: asyncpg.Connection
) -> None:
    scope, index = {
        "page_of_user": ("'default', 'user 7'", "memory_blocks_pkey"),
        "page_of_project": ("'default'", "memory_blocks_id"),
    }[name]
    statement = SELECTIONS[name].replace("/*block_columns*/", BLOCK_COLUMNS)
    arguments = f"{scope}, gen_random_uuid(), 50000, 20"
    plan = await _plan(full, statement, arguments, "force_generic_plan")
    assert {used for _, used in _scans(plan) if used} == {index}
    assert not {"Seq Scan", "Sort"} & {node["Node Type"] for node in _nodes(plan)}


async def test_looking_for_jobs_changes_no_setting_of_its_session(
    full: asyncpg.Connection,
) -> None:
    """The functions switch plans off, and the claim its wait for the disk, for themselves alone."""
    names = ("synchronous_commit", "enable_bitmapscan", "enable_seqscan")
    before = [await full.fetchval(f"SHOW {name}") for name in names]
    assert before == ["on"] * len(names)
    claimed = await full.fetch(
        "SELECT id FROM claim_memory_jobs('settings', 1, '1 min', ARRAY['enrich_and_embed'])"
    )
    assert len(claimed) == 1
    await full.fetch("SELECT release_memory_jobs($1, $2, 'settings')", [claimed[0]["id"]], [1])
    await full.fetch("SELECT * FROM get_memory_job_stats()")
    assert [await full.fetchval(f"SHOW {name}") for name in names] == before

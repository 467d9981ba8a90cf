"""Rows of an import, over all tables: none chooses what other users share."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.support.running import ingest

from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database
from luma_memory.store.archive import PostgresArchive
from luma_memory.testing.sample_blocks import new_block

pytestmark = pytest.mark.parametrize("major", [18, 16])
SCOPE = Scope("default", "mallory")
BIGINT_MAX = 2**63 - 1
# By type: a value that any table takes.
_VALUES = {
    "uuid": "00000000-0000-7000-8000-000000000001",
    "timestamp with time zone": "2024-05-06T07:08:09Z",
    "date": "2024-05-06",
    "integer": 1,
    "smallint": 1,
    "bigint": 1,
    "real": 0.5,
    "double precision": 0.5,
    "numeric(14,8)": 1,
    "boolean": True,
    "jsonb": [],
    "bytea": "\\x00",
    "uuid[]": [],
    "text[]": [],
    "sparsevec": "{1:0.5}/1000000000",
    "halfvec": "[1]",
}
# What a check constraint wants.
_CHECKED = {
    ("blocks", "status"): "active",
    ("blocks", "enrichment"): "local",
    ("blocks", "metadata"): {},
    ("relations", "type"): "supports",
    ("relations", "status"): "accepted",
}


async def _row(connection: asyncpg.Connection, kind: str) -> dict[str, Any]:
    """A row with a value in every column, the highest number in those that the server fills."""
    columns = await connection.fetch(
        "SELECT attname, format_type(atttypid, atttypmod) AS type, attidentity <> '' AS is_identity"
        " FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped"
        " AND attgenerated = '' AND attname NOT IN ('project_id', 'user_id')",
        f"memory_{kind}",
    )
    row: dict[str, Any] = {}
    for name, kind_of_value, is_identity in columns:
        value = _CHECKED.get((kind, name), _VALUES.get(kind_of_value, "x"))
        row[name] = BIGINT_MAX if is_identity or name == "job_id" else value
    return row


async def _sequences(connection: asyncpg.Connection) -> dict[str, int]:
    rows = await connection.fetch(
        "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = current_schema()"
    )
    return {row["sequencename"]: row["last_value"] or 0 for row in rows}


async def test_no_row_moves_a_sequence_far_or_takes_its_values(
    database: Database, connection: asyncpg.Connection
) -> None:
    archive = PostgresArchive(database)
    kinds = [kind for kind in await archive.kinds() if kind != "users"]
    assert {"blocks", "block_revisions", "passages", "relations", "summaries", "usage"} < {*kinds}
    before = await _sequences(connection)
    for kind in kinds:
        row = await _row(connection, kind)
        assert await archive.store(SCOPE, kind, [row]) == 1, kind
        # The same import again finds its rows.
        assert await archive.store(SCOPE, kind, [row]) == 0, kind
    after = await _sequences(connection)
    assert {name: after[name] - before[name] < 10 for name in after} == dict.fromkeys(after, True)
    for kind in kinds:
        kept = await connection.fetchval(
            f"SELECT count(*) FROM memory_{kind} AS t WHERE position($1 IN t::text) > 0",
            str(BIGINT_MAX),
        )
        assert kept == 0, kind


async def test_no_table_of_the_archive_is_unique_across_users(
    database: Database, connection: asyncpg.Connection
) -> None:
    """A unique value that spans users could be taken away from another one."""
    for kind in await PostgresArchive(database).kinds():
        indexes = await connection.fetch(
            "SELECT indexrelid::regclass::text AS name, ARRAY(SELECT attname::text"
            " FROM pg_attribute WHERE attrelid = indrelid AND attnum = ANY (indkey)) AS columns"
            " FROM pg_index WHERE indrelid = $1::regclass AND indisunique",
            f"memory_{kind}",
        )
        for index in indexes:
            assert {"project_id", "user_id"} <= {*index["columns"]}, index["name"]


async def test_a_block_keeps_the_id_of_its_own_job_and_no_other(
    database: Database, connection: asyncpg.Connection
) -> None:
    (foreign,) = await ingest(database, new_block())
    archive = PostgresArchive(database)
    block = {"content": "Tea.", "status": "active", "created_at": "2024-05-06T07:08:09Z"}
    ids = {"foreign": foreign.job_id, "future": foreign.job_id + 1_000, "none": None}
    for content, job_id in ids.items():
        row = {**block, "id": str(uuid4()), "content": content, "job_id": job_id}
        await archive.store(SCOPE, "blocks", [row])
    rows = await connection.fetch("SELECT job_id FROM memory_blocks WHERE user_id = 'mallory'")
    assert len({row["job_id"] for row in rows} - {None, *ids.values()}) == 3

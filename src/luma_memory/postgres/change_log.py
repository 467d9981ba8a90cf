"""A log of the keys of changed rows, so that a copy of a schema can follow it while it is used.

Each table gets triggers that write the primary keys of inserted, changed and deleted rows to a
table beside it. In a round, the log and the tables are read in one snapshot: afterwards the copy is
what the source was then. An interrupted round is repeated: the log keeps its rows until the copy
has theirs.
Connections are those of `Database.dedicated`. Functions raise the driver's errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg

from luma_memory.postgres.table_copies import LONG_SECONDS, Amount, Table, digest, stream

_TRIGGERS = (
    ("insert", "INSERT", "NEW TABLE AS new_rows"),
    ("update", "UPDATE", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
    ("delete", "DELETE", "OLD TABLE AS old_rows"),
)
# A table for the keys of changed rows; marks: log, keys, table.
LOG_TABLE = """
CREATE TABLE IF NOT EXISTS {log} AS SELECT {keys} FROM {table} WITH NO DATA;
ALTER TABLE {log} ENABLE ROW LEVEL SECURITY;
-- Hosted platforms offer new tables to all callers: an emptied log would lose changes.
DO $grants$
DECLARE
    v_role text;
BEGIN
    FOR v_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON {log} FROM %I', v_role);
    END LOOP;
END $grants$;
"""
# With the rights of the owner: the service may use a role that does not own the tables.
_LOG = """
CREATE OR REPLACE FUNCTION {log}() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO {log} SELECT {keys} FROM new_rows;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO {log} SELECT {keys} FROM old_rows;
    END IF;
    RETURN NULL;
END $body$;
"""


class CopyDiffersError(Exception):
    """The copy of a table is not what it should be; its name is the text."""


async def start_log(source: asyncpg.Connection, schema: str, tables: Sequence[Table]) -> None:
    """From now on, changes are logged. Idempotent. Gives way to other statements.

    Raises LockNotAvailableError if a table stays in use; then call it again.
    """
    for table in tables:
        async with source.transaction():
            await source.execute("SET LOCAL lock_timeout = '500ms'")
            await source.execute(
                (LOG_TABLE + _LOG).format(
                    log=table.log_in(schema), table=table.in_schema(schema), keys=table.keys()
                )
            )
            for name, event, rows in _TRIGGERS:
                await source.execute(
                    f"CREATE OR REPLACE TRIGGER moving_{name} AFTER {event}"
                    f" ON {table.in_schema(schema)} REFERENCING {rows}"
                    f" FOR EACH STATEMENT EXECUTE FUNCTION {table.log_in(schema)}()"
                )


async def end_log(source: asyncpg.Connection, schema: str, tables: Sequence[Table]) -> None:
    """Remove the log. Idempotent. Raises LockNotAvailableError if a table stays in use."""
    for table in tables:
        async with source.transaction():
            await source.execute("SET LOCAL lock_timeout = '500ms'")
            await source.execute(
                f"DROP FUNCTION IF EXISTS {table.log_in(schema)}() CASCADE;"
                f" DROP TABLE IF EXISTS {table.log_in(schema)}"
            )


async def apply_changes(
    source: asyncpg.Connection,
    source_schema: str,
    target: asyncpg.Connection,
    target_schema: str,
    tables: Sequence[Table],
) -> Amount:
    """Bring the copy to the source's state. In a transaction of each; commit the target's first.

    The source's has one snapshot (REPEATABLE READ), or locks that hold off all changes. Raises
    CopyDiffersError if the copied rows do not arrive as they were.
    """
    amount = Amount()
    for table in await _changed(source, source_schema, tables):
        keys = f"moving_keys_{table.log}"
        copied, log = table.in_schema(target_schema), table.log_in(source_schema)
        await target.execute(
            f"CREATE TEMP TABLE {keys} ON COMMIT DROP AS"  # noqa: S608 - quoted names
            f" SELECT {table.keys()} FROM {copied} WITH NO DATA"
        )
        chosen = f"SELECT DISTINCT {table.keys()} FROM {log}"  # noqa: S608 - quoted names
        await stream(source, chosen, target, table=keys, columns=table.key)
        await target.execute(
            f"DELETE FROM {copied} AS t USING {keys} AS k WHERE {table.same_key('t', 'k')}",  # noqa: S608
            timeout=LONG_SECONDS,
        )
        rows = (
            f"SELECT {table.columns_of('t.')} FROM ({chosen}) AS k"  # noqa: S608
            f" JOIN {table.in_schema(source_schema)} AS t ON {table.same_key('t', 'k')}"
        )
        amount = amount.plus(
            await stream(
                source,
                rows,
                target,
                table=table.name,
                schema=target_schema,
                columns=table.columns,
            )
        )
        inside = f"({table.keys('t.')}) IN (SELECT {table.keys()} FROM {{}})"  # noqa: S608
        here, there = await asyncio.gather(
            digest(source, source_schema, table, condition=inside.format(log)),
            digest(target, target_schema, table, condition=inside.format(keys)),
        )
        if here != there:
            raise CopyDiffersError(table.name)
        await source.execute(f"DELETE FROM {log}", timeout=LONG_SECONDS)  # noqa: S608
    return amount


async def compare(
    source: asyncpg.Connection,
    source_schema: str,
    target: asyncpg.Connection,
    target_schema: str,
    tables: Sequence[Table],
) -> int:
    """Compare all rows that have not changed since the last round; their number.

    Inside a transaction of each; the source's has one snapshot. Raises CopyDiffersError.
    """
    changed = {table.name for table in await _changed(source, source_schema, tables)}
    total = 0
    for table in tables:
        outside = ["true", "true"]
        if table.name in changed:
            keys = f"moving_kept_{table.log}"
            await target.execute(
                f"CREATE TEMP TABLE {keys} ON COMMIT DROP AS SELECT {table.keys()}"  # noqa: S608
                f" FROM {table.in_schema(target_schema)} WITH NO DATA"
            )
            chosen = f"SELECT DISTINCT {table.keys()} FROM {table.log_in(source_schema)}"  # noqa: S608
            await stream(source, chosen, target, table=keys, columns=table.key)
            outside = [
                f"NOT EXISTS (SELECT FROM {log} AS k WHERE {table.same_key('t', 'k')})"
                for log in (table.log_in(source_schema), keys)
            ]
        here, there = await asyncio.gather(
            digest(source, source_schema, table, condition=outside[0]),
            digest(target, target_schema, table, condition=outside[1]),
        )
        if here != there:
            raise CopyDiffersError(table.name)
        total += here[0]
    return total


async def _changed(
    source: asyncpg.Connection, schema: str, tables: Sequence[Table]
) -> Sequence[Table]:
    texts = [
        f"SELECT {n} AS n WHERE EXISTS (SELECT FROM {table.log_in(schema)})"  # noqa: S608
        for n, table in enumerate(tables)
    ]
    rows = await source.fetch(" UNION ALL ".join(texts))
    return [tables[row["n"]] for row in rows]

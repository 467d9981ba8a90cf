"""Make the former place of tables unusable for sessions that do not know yet that they moved.

Names lead to the partition's schema, then to that of pgvector, which is often `public` and holds
another installation: without its schema, a statement would find the tables of that one. So the
schema is replaced by views that fail, whatever they are used for, as if there was no such table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from luma_memory.postgres.database import quoted_name
from luma_memory.postgres.table_copies import Table

_MOVED: Final = """
    RAISE EXCEPTION 'The tables of the schema have moved' USING ERRCODE = 'undefined_table';
"""
# Stable, so that a scan calls it even if the table is empty. Writes go through the view to the
# table, whose trigger refuses them.
_FUNCTIONS: Final = """
CREATE FUNCTION {old}.moving_refusal() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
{moved}
END $body$;
CREATE FUNCTION {now}.moving_moved() RETURNS boolean LANGUAGE plpgsql STABLE AS $body$
BEGIN
{moved}
END $body$;
GRANT USAGE ON SCHEMA {now} TO PUBLIC;
"""
_TABLE: Final = """
CREATE TRIGGER moving_refusal BEFORE INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {old}.moving_refusal();
CREATE VIEW {view} WITH (security_invoker) AS SELECT * FROM {table} WHERE {now}.moving_moved();
GRANT ALL ON {view} TO PUBLIC;
"""


async def leave_place(
    connection: asyncpg.Connection, schema: str, kept_as: str, tables: Sequence[Table]
) -> None:
    """Rename the schema, in a transaction. Its tables can be read there, but not written."""
    now, old = quoted_name(schema), quoted_name(kept_as)
    statements = [f"ALTER SCHEMA {now} RENAME TO {old}; CREATE SCHEMA {now};"]
    statements.append(_FUNCTIONS.format(old=old, now=now, moved=_MOVED))
    statements += [
        _TABLE.format(
            old=old, now=now, table=table.in_schema(kept_as), view=table.in_schema(schema)
        )
        for table in tables
    ]
    await connection.execute("".join(statements))


async def return_to_place(connection: asyncpg.Connection, schema: str, kept_as: str) -> None:
    """Undo `leave_place`, in a transaction."""
    await connection.execute(
        f"DROP SCHEMA {quoted_name(schema)} CASCADE;"
        f"ALTER SCHEMA {quoted_name(kept_as)} RENAME TO {quoted_name(schema)};"
        f"DROP FUNCTION {quoted_name(schema)}.moving_refusal() CASCADE"
    )


async def forget_place(connection: asyncpg.Connection, schema: str) -> None:
    """Remove the failing views, so that the schema can be used again."""
    name = quoted_name(schema)
    if await connection.fetchval("SELECT to_regproc($1) IS NOT NULL", f"{name}.moving_moved"):
        await connection.execute(f"DROP SCHEMA {name} CASCADE")

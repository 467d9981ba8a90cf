"""What a partition needs before users arrive, and what is left in it when all have gone."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from luma_memory.domain.partition import HOME, Partition, first_id
from luma_memory.partitions.scope_fence import execute_with_retries, scope_tables
from luma_memory.postgres.database import Database, quoted_name
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.postgres.table_copies import tables
from luma_memory.store.webhooks import PostgresWebhookStore

_SQL = SqlFile(__name__)
# Every partition has these; the home partition's are the first ones. What becomes of a row that is
# there already.
_SHARED = {
    "memory_embedding_models": "(id) DO UPDATE SET wanted_at = excluded.wanted_at,"
    " retired_at = excluded.retired_at",
    "memory_job_pauses": "DO NOTHING",
    "memory_event_streams": "(project_id) DO UPDATE SET"
    " read_at = greatest(s.read_at, excluded.read_at),"
    " gone_until = greatest(s.gone_until, excluded.gone_until)",
}


async def prepare_arrivals(
    home: Database, connection: asyncpg.Connection, partitions: Sequence[Partition]
) -> None:
    """Ids, webhooks and settings of all partitions but the home partition. Idempotent."""
    source = partitions[HOME].schema
    webhooks = await PostgresWebhookStore(home).definitions()
    for one in partitions[HOME + 1 :]:
        first = await connection.fetchval(
            _SQL["first_free_id"], first_id(one.number), first_id(one.number + 1)
        )
        for table in await tables(connection, source):
            if table.name in _SHARED:
                await connection.execute(
                    f"INSERT INTO {table.in_schema(one.schema)} AS s ({table.columns_of()})"  # noqa: S608 - quoted names
                    f" SELECT {table.columns_of()} FROM {table.in_schema(source)}"
                    f" ON CONFLICT {_SHARED[table.name]}"
                )
        database = home.beside(schema=one.schema, dsn=None)
        try:
            await database.execute(_SQL["begin_ids"], first)
            await PostgresWebhookStore(database).take_definitions(webhooks)
        finally:
            await database.close()
        await _continue_revisions(connection, source, one.schema)


async def leave_nothing(connection: asyncpg.Connection, schema: str, home: str) -> None:
    """Move rows that belong to no user to the home partition, which has all users now. Idempotent.

    Jobs that deliver for webhooks are not moved: the home partition makes its own.
    """
    await _continue_revisions(connection, schema, home)
    names = {table.name for table in await scope_tables(connection, schema)} | {"memory_erasures"}
    left = [table for table in await tables(connection, schema) if table.name in names]
    statements = [f"LOCK TABLE {one.in_schema(schema)} IN EXCLUSIVE MODE" for one in left]
    for table in left:
        if table.name == "memory_jobs":
            statements.append(
                f"DELETE FROM {table.in_schema(schema)}"  # noqa: S608
                " WHERE user_id = '' AND status IN ('pending', 'processing')"
            )
        statements.append(
            f"WITH gone AS (DELETE FROM {table.in_schema(schema)} RETURNING *)"  # noqa: S608
            f" INSERT INTO {table.in_schema(home)} ({table.columns_of()}) OVERRIDING SYSTEM VALUE"
            f" SELECT {table.columns_of()} FROM gone ON CONFLICT DO NOTHING"
        )
    await execute_with_retries(connection, ";".join(statements))


async def _continue_revisions(connection: asyncpg.Connection, before: str, after: str) -> None:
    """Revisions of a block are listed by their ids: new ones come behind those that are moved."""
    await connection.fetchval(
        _SQL["continue_revisions"]
        .replace("/*before*/", quoted_name(before))
        .replace("/*after*/", quoted_name(after))
    )

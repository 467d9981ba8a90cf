"""Triggers at the partition that users are moved away from, one by one.

Until the first user is moved they only list the users that have rows there. From then on they
refuse writes for a user who has been moved or is being moved, and the writing process finds the
user at the new partition. While a user's rows are copied for the first time, they log the keys of
rows that change. A transaction that moves a user is exempt.

Each writing transaction holds two locks until its end: one shared with all writers, which is taken
exclusively to change from listing to refusing, and one for its user, which is taken exclusively to
move the user. No writer waits for a lock while it holds the user's rows: it only tries the second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from luma_memory.domain.errors import Conflict
from luma_memory.postgres.change_log import LOG_TABLE
from luma_memory.postgres.database import quoted_name
from luma_memory.postgres.errors import USER_ELSEWHERE
from luma_memory.postgres.table_copies import LONG_SECONDS, Table, tables

# Tables with the columns of a scope whose rows are not moved with it, each with the reason.
NOT_OF_USERS: Final[Mapping[str, str]] = {
    "memory_api_keys": "keys are in the home partition",
    "memory_webhooks": "each partition has a copy of all",
    "memory_partition_users": "the list of those that are moved",
}
# Rows that belong to no user stay in their partition: of erased users, and tests of webhooks.
_WITHOUT_USER: Final = ("memory_events", "memory_jobs", "memory_webhook_deliveries")
_ATTEMPTS_MAX: Final = 20
_ATTEMPT_WAIT_SECONDS: Final = 0.25
# Sets the lock of one user, and that of all writers.
USER_KEY: Final = "hashtextextended({project} || chr(1) || {user}, 31)"
WRITERS_KEY: Final = "hashtextextended('memory_partition_users', 0)"
# Of jobs by user, while users are moved.
JOBS_INDEX: Final = "moving_user_jobs_index"
# The setting of a session that moves users.
EXEMPT: Final = "luma_memory.moves_users"

_CHECK: Final = """
CREATE OR REPLACE FUNCTION
    {schema}.moving_user_check(p_project text, p_user text, p_logs_only boolean)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    v_state text;
    v_is_copied boolean;
BEGIN
    IF {schema}.memory_partition_number(p_project, p_user, {count}) = {kept} THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock_shared({writers_key});
    SELECT state INTO v_state FROM {home}.memory_partitions WHERE number = 1;
    IF v_state = '{moves_in}' THEN
        IF NOT p_logs_only AND NOT pg_try_advisory_xact_lock_shared({user_key}) THEN
            RAISE EXCEPTION 'The user is being moved' USING ERRCODE = '{code}';
        END IF;
        SELECT is_copied INTO v_is_copied FROM {schema}.memory_partition_users
        WHERE project_id = p_project AND user_id = p_user;
        IF NOT p_logs_only AND NOT FOUND THEN
            RAISE EXCEPTION 'The user has been moved' USING ERRCODE = '{code}';
        END IF;
        RETURN coalesce(v_is_copied, false);
    ELSIF v_state = ANY ('{{{lists_in}}}') AND NOT EXISTS (
            SELECT FROM {schema}.memory_partition_users
            WHERE project_id = p_project AND user_id = p_user) THEN
        INSERT INTO {schema}.memory_partition_users (project_id, user_id)
        VALUES (p_project, p_user)
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN false;
END $body$;
"""
_TABLE: Final = """
CREATE OR REPLACE FUNCTION {log}() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    v_user record;
BEGIN
    IF current_setting('{exempt}', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        FOR v_user IN SELECT DISTINCT project_id, user_id FROM new_rows
                WHERE {of_user} ORDER BY 1, 2 LOOP
            IF {schema}.moving_user_check(v_user.project_id, v_user.user_id, false) THEN
                INSERT INTO {log} SELECT {keys} FROM new_rows
                WHERE project_id = v_user.project_id AND user_id = v_user.user_id;
            END IF;
        END LOOP;
    ELSE
        FOR v_user IN SELECT DISTINCT project_id, user_id FROM old_rows
                WHERE {of_user} ORDER BY 1, 2 LOOP
            IF {schema}.moving_user_check(
                    v_user.project_id, v_user.user_id, {logs_only}) THEN
                INSERT INTO {log} SELECT {keys} FROM old_rows
                WHERE project_id = v_user.project_id AND user_id = v_user.user_id;
            END IF;
        END LOOP;
    END IF;
    RETURN NULL;
END $body$;
CREATE OR REPLACE TRIGGER moving_user_insert AFTER INSERT ON {table}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {log}();
CREATE OR REPLACE TRIGGER moving_user_update AFTER UPDATE ON {table}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {log}();
CREATE OR REPLACE TRIGGER moving_user_delete AFTER DELETE ON {table}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {log}();
"""


@dataclass(frozen=True, slots=True)
class Fence:
    """The triggers of one schema. kept: the partition whose users stay there; none if negative.

    lists_in, moves_in: states of the directory, in which users are listed, and are moved.
    """

    schema: str
    home: str
    count: int
    kept: int
    lists_in: Sequence[str]
    moves_in: str

    async def start(self, connection: asyncpg.Connection) -> None:
        """Idempotent. Afterwards all users with rows are listed, unless they are moved already.

        Raises Conflict if a table stays in use.
        """
        schema = quoted_name(self.schema)
        check = _CHECK.format(
            schema=schema,
            home=quoted_name(self.home),
            count=self.count,
            kept=self.kept,
            moves_in=self.moves_in,
            lists_in=",".join(self.lists_in),
            writers_key=WRITERS_KEY,
            user_key=USER_KEY.format(project="p_project", user="p_user"),
            code=USER_ELSEWHERE,
        )
        found = await scope_tables(connection, self.schema)
        await connection.execute(check)
        for table in found:
            text = (LOG_TABLE + _TABLE).format(
                schema=schema,
                log=log_of(self.schema, table),
                table=table.in_schema(self.schema),
                keys=table.keys(),
                exempt=EXEMPT,
                of_user=_of_user(table),
                # Positions in the stream of events are given across users: see `scope_moves`.
                logs_only="true" if table.name == "memory_events" else "false",
            )
            await execute_with_retries(connection, text)
        state = await connection.fetchval(
            f"SELECT state FROM {quoted_name(self.home)}.memory_partitions WHERE number = 1"  # noqa: S608
        )
        for table in found if state in self.lists_in else ():
            await connection.execute(
                f"INSERT INTO {schema}.memory_partition_users (project_id, user_id)"  # noqa: S608 - quoted names
                f" SELECT DISTINCT project_id, user_id FROM {table.in_schema(self.schema)}"
                f" WHERE {_of_user(table)} AND"
                f" {schema}.memory_partition_number(project_id, user_id, {self.count})"
                f" <> {self.kept} ON CONFLICT DO NOTHING",
                timeout=LONG_SECONDS,
            )

    async def end(self, connection: asyncpg.Connection) -> None:
        """Remove the triggers, and the index of the moves. Idempotent."""
        await connection.execute(
            f"DROP INDEX CONCURRENTLY IF EXISTS {quoted_name(self.schema)}.{JOBS_INDEX}",
            timeout=LONG_SECONDS,
        )
        for table in await scope_tables(connection, self.schema):
            log = log_of(self.schema, table)
            await execute_with_retries(
                connection, f"DROP FUNCTION IF EXISTS {log}() CASCADE; DROP TABLE IF EXISTS {log}"
            )
        await connection.execute(
            f"DROP FUNCTION IF EXISTS {quoted_name(self.schema)}.moving_user_check"
        )


async def scope_tables(connection: asyncpg.Connection, schema: str) -> Sequence[Table]:
    """The tables whose rows each belong to a user."""
    return [
        table
        for table in await tables(connection, schema)
        if {"project_id", "user_id"} <= set(table.columns) and table.name not in NOT_OF_USERS
    ]


def log_of(schema: str, table: Table) -> str:
    """The keys of changed rows of the user who is being copied."""
    name = table.name.replace("memory_", "moving_user_", 1)
    return f"{quoted_name(schema)}.{quoted_name(name)}"


async def execute_with_retries(connection: asyncpg.Connection, text: str) -> None:
    """Run statements that lock a table, in a transaction that gives way to others.

    Raises Conflict if the table stays in use.
    """
    for attempt in range(_ATTEMPTS_MAX):
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '400ms'")
                await connection.execute(text)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(_ATTEMPT_WAIT_SECONDS * (attempt + 1))
        else:
            return
    raise Conflict(
        "A table stays in use by a long transaction: try again later", code="partition_busy"
    )


def _of_user(table: Table) -> str:
    return "user_id <> ''" if table.name in _WITHOUT_USER else "true"

"""Move one user with all rows to another partition of the same database, in one transaction.

The rows are copied, compared and deleted, and the user is taken off the list of those who are still
at the former partition: all of it is committed, or nothing. Nothing has to be repaired if the
command or the server is killed, and the user's pause ends with the transaction.

The rows of a user with many are copied before the user's writes are paused, in the same
transaction, where no other one sees them yet. What changes meanwhile is logged by the triggers of
`scope_fence`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from luma_memory.domain.errors import Conflict
from luma_memory.domain.scope import Scope
from luma_memory.partitions.scope_fence import USER_KEY, log_of
from luma_memory.postgres.database import quoted_name
from luma_memory.postgres.table_copies import LONG_SECONDS, Table, digest_text, digests
from luma_memory.store.partitions import STEADY_SECONDS

# The work in a pause; afterwards the user's writes continue where they were.
PAUSE_SECONDS: Final = 1.5
# More rows than this are copied before the pause.
_SMALL_ROWS: Final = 2000
_ROUNDS_MAX: Final = 50
_SHORT_SECONDS: Final = 0.1
_DIFFERS: Final = "LM002"
_OF_VARIABLES: Final = "t.project_id = v_project AND t.user_id = v_user"
_OF_USER: Final = "{prefix}project_id = $1 AND {prefix}user_id = $2"
# Functions of the session, so that a pause takes few round trips and its statements are planned
# once. Rows that other statements take without waiting (claims of jobs, positions of events) are
# locked first: those of other users are taken meanwhile. So are webhooks with deliveries of the
# user: one that is being delivered to would be delivered to again from the new partition.
_LOCK: Final = """
CREATE OR REPLACE FUNCTION pg_temp.moving_user_lock(v_project text, v_user text)
RETURNS boolean LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM pg_advisory_xact_lock({key});
    PERFORM FROM {schema}.memory_jobs WHERE project_id = v_project AND user_id = v_user
        AND status IN ('pending', 'processing') FOR UPDATE;
    PERFORM FROM {schema}.memory_events WHERE project_id = v_project AND user_id = v_user
        AND position IS NULL FOR UPDATE;
    RETURN coalesce((SELECT bool_or(held_until > clock_timestamp())
        FROM (SELECT held_until FROM {schema}.memory_webhooks
              WHERE id IN (SELECT webhook_id FROM {schema}.memory_webhook_deliveries
                           WHERE project_id = v_project AND user_id = v_user AND status = 'pending')
              FOR UPDATE) AS w), false);
END $body$;
"""
_DELETE: Final = """
CREATE OR REPLACE FUNCTION pg_temp.moving_user_delete(v_project text, v_user text)
RETURNS bigint LANGUAGE plpgsql AS $body$
DECLARE
    v_rows bigint;
    v_all bigint := 0;
BEGIN
{tables}
    DELETE FROM {schema}.memory_partition_users WHERE project_id = v_project AND user_id = v_user;
    RETURN v_all;
END $body$;
"""
_DELETE_TABLE: Final = """
    DELETE FROM {table} WHERE project_id = v_project AND user_id = v_user;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_all := v_all + v_rows;
"""
_COPY: Final = """
CREATE OR REPLACE FUNCTION pg_temp.{name}(v_project text, v_user text, v_compares boolean)
RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
{tables}
END $body$;
"""
# A table in which the user has nothing is not compared.
_COPY_TABLE: Final = """
    INSERT INTO {copied} ({columns}) OVERRIDING SYSTEM VALUE
    SELECT {columns} FROM {table} WHERE project_id = v_project AND user_id = v_user;
    IF v_compares AND FOUND AND (SELECT d FROM ({here}) AS d)
            IS DISTINCT FROM (SELECT d FROM ({there}) AS d) THEN
        RAISE EXCEPTION '{table_name}' USING ERRCODE = '{code}';
    END IF;
"""


class UserBusyError(Exception):
    """The user could not be moved now; nothing has changed."""


@dataclass(frozen=True, slots=True)
class MovedUser:
    rows: int
    pause_ms: float


class ScopeMover:
    """Moves users from one schema to others over one connection, which is exempt from the fence.

    on_step: called with `copied`, `locked`, `written`, `moved`. disregards_deliveries: also move
    users to whose webhooks deliveries are being made, as they would not be moved while one always
    is; it may be made twice then, as after a crash.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        schema: str,
        tables: Sequence[Table],
        on_step: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._list = f"{quoted_name(schema)}.memory_partition_users"
        self._tables = tables
        self._on_step = on_step
        self._targets: dict[str, str] = {}
        self.disregards_deliveries = False

    async def prepare(self) -> None:
        """Before the first user."""
        schema = quoted_name(self._schema)
        key = USER_KEY.format(project="v_project", user="v_user")
        tables = "".join(
            _DELETE_TABLE.format(table=table.in_schema(self._schema)) for table in self._tables
        )
        await self._connection.execute(_LOCK.format(schema=schema, key=key))
        await self._connection.execute(_DELETE.format(schema=schema, tables=tables))

    async def is_large(self, scope: Scope) -> bool:
        """Whether the user's rows have to be copied before the pause."""
        counts = " + ".join(
            f"(SELECT count(*) FROM (SELECT FROM {table.in_schema(self._schema)}"  # noqa: S608 - quoted names
            f" WHERE {_OF_USER.format(prefix='')} LIMIT {_SMALL_ROWS}) AS t)"
            for table in self._tables
        )
        found = await self._connection.fetchval(f"SELECT {counts}", *_values(scope))
        return bool(found >= _SMALL_ROWS)

    async def move(self, scope: Scope, target: str) -> MovedUser:
        """Move a user with few rows. Raises UserBusyError, Conflict (code copy_differs)."""
        return await self._move(scope, target, is_large=False)

    async def move_large(self, scope: Scope, target: str) -> MovedUser:
        """Move a user with any number of rows; one at a time. Raises as `move`."""
        await self._log_changes(scope)
        try:
            return await self._move(scope, target, is_large=True)
        except BaseException:
            if not self._connection.is_closed():
                await self._connection.execute(
                    f"UPDATE {self._list} SET is_copied = false WHERE is_copied"  # noqa: S608
                )
            raise

    async def _move(self, scope: Scope, target: str, *, is_large: bool) -> MovedUser:
        copy = await self._copy_function(target)
        connection = self._connection
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '400ms'")
                if is_large:
                    await connection.execute(copy, *_values(scope), False, timeout=LONG_SECONDS)
                    await self._follow(scope, target)
                    self._on_step("copied")
                began = time.monotonic()
                async with asyncio.timeout(PAUSE_SECONDS):
                    rows = await self._finish(scope, target, None if is_large else copy)
                self._on_step("written")
            pause_ms = (time.monotonic() - began) * 1000
        except (
            asyncpg.LockNotAvailableError,
            asyncpg.DeadlockDetectedError,
            TimeoutError,
        ) as error:
            raise UserBusyError(str(scope)) from error
        except asyncpg.PostgresError as error:
            if error.sqlstate == _DIFFERS:
                raise _differs(str(error.args[0])) from error
            raise
        self._on_step("moved")
        return MovedUser(rows, pause_ms)

    async def _finish(self, scope: Scope, target: str, copy: str | None) -> int:
        """What is done while the user's writes are paused. copy: None if the rows are there."""
        connection, values = self._connection, _values(scope)
        is_delivering = await connection.fetchval(
            "SELECT pg_temp.moving_user_lock($1, $2)", *values
        )
        locked_at = time.monotonic()
        if is_delivering and not self.disregards_deliveries:
            raise UserBusyError(str(scope))
        self._on_step("locked")
        if copy is None:
            await self._round(scope, target, is_last=True)
            await self._compare_counts(scope, target)
        else:
            await connection.execute(copy, *values, True)
        rows = int(await connection.fetchval("SELECT pg_temp.moving_user_delete($1, $2)", *values))
        # See `user_locations`: a call that began before the pause sees no change for so long.
        await asyncio.sleep(locked_at + STEADY_SECONDS - time.monotonic())
        return rows

    async def _copy_function(self, target: str) -> str:
        """A statement that copies a user's rows and, if its third value is true, compares them."""
        if target not in self._targets:
            name = f"moving_user_copy_{len(self._targets)}"
            tables = "".join(
                _COPY_TABLE.format(
                    table=table.in_schema(self._schema),
                    table_name=table.name,
                    copied=table.in_schema(target),
                    columns=table.columns_of(),
                    here=digest_text(self._schema, table, _OF_VARIABLES),
                    there=digest_text(target, table, _OF_VARIABLES),
                    code=_DIFFERS,
                )
                for table in self._tables
            )
            await self._connection.execute(_COPY.format(name=name, tables=tables))
            self._targets[target] = f"SELECT pg_temp.{name}($1, $2, $3)"
        return self._targets[target]

    async def _log_changes(self, scope: Scope) -> None:
        """From now on; once all writers that began before have ended."""
        for table in self._tables:
            await self._connection.execute(f"DELETE FROM {log_of(self._schema, table)}")  # noqa: S608
        await self._connection.execute(
            f"UPDATE {self._list} SET is_copied = true WHERE {_OF_USER.format(prefix='')}",  # noqa: S608
            *_values(scope),
        )
        try:
            async with self._connection.transaction():
                await self._connection.execute("SET LOCAL lock_timeout = '400ms'")
                await self._connection.fetchval(
                    "SELECT pg_temp.moving_user_lock($1, $2)", *_values(scope)
                )
        except asyncpg.LockNotAvailableError as error:
            raise UserBusyError(str(scope)) from error

    async def _follow(self, scope: Scope, target: str) -> None:
        """Copy changes until that takes a moment, and compare what has not changed since."""
        for _ in range(_ROUNDS_MAX):
            began = time.monotonic()
            await self._round(scope, target, is_last=False)
            if time.monotonic() - began <= _SHORT_SECONDS:
                break
        for table in self._tables:
            await self._compare(scope, target, table)
        await self._round(scope, target, is_last=False)

    async def _round(self, scope: Scope, target: str, *, is_last: bool) -> None:
        """Bring the copies of changed rows to their present state."""
        connection = self._connection
        for table in await self._changed():
            log, copied = log_of(self._schema, table), table.in_schema(target)
            await connection.execute(
                f"CREATE TEMP TABLE moving_user_keys ON COMMIT DROP AS SELECT {table.keys()}"  # noqa: S608
                f" FROM {log} WITH NO DATA"
            )
            await connection.execute(
                f"WITH taken AS (DELETE FROM {log} RETURNING {table.keys()})"  # noqa: S608
                f" INSERT INTO moving_user_keys SELECT DISTINCT {table.keys()} FROM taken"
            )
            await connection.execute(
                f"DELETE FROM {copied} AS t USING moving_user_keys AS k"  # noqa: S608
                f" WHERE {table.same_key('t', 'k')}",
                timeout=LONG_SECONDS,
            )
            # A row that collides with one whose change is not copied yet was changed again itself:
            # the next round has both.
            await connection.execute(
                f"INSERT INTO {copied} ({table.columns_of()}) OVERRIDING SYSTEM VALUE"  # noqa: S608
                f" SELECT {table.columns_of('t.')} FROM moving_user_keys AS k"
                f" JOIN {table.in_schema(self._schema)} AS t ON {table.same_key('t', 'k')}"
                + ("" if is_last else " ON CONFLICT DO NOTHING"),
                timeout=LONG_SECONDS,
            )
            await connection.execute("DROP TABLE pg_temp.moving_user_keys")

    async def _changed(self) -> Sequence[Table]:
        """Tables with changes of the user who is being copied."""
        texts = [
            f"SELECT {n} AS n WHERE EXISTS (SELECT FROM {log_of(self._schema, table)})"  # noqa: S608
            for n, table in enumerate(self._tables)
        ]
        rows = await self._connection.fetch(" UNION ALL ".join(texts))
        return [self._tables[row["n"]] for row in rows]

    async def _compare(self, scope: Scope, target: str, table: Table) -> None:
        """Of rows that are not in the log, in one snapshot. Raises Conflict."""
        log = log_of(self._schema, table)
        condition = (
            f"{_OF_USER.format(prefix='t.')} AND NOT EXISTS"
            f" (SELECT FROM {log} AS k WHERE {table.same_key('t', 'k')})"
        )
        here, there = await digests(
            self._connection, (self._schema, target), table, condition, _values(scope)
        )
        if here != there:
            raise _differs(table.name)

    async def _compare_counts(self, scope: Scope, target: str) -> None:
        of_user = _OF_USER.format(prefix="")
        texts = [
            f"SELECT {n} AS n WHERE (SELECT count(*) FROM {table.in_schema(self._schema)}"  # noqa: S608
            f" WHERE {of_user}) <> (SELECT count(*) FROM {table.in_schema(target)} WHERE {of_user})"
            for n, table in enumerate(self._tables)
        ]
        rows = await self._connection.fetch(" UNION ALL ".join(texts), *_values(scope))
        if rows:
            raise _differs(self._tables[rows[0]["n"]].name)


def _differs(name: str) -> Conflict:
    return Conflict(
        f"The copy of {name} differs from the original: this user was not moved",
        code="copy_differs",
    )


def _values(scope: Scope) -> tuple[str, str]:
    return scope.project_id, scope.user_id

"""`ports.user_lists.UserListStore` on PostgreSQL."""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from luma_memory.domain.scope import Scope
from luma_memory.domain.user import (
    FrequentTerm,
    ListedUser,
    Session,
    TermProfile,
    User,
    UserCounts,
    UserSort,
)
from luma_memory.ports.user_lists import (
    SessionPage,
    SessionPlace,
    UserPage,
    UserPlace,
)
from luma_memory.postgres.database import Database
from luma_memory.postgres.instants import aware
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)
_LAST_CODE_POINT: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)


# Without its comment.
_AFTER = _SQL["after_activity"].partition("\n")[2]


class _Conditions:
    """Only the requested ones: as `$1 IS NULL OR …`, a generic plan could not use their index."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values
        self.text = ""

    def add(self, text: str, *values: Any) -> None:
        """text: has a mark for each value."""
        first = len(self.values) + 1
        self.values += values
        self.text += " " + text.format(*(f"${first + n}" for n in range(len(values))))


class PostgresUserLists:
    """One statement a page; it reads the page's users, and up to 10,000 rows of each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        project_id: str,
        *,
        user_id: str | None,
        prefix: str | None,
        sort: UserSort,
        after: UserPlace | None,
        limit: int,
    ) -> UserPage:
        conditions = _Conditions([project_id, limit + 1])
        if user_id is not None:
            conditions.add("AND u.user_id = {0}", user_id)
        if prefix is not None:
            conditions.add('AND u.user_id COLLATE "C" >= {0}', prefix)
            if (end := end_of_prefix(prefix)) is not None:
                conditions.add('AND u.user_id COLLATE "C" < {0}', end)
        if sort == "user_id":
            statement = _SQL["page_users_by_id"]
            if after is not None:
                conditions.add('AND u.user_id COLLATE "C" > {0}', after.user_id)
        else:
            statement = _SQL["page_users_by_activity"]
            if after is not None:
                place = (after.active_hour, after.last_activity_at, after.user_id)
                conditions.add(_AFTER, *place)
        statement = statement.replace("/*conditions*/", conditions.text)
        rows = await self._database.fetch(statement, *conditions.values)
        users = [_listed(row) for row in rows[:limit]]
        return UserPage(users, _place(rows[limit - 1]) if len(rows) > limit else None)

    async def sessions(
        self, scope: Scope, *, after: SessionPlace | None, limit: int, prefix: str | None = None
    ) -> SessionPage:
        place = (None, None) if after is None else (after.last_created_at, after.session_id)
        rows = await self._database.fetch(
            _SQL["page_sessions"],
            scope.project_id,
            scope.user_id,
            *place,
            limit + 1,
            prefix,
            None if prefix is None else end_of_prefix(prefix),
        )
        sessions = [_session(row) for row in rows[:limit]]
        last = sessions[-1] if len(rows) > limit else None
        return SessionPage(
            sessions, None if last is None else SessionPlace(last.last_created_at, last.session_id)
        )

    async def terms(self, scope: Scope, *, limit: int) -> TermProfile:
        row = await self._database.fetch_row(
            _SQL["frequent_terms"], scope.project_id, scope.user_id, limit
        )
        assert row is not None, "an aggregate has one row"
        found = zip(row["terms"], row["counts"], row["last_at"], strict=True)
        terms = [FrequentTerm(term, count, aware(at)) for term, count, at in found]
        return TermProfile(terms, row["blocks"], row["is_limited"])


def end_of_prefix(prefix: str) -> str | None:
    """The first text, by code points, after all that begin with the prefix; None if none is."""
    head = prefix.rstrip(chr(_LAST_CODE_POINT))
    if not head:
        return None
    following = ord(head[-1]) + 1
    if following in _SURROGATES:
        following = _SURROGATES.stop
    return head[:-1] + chr(following)


def _place(row: asyncpg.Record) -> UserPlace:
    return UserPlace(row["active_hour"], row["last_ingest_at"], row["user_id"])


def _listed(row: asyncpg.Record) -> ListedUser:
    return ListedUser(
        row["user_id"],
        User(row["time_zone"], row["created_at"], row["last_ingest_at"]),
        UserCounts(row["blocks"], row["pending"], row["failed"], row["items"], row["is_limited"]),
    )


def _session(row: asyncpg.Record) -> Session:
    return Session(
        row["session_id"],
        row["blocks"],
        aware(row["first_occurred_at"]),
        aware(row["last_occurred_at"]),
        row["last_created_at"],
    )

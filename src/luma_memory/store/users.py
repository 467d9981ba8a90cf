"""Users' own settings in PostgreSQL."""

from __future__ import annotations

import asyncpg

from luma_memory.domain.errors import Invalid, InvariantError
from luma_memory.domain.scope import Scope
from luma_memory.domain.user import User
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PostgresUserStore:
    """`ports.accounts.UserStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, scope: Scope) -> User:
        statement = _SQL["read_user"]
        row = await self._database.fetch_row(statement, scope.project_id, scope.user_id)
        return User() if row is None else User(**dict(row))

    async def set_time_zone(self, scope: Scope, time_zone: str) -> User:
        statement = _SQL["set_time_zone"]
        try:
            row = await self._database.fetch_row(
                statement, scope.project_id, scope.user_id, time_zone
            )
        except InvariantError as error:
            if isinstance(error.__cause__, asyncpg.InvalidParameterValueError):
                raise Invalid(
                    "The database does not know this time zone",
                    code="time_zone_unknown",
                    field="time_zone",
                ) from None
            raise
        assert row is not None
        return User(**dict(row))

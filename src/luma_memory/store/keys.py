"""API keys in PostgreSQL: found by prefix, verified by hash."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import asyncpg

from luma_memory.domain.access import ApiKey
from luma_memory.ports.accounts import KeyFilter, KeyPage, KeyPlace, StoredKey
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PostgresKeyStore:
    """`ports.accounts.KeyStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, stored: StoredKey) -> ApiKey:
        key = stored.key
        row = await self._row(
            "create_key",
            key.prefix,
            stored.key_hash,
            key.project_id,
            key.user_id,
            sorted(key.permissions),
            key.name,
        )
        assert row is not None
        return _api_key(row)

    async def list(self, *, project_id: str | None) -> Sequence[ApiKey]:
        rows = await self._database.fetch(_SQL["list_keys"], project_id)
        return [_api_key(row) for row in rows]

    async def revoke(self, prefix: str) -> ApiKey | None:
        row = await self._row("revoke_key", prefix)
        return _api_key(row) if row is not None else None

    async def page(self, which: KeyFilter, *, after: KeyPlace | None, limit: int) -> KeyPage:
        rows = await self._database.fetch(
            _SQL["page_keys"],
            which.project_id,
            which.user_id,
            which.include_revoked,
            *((None, None) if after is None else (after.created_at, after.prefix)),
            limit + 1,
        )
        keys = [_api_key(row) for row in rows[:limit]]
        last = keys[-1] if len(rows) > limit else None
        return KeyPage(keys, None if last is None else KeyPlace(last.created_at, last.prefix))

    async def find(self, prefix: str) -> StoredKey | None:
        row = await self._row("find_key", prefix)
        return StoredKey(_api_key(row), row["key_hash"]) if row is not None else None

    async def any_exists(self) -> bool:
        row = await self._row("any_key")
        return row is not None and bool(row["present"])

    async def note_used(self, prefixes: Collection[str]) -> None:
        await self._database.execute(_SQL["note_keys_used"], sorted(prefixes))

    async def _row(self, name: str, *values: Any) -> asyncpg.Record | None:
        return await self._database.fetch_row(_SQL[name], *values)


def _api_key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        prefix=row["prefix"],
        project_id=row["project_id"],
        user_id=row["user_id"],
        permissions=frozenset(row["scopes"]),
        name=row["name"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
    )

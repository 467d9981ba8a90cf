"""Items in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from luma_memory.domain.item import (
    Condition,
    GetItem,
    Item,
    ItemName,
    ItemPage,
    ListNamespaces,
    NamespacePage,
    PreparedWrite,
    PreparedWrites,
    PutItem,
    SearchItems,
    Written,
)
from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database
from luma_memory.postgres.instants import aware
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.store.item_selection import SelectionCondition

_SQL = SqlFile(__name__)
_DIRECTIONS: Final = {"newest": ("DESC", "<"), "oldest": ("ASC", ">")}


class PostgresItemStore:
    """`ports.items.ItemStore` on PostgreSQL. attempts_max, fair_step: of jobs, as for blocks."""

    def __init__(
        self,
        database: Database,
        *,
        attempts_max: int,
        fair_step: timedelta = timedelta(milliseconds=100),
    ) -> None:
        self._database = database
        self._attempts_max = attempts_max
        self._fair_step = fair_step

    async def write(self, requests: Sequence[PreparedWrites]) -> Sequence[Sequence[Written]]:
        writes = [(request.scope, write) for request in requests for write in request.writes]
        rows = await self._database.fetch(
            _SQL["write_items"],
            [_write_json(scope, write) for scope, write in writes],
            *_passage_columns([write for _, write in writes]),
            self._attempts_max,
            self._fair_step,
        )
        written = iter(map(_written, rows))
        return [[next(written) for _ in request.writes] for request in requests]

    async def read(self, scope: Scope, reads: Sequence[GetItem]) -> Sequence[Item | None]:
        name_ids = [read.name.id for read in reads]
        distinct = list(set(name_ids))
        names: UUID | list[UUID] = distinct if distinct[1:] else distinct[0]
        statement = _SQL["read_items" if distinct[1:] else "read_item"]
        rows = await self._database.fetch(statement, scope.project_id, scope.user_id, names)
        requested_refresh = {read.name.id: read.refresh_ttl for read in reads}
        found = await self._refreshed(
            scope, rows, [row for row in rows if _refreshes(row, requested_refresh[row["name_id"]])]
        )
        by_name = {row["name_id"]: item for row, item in zip(rows, found, strict=True)}
        return [by_name.get(name_id) for name_id in name_ids]

    async def read_by_id(
        self, scope: Scope, ids: Sequence[UUID], *, refresh_ttl: bool | None
    ) -> Sequence[Item | None]:
        rows = await self._database.fetch(
            _SQL["read_items_by_id"], scope.project_id, scope.user_id, list(ids)
        )
        found = await self._refreshed(
            scope, rows, [row for row in rows if _refreshes(row, refresh_ttl)]
        )
        by_id = {item.id: item for item in found}
        return [by_id.get(one) for one in ids]

    async def page(self, scope: Scope, search: SearchItems) -> ItemPage:
        direction, behind = _DIRECTIONS[search.order]
        selection = SelectionCondition(
            search.prefix, search.filter, is_exact=search.is_exact, first=5
        )
        if search.after is not None:
            selection.add(f"b.position {behind} {{}}", search.after, "bigint")
        statement = _SQL["page_items"].replace("/*selection*/", selection.text)
        rows = await self._database.fetch(
            statement.replace("/*direction*/", direction),
            scope.project_id,
            scope.user_id,
            search.limit + 1,
            search.offset,
            *selection.values,
        )
        shown = rows[: search.limit]
        items = await self._refreshed(
            scope, shown, [row for row in shown if _refreshes(row, search.refresh_ttl)]
        )
        return ItemPage(items, items[-1].position if len(rows) > search.limit else None)

    async def namespaces(self, scope: Scope, request: ListNamespaces) -> NamespacePage:
        rows = await self._database.fetch(
            _SQL["list_namespaces"],
            scope.project_id,
            scope.user_id,
            request.max_depth,
            list(request.prefix),
            list(request.suffix),
            request.limit + 1,
            request.offset,
        )
        found = [row["namespace"] for row in rows[: request.limit]]
        return NamespacePage(found, len(rows) > request.limit)

    async def _refreshed(
        self, scope: Scope, rows: Sequence[asyncpg.Record], due: Sequence[asyncpg.Record]
    ) -> Sequence[Item]:
        """The rows as items, the time to live of those in `due` begun anew."""
        items = [_item(row) for row in rows]
        if not due:
            return items
        refreshed = await self._database.fetch(
            _SQL["refresh_items"], scope.project_id, scope.user_id, [row["id"] for row in due]
        )
        times: Mapping[UUID, datetime] = {row["id"]: row["expires_at"] for row in refreshed}
        return [
            replace(item, expires_at=times[item.id]) if item.id in times else item for item in items
        ]


def _refreshes(row: asyncpg.Record, refresh_ttl: bool | None) -> bool:
    refreshes = row["refresh_on_read"] if refresh_ttl is None else refresh_ttl
    return bool(refreshes) and row["ttl_seconds"] is not None


def _write_json(scope: Scope, prepared: PreparedWrite) -> dict[str, Any]:
    """An operation of write_memory_items."""
    write = prepared.write
    operation: dict[str, Any] = {
        "op": "delete",
        "project_id": scope.project_id,
        "user_id": scope.user_id,
        "name_id": str(write.name.id),
        **_condition_json(write.condition),
    }
    if write.request is not None:
        operation |= {
            "request_key": write.request.key,
            "request_hash": "\\x" + write.request.request_hash.hex(),
        }
    if isinstance(write, PutItem):
        operation |= {
            "op": "put",
            "id": str(prepared.id),
            "namespace": list(write.name.namespace),
            "key": write.name.key,
            "value": write.value,
            "content": prepared.content,
            "ttl_seconds": write.ttl_seconds,
            "refresh_on_read": write.refresh_on_read,
            "changed_by": prepared.changed_by,
        }
    return operation


def _condition_json(condition: Condition) -> dict[str, Any]:
    if condition.is_absent:
        return {"if_absent": True}
    if condition.exists:
        return {"if_id": "any"}
    if condition.never:
        return {"if_id": "", "if_revision": 0}
    if condition.tag is not None:
        return {"if_id": str(condition.tag.id), "if_revision": condition.tag.revision}
    return {}


def _passage_columns(writes: Sequence[PreparedWrite]) -> Iterable[list[Any]]:
    passages = [(n, passage) for n, write in enumerate(writes, 1) for passage in write.passages]
    return (
        [n for n, _ in passages],
        [passage.ordinal for _, passage in passages],
        [passage.start for _, passage in passages],
        [passage.stop for _, passage in passages],
        [passage.lexemes for _, passage in passages],
    )


def _written(row: asyncpg.Record) -> Written:
    return Written(
        outcome=row["outcome"],
        id=row["item_id"],
        revision=row["item_revision"],
        created_at=row["created"],
        updated_at=row["updated"],
        expires_at=aware(row["expires"]),
    )


def _item(row: asyncpg.Record) -> Item:
    return Item(
        id=row["id"],
        name=ItemName(tuple(row["namespace"]), row["key"]),
        value=row["value"],
        revision=row["revision"],
        position=row["position"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        expires_at=aware(row["expires_at"]),
    )

"""Stored responses in PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from luma_memory.domain.errors import Invalid
from luma_memory.domain.stored_response import KeyedRequest, StoredResponse
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)

RETENTION = timedelta(days=7)
# One in this many requests also deletes old responses, more of them than it adds.
_PRUNE_EVERY = 100
_PRUNE_ROWS = 1_000


class PostgresResponseStore:
    """`ports.idempotency.ResponseStore` on PostgreSQL.

    The key's row is inserted first. A concurrent request with that key waits on it, in any process,
    and then finds the response; if the work failed there is none, and the waiting request runs it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def once(
        self, request: KeyedRequest, work: Callable[[], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        async with self._database.transaction():
            if not await self._is_first(request):
                return await self._stored(request)
            response = await work()
            await self._store(request, response)
        if random.randrange(_PRUNE_EVERY) == 0:  # noqa: S311 - not a secret
            await self._database.execute(_SQL["prune_responses"], RETENTION, _PRUNE_ROWS)
        return response

    async def _is_first(self, request: KeyedRequest) -> bool:
        row = await self._database.fetch_row(
            _SQL["claim_key"],
            request.scope.project_id,
            request.scope.user_id,
            request.key,
            request.operation,
            request.request_hash,
            request.block_id,
        )
        return row is not None

    async def _stored(self, request: KeyedRequest) -> StoredResponse:
        row = await self._database.fetch_row(
            _SQL["read_response"],
            request.scope.project_id,
            request.scope.user_id,
            request.key,
        )
        # A row that no longer exists was pruned in between: its key counts as reused.
        if row is None or row["request_hash"] != request.request_hash or row["status"] is None:
            raise Invalid(
                "This idempotency key was used before with another request",
                code="idempotency_key_reused",
                field="idempotency_key",
            )
        return StoredResponse(row["status"], row["headers"], row["body"])

    async def _store(self, request: KeyedRequest, response: StoredResponse) -> None:
        await self._database.execute(
            _SQL["store_response"],
            request.scope.project_id,
            request.scope.user_id,
            request.key,
            response.status,
            dict(response.headers),
            response.body,
        )

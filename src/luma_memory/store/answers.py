"""Remembered answers in PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from luma_memory.domain.answer import Answer, KeyedRequest
from luma_memory.domain.errors import Invalid
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import load_sql

RETENTION = timedelta(days=7)
# One in so many answers also clears away old ones, more than it adds.
_PRUNE_EVERY = 100
_PRUNE_ROWS = 1_000


class PostgresAnswerStore:
    """`ports.idempotency.AnswerStore` on PostgreSQL.

    The key's row is inserted first: whoever comes with the same key meanwhile waits at it, in any
    process, and then finds the answer; without one, because the work failed, they do it themselves.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def once(self, request: KeyedRequest, work: Callable[[], Awaitable[Answer]]) -> Answer:
        async with self._database.transaction():
            if not await self._is_first(request):
                return await self._remembered(request)
            answer = await work()
            await self._keep(request, answer)
        if random.randrange(_PRUNE_EVERY) == 0:  # noqa: S311 - not a secret
            await self._database.execute(
                load_sql(__package__, "prune_answers"), RETENTION, _PRUNE_ROWS
            )
        return answer

    async def _is_first(self, request: KeyedRequest) -> bool:
        row = await self._database.fetch_row(
            load_sql(__package__, "claim_answer"),
            request.scope.project_id,
            request.scope.user_id,
            request.key,
            request.operation,
            request.request_hash,
            request.block_id,
        )
        return row is not None

    async def _remembered(self, request: KeyedRequest) -> Answer:
        row = await self._database.fetch_row(
            load_sql(__package__, "read_answer"),
            request.scope.project_id,
            request.scope.user_id,
            request.key,
        )
        # A row that is gone again was cleared away in between: its key is as good as reused.
        if row is None or row["request_hash"] != request.request_hash or row["status"] is None:
            raise Invalid(
                "This idempotency key was used before with another request",
                code="idempotency_key_reused",
                field="idempotency_key",
            )
        return Answer(row["status"], row["headers"], row["body"])

    async def _keep(self, request: KeyedRequest, answer: Answer) -> None:
        await self._database.execute(
            load_sql(__package__, "keep_answer"),
            request.scope.project_id,
            request.scope.user_id,
            request.key,
            answer.status,
            dict(answer.headers),
            answer.body,
        )

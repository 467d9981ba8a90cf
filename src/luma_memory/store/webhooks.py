"""Webhooks and their deliveries in PostgreSQL: `ports.webhooks`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from luma_memory.domain.webhook import (
    TEST_EVENT,
    Attempt,
    Delivery,
    DeliveryStatus,
    DueDelivery,
    EndpointState,
    Event,
    Webhook,
    WebhookChanges,
)
from luma_memory.ports.webhooks import DeliveryPage
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PostgresWebhookStore:
    """`ports.webhooks.WebhookStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, webhook: Webhook, *, webhooks_max: int) -> bool:
        row = await self._database.fetch_row(
            _SQL["create_webhook"],
            webhook.id,
            webhook.project_id,
            webhook.user_id,
            webhook.url,
            webhook.description,
            list(webhook.event_types),
            webhook.include_content,
            webhook.created_by,
            webhooks_max,
            webhook.created_at,
        )
        return row is not None

    async def list(self, *, project_id: str, user_id: str | None) -> Sequence[Webhook]:
        rows = await self._database.fetch(_SQL["list_webhooks"], project_id, user_id, None)
        return [Webhook(**row) for row in rows]

    async def find(self, webhook_id: UUID, *, project_id: str) -> Webhook | None:
        row = await self._database.fetch_row(_SQL["list_webhooks"], project_id, None, webhook_id)
        return Webhook(**row) if row is not None else None

    async def change(
        self, webhook: Webhook, changes: WebhookChanges, *, now: datetime, previous_until: datetime
    ) -> Webhook | None:
        await self._database.execute(
            _SQL["change_webhook"],
            webhook.id,
            webhook.project_id,
            changes.url,
            changes.description,
            list(changes.event_types) if changes.event_types is not None else None,
            changes.include_content,
            changes.enabled,
            changes.rotate_secret,
            now,
            previous_until,
            webhook.created_by,
        )
        return await self.find(webhook.id, project_id=webhook.project_id)

    async def delete(self, webhook: Webhook) -> None:
        await self._database.execute(_SQL["delete_webhook"], webhook.id, webhook.project_id)

    async def deliveries(
        self, webhook: Webhook, *, status: DeliveryStatus | None, below: int, limit: int
    ) -> DeliveryPage:
        rows = await self._database.fetch(
            _SQL["list_deliveries"], webhook.id, below, status, limit + 1
        )
        found = [_delivery(row) for row in rows[:limit]]
        return DeliveryPage(found, found[-1].id if len(rows) > limit else None)

    async def delivery(self, webhook: Webhook, delivery_id: int) -> Delivery | None:
        row = await self._database.fetch_row(_SQL["find_delivery"], webhook.id, delivery_id)
        return _delivery(row) if row is not None else None

    async def add_test(self, webhook: Webhook) -> Delivery:
        data = {"webhook_id": str(webhook.id)}
        row = await self._database.fetch_row(
            _SQL["add_test"], webhook.project_id, webhook.id, TEST_EVENT, data
        )
        assert row is not None
        delivery = await self.delivery(webhook, row["id"])
        assert delivery is not None
        return delivery

    async def replay(self, webhook: Webhook, delivery_id: int) -> Delivery | None:
        row = await self._database.fetch_row(
            _SQL["replay_delivery"], webhook.project_id, webhook.id, delivery_id
        )
        return await self.delivery(webhook, row["id"]) if row is not None and row["id"] else None

    async def definitions(self) -> Definitions:
        """All webhooks without the state of their deliveries, of the home partition."""
        row = await self._database.fetch_row(_SQL["definitions"])
        assert row is not None  # an aggregate without GROUP BY
        return Definitions(row["webhooks"], row["read_at"])

    async def take_definitions(self, expected: Definitions) -> None:
        """Make them the webhooks of this partition."""
        await self._database.execute(_SQL["take_definitions"], expected.webhooks, expected.read_at)


@dataclass(frozen=True, slots=True)
class Definitions:
    """Webhooks as they are copied between partitions."""

    webhooks: Sequence[dict[str, Any]]
    read_at: datetime


class PostgresDeliveryStore:
    """`ports.webhooks.DeliveryStore`.

    may_read: whether the API key of a prefix is valid and may read, where keys are in another
    partition; None checks at the keys of this one.
    """

    def __init__(
        self, database: Database, *, may_read: Callable[[str], Awaitable[bool]] | None = None
    ) -> None:
        self._database = database
        self._may_read = may_read

    async def hold(
        self, webhook_id: UUID, *, job_id: int, now: datetime, until: datetime
    ) -> Webhook | None:
        row = await self._database.fetch_row(_SQL["hold_webhook"], webhook_id, job_id, now, until)
        return Webhook(**row) if row is not None else None

    async def release(self, webhook_id: UUID, *, job_id: int) -> None:
        await self._database.execute(_SQL["release_webhook"], webhook_id, job_id)

    async def due(self, webhook: Webhook, *, now: datetime, limit: int) -> Sequence[DueDelivery]:
        may_read = None
        if self._may_read is not None and webhook.include_content and webhook.created_by:
            may_read = await self._may_read(webhook.created_by)
        rows = await self._database.fetch(_SQL["due_deliveries"], webhook.id, now, limit, may_read)
        return [
            DueDelivery(
                id=row["id"],
                event=event_of(row),
                attempts=row["attempts"],
                created_at=row["created_at"],
                content=row["content"],
            )
            for row in rows
        ]

    async def settle(
        self, webhook: Webhook, attempts: Sequence[Attempt], state: EndpointState, *, now: datetime
    ) -> None:
        await self._database.execute(
            _SQL["settle_deliveries"],
            webhook.id,
            [attempt.delivery_id for attempt in attempts],
            [attempt.response.is_success for attempt in attempts],
            [attempt.retry_at for attempt in attempts],
            [attempt.response.status for attempt in attempts],
            [attempt.response.error for attempt in attempts],
            now,
            state.failures,
            state.failing_since,
            state.circuit_until,
            state.disabled_reason,
        )

    async def prompt(self, now: datetime) -> tuple[bool, int]:
        row = await self._database.fetch_row(_SQL["prompt_webhooks"], now)
        assert row is not None
        return row["present"], row["enqueued"]

    async def prune(self, before: datetime, *, limit: int) -> int:
        row = await self._database.fetch_row(_SQL["prune_events"], before, limit)
        assert row is not None
        return int(row["deleted"])


def event_of(row: asyncpg.Record) -> Event:
    """The event of a row that has its columns."""
    return Event(
        id=row["event_id"],
        type=row["type"],
        project_id=row["project_id"],
        user_id=row["user_id"],
        block_id=row["block_id"],
        data=row["data"],
        created_at=row["event_created_at"],
        position=row["position"],
    )


def _delivery(row: asyncpg.Record) -> Delivery:
    return Delivery(
        id=row["id"],
        event=event_of(row),
        status=row["status"],
        attempts=row["attempts"],
        due_at=row["due_at"],
        attempted_at=row["attempted_at"],
        response_status=row["response_status"],
        error=row["error"],
        created_at=row["created_at"],
        delivered_at=row["delivered_at"],
    )

"""Webhooks, their deliveries and the stream of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from luma_memory.domain.webhook import (
    Attempt,
    Delivery,
    DeliveryStatus,
    DueDelivery,
    EndpointState,
    Event,
    Response,
    Webhook,
    WebhookChanges,
)


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Deliveries, newest first; `next_below` continues the list, None at its end."""

    deliveries: Sequence[Delivery]
    next_below: int | None


class WebhookStore(Protocol):
    """Webhooks as their owners see them. All methods raise StoreUnavailable."""

    async def create(self, webhook: Webhook, *, webhooks_max: int) -> bool:
        """Store it; False if the project already has `webhooks_max`."""
        ...

    async def list(self, *, project_id: str, user_id: str | None) -> Sequence[Webhook]:
        """The webhooks of a project, oldest first; of one user if that is given."""
        ...

    async def change(
        self, webhook: Webhook, changes: WebhookChanges, *, now: datetime, previous_until: datetime
    ) -> Webhook | None:
        """Change it; a rotated secret stays valid until `previous_until`. None: it is gone."""
        ...

    async def delete(self, webhook: Webhook) -> None:
        """Delete it with its deliveries."""
        ...

    async def deliveries(
        self, webhook: Webhook, *, status: DeliveryStatus | None, below: int, limit: int
    ) -> DeliveryPage:
        """Deliveries with ids below that, newest first."""
        ...

    async def delivery(self, webhook: Webhook, delivery_id: int) -> Delivery | None: ...

    async def add_test(self, webhook: Webhook) -> Delivery:
        """Deliver a test event to it."""
        ...

    async def replay(self, webhook: Webhook, delivery_id: int) -> Delivery | None:
        """Deliver the event of a delivery once more; None if there is none (any more)."""
        ...


class DeliveryStore(Protocol):
    """Deliveries as a worker sees them. All methods raise StoreUnavailable."""

    async def hold(
        self, webhook_id: UUID, *, job_id: int, now: datetime, until: datetime
    ) -> Webhook | None:
        """Take the webhook for this job. None: gone, disabled, paused, or another job has it."""
        ...

    async def release(self, webhook_id: UUID, *, job_id: int) -> None:
        """Let other jobs take it."""
        ...

    async def due(self, webhook: Webhook, *, now: datetime, limit: int) -> Sequence[DueDelivery]:
        """Deliveries that are due, in their order."""
        ...

    async def settle(
        self, webhook: Webhook, attempts: Sequence[Attempt], state: EndpointState, *, now: datetime
    ) -> None:
        """Write down how attempts ended."""
        ...


class DeliveryUpkeep(Protocol):
    """Duties of a worker beside its deliveries. All methods raise StoreUnavailable."""

    async def prompt(self, now: datetime) -> tuple[bool, int]:
        """Enqueue jobs for what is due without one.

        Returns whether there are webhooks, and how many jobs were enqueued.
        """
        ...

    async def prune(self, before: datetime, *, limit: int) -> int:
        """Delete up to `limit` events of before that, with their deliveries; how many."""
        ...


class EventStore(Protocol):
    """The stream of events of a project. All methods raise StoreUnavailable."""

    async def subscribe(self, project_id: str, now: datetime) -> int:
        """Record the project's events for its stream; repeated while it is read.

        Returns up to which position events may be missing.
        """
        ...

    async def end(self) -> int:
        """The position of the last event so far, of any project."""
        ...

    async def events(
        self, project_id: str, *, user_id: str | None, types: Sequence[str], after: int, limit: int
    ) -> tuple[Sequence[Event], int]:
        """Events after a position, in order, and the position up to which these are all."""
        ...


class WebhookSender(Protocol):
    """Sends one request."""

    async def send(self, url: str, *, body: bytes, headers: dict[str, str]) -> Response:
        """Never raises for what a receiver does."""
        ...

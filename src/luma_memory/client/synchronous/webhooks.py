# Generated from webhooks.py in `asynchronous`; change it there, then `make format`.

"""Webhooks: have events delivered to a URL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from luma_memory.client.calls import read, segment, without_none, write
from luma_memory.client.responses import parsed
from luma_memory.client.synchronous.connection import Connection
from luma_memory.domain.webhook import DeliveryStatus, EventType
from luma_memory.protocol.webhooks import (
    DeliveryBody,
    DeliveryPageBody,
    WebhookBody,
    WebhookListBody,
)


class Webhooks(Connection):
    """Webhooks of the key's project, or of its user. All need the permission `admin`."""

    def create_webhook(
        self,
        url: str,
        *,
        event_types: Sequence[EventType] = (),
        user_id: str | None = None,
        description: str | None = None,
        include_content: bool = False,
        idempotency_key: str | None = None,
    ) -> WebhookBody:
        """Create a webhook; its `secret` is in this response only. No event_types: all of them."""
        body = without_none(
            url=url,
            event_types=list(event_types),
            user_id=user_id,
            description=description,
            include_content=include_content,
        )
        call = write("POST", "/webhooks", body, idempotency_key=idempotency_key)
        return parsed(WebhookBody, self._send(call))

    def list_webhooks(self) -> list[WebhookBody]:
        """All webhooks, oldest first."""
        return parsed(WebhookListBody, self._send(read("/webhooks"))).webhooks

    def get_webhook(self, webhook_id: UUID) -> WebhookBody:
        """One webhook, without its secret."""
        return parsed(WebhookBody, self._send(read(f"/webhooks/{segment(webhook_id)}")))

    def edit_webhook(
        self,
        webhook_id: UUID,
        *,
        url: str | None = None,
        event_types: Sequence[EventType] | None = None,
        description: str | None = None,
        include_content: bool | None = None,
        enabled: bool | None = None,
        rotate_secret: bool = False,
        idempotency_key: str | None = None,
    ) -> WebhookBody:
        """Change what is not None. rotate_secret: the response has a new `secret`; the one before
        stays valid for 24 hours."""
        body = without_none(
            url=url,
            event_types=None if event_types is None else list(event_types),
            description=description,
            include_content=include_content,
            enabled=enabled,
            rotate_secret=rotate_secret or None,
        )
        path = f"/webhooks/{segment(webhook_id)}"
        call = write("PATCH", path, body, idempotency_key=idempotency_key)
        return parsed(WebhookBody, self._send(call))

    def delete_webhook(self, webhook_id: UUID, *, idempotency_key: str | None = None) -> None:
        """Delete a webhook with its deliveries."""
        path = f"/webhooks/{segment(webhook_id)}"
        self._send(write("DELETE", path, idempotency_key=idempotency_key))

    def list_deliveries(
        self,
        webhook_id: UUID,
        *,
        status: DeliveryStatus | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> DeliveryPageBody:
        """One page of a webhook's deliveries, newest first."""
        path = f"/webhooks/{segment(webhook_id)}/deliveries"
        call = read(path, status=status, limit=limit, cursor=cursor)
        return parsed(DeliveryPageBody, self._send(call))

    def iterate_deliveries(
        self,
        webhook_id: UUID,
        *,
        status: DeliveryStatus | None = None,
        page_size: int | None = None,
    ) -> Iterator[DeliveryBody]:
        """All deliveries of a webhook, newest first, fetched page by page."""
        cursor: str | None = None
        while True:
            page = self.list_deliveries(webhook_id, status=status, limit=page_size, cursor=cursor)
            for delivery in page.deliveries:
                yield delivery
            if (cursor := page.next_cursor) is None:
                return

    def replay_delivery(
        self, webhook_id: UUID, delivery_id: int, *, idempotency_key: str | None = None
    ) -> DeliveryBody:
        """Deliver an event once more, under the same event id."""
        path = f"/webhooks/{segment(webhook_id)}/deliveries/{segment(delivery_id)}/replay"
        call = write("POST", path, idempotency_key=idempotency_key)
        return parsed(DeliveryBody, self._send(call))

    def send_test_event(
        self, webhook_id: UUID, *, idempotency_key: str | None = None
    ) -> DeliveryBody:
        """Deliver an event of the type `webhook.test`."""
        path = f"/webhooks/{segment(webhook_id)}/test"
        call = write("POST", path, idempotency_key=idempotency_key)
        return parsed(DeliveryBody, self._send(call))

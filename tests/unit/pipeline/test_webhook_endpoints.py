"""Who may send the texts of blocks where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import cast

import pytest

from luma_memory.domain.access import Caller, Permission
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import Forbidden
from luma_memory.domain.webhook import Webhook, WebhookChanges
from luma_memory.pipeline.webhooks.endpoints import Webhooks
from luma_memory.ports.jobs import JobSignal
from luma_memory.ports.webhooks import WebhookStore


class OneWebhook:
    """A store of one webhook."""

    def __init__(self) -> None:
        self.webhook: Webhook | None = None

    async def create(self, webhook: Webhook, *, webhooks_max: int) -> bool:
        self.webhook = webhook
        return True

    async def list(self, *, project_id: str, user_id: str | None) -> Sequence[Webhook]:
        return [self.webhook] if self.webhook else []

    async def change(
        self, webhook: Webhook, changes: WebhookChanges, *, now: datetime, previous_until: datetime
    ) -> Webhook:
        keeps = changes.include_content is None
        self.webhook = replace(
            webhook,
            url=changes.url or webhook.url,
            include_content=webhook.include_content if keeps else bool(changes.include_content),
        )
        return self.webhook


class Signal:
    def notify(self) -> None:
        """No worker waits for jobs."""


def caller(key: str, *permissions: Permission) -> Caller:
    return Caller("default", frozenset(permissions), None, f"key {key}")


async def made(store: OneWebhook) -> tuple[Webhooks, Webhook]:
    webhooks = Webhooks(
        cast("WebhookStore", store),
        root=b"0" * 32,
        check_url=lambda _: None,
        clock=SystemClock(),
        signal=cast("JobSignal", Signal()),
        can_deliver=True,
    )
    webhook, _ = await webhooks.create(
        caller("reader", "admin", "read"),
        url="https://a/",
        description=None,
        user_id=None,
        event_types=(),
        include_content=True,
        key=None,
    )
    return webhooks, webhook


async def test_texts_are_sent_elsewhere_only_by_who_may_read_them() -> None:
    store = OneWebhook()
    webhooks, webhook = await made(store)
    elsewhere = WebhookChanges(url="https://b/")
    with pytest.raises(Forbidden, match="permission `read`"):
        await webhooks.change(caller("admin", "admin"), webhook.id, elsewhere)
    assert store.webhook == webhook
    # The key that names the new place is the one whose permission counts.
    await webhooks.change(caller("other", "admin", "read"), webhook.id, elsewhere)
    assert store.webhook is not None
    assert (store.webhook.url, store.webhook.created_by) == ("https://b/", "other")
    # Without the texts, any place may be named.
    without = WebhookChanges(url="https://c/", include_content=False)
    await webhooks.change(caller("admin", "admin"), webhook.id, without)
    assert (store.webhook.url, store.webhook.include_content) == ("https://c/", False)

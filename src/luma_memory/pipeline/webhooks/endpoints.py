"""Webhooks as their owners manage them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from hmac import digest
from typing import Final
from uuid import UUID

from luma_memory.domain.access import Caller
from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import Conflict, Forbidden, Invalid, NotFound
from luma_memory.domain.ids import IdMaker
from luma_memory.domain.webhook import (
    Delivery,
    DeliveryStatus,
    EventType,
    Webhook,
    WebhookChanges,
)
from luma_memory.domain.webhook_signatures import secret_text
from luma_memory.pipeline.webhooks.payload import signing_key
from luma_memory.ports.jobs import JobSignal
from luma_memory.ports.webhooks import DeliveryPage, WebhookStore

# Each makes every event of its project a delivery.
WEBHOOKS_MAX: Final = 50
# Both secrets are valid so long after a rotation.
ROTATION: Final = timedelta(hours=24)
_KEY_NAME: Final = "key "


class Webhooks:
    """All methods raise StoreUnavailable. A caller for one user sees that user's webhooks only.

    check_url: raises Invalid for a URL that a webhook must not have. root: the installation's
    secret, from which those of webhooks are derived. can_deliver: whether workers are in use.
    """

    def __init__(
        self,
        store: WebhookStore,
        *,
        root: bytes,
        check_url: Callable[[str], None],
        clock: Clock,
        signal: JobSignal,
        can_deliver: bool,
    ) -> None:
        self._store = store
        self._root = root
        self._check_url = check_url
        self._clock = clock
        self._signal = signal
        self._can_deliver = can_deliver
        self._ids = IdMaker()

    async def create(
        self,
        caller: Caller,
        *,
        url: str,
        description: str | None,
        user_id: str | None,
        event_types: Sequence[EventType],
        include_content: bool,
        key: str | None,
    ) -> tuple[Webhook, str]:
        """The webhook, and its secret: returned here only. Raises Invalid, Forbidden, Conflict.

        key: identifies the request: repeated, it returns the same webhook.
        """
        if not self._can_deliver:
            raise Conflict(
                "Webhooks are delivered by workers, and MEMORY_WORKER_ENABLED is false",
                code="webhooks_need_worker",
            )
        user_id = caller.narrowed(user_id)
        _check_content(caller, include_content)
        self._check_url(url)
        now = self._clock.now()
        webhook = Webhook(
            id=self._ids.make() if key is None else self._id_of(caller, key),
            project_id=caller.project_id,
            user_id=user_id,
            url=url,
            description=description,
            event_types=tuple(dict.fromkeys(event_types)),
            include_content=include_content,
            created_by=_key_of(caller),
            secret_version=1,
            previous_secret_until=None,
            created_at=now,
            updated_at=now,
            disabled_at=None,
            disabled_reason=None,
            failures=0,
            failing_since=None,
            circuit_until=None,
            last_success_at=None,
        )
        if not await self._store.create(webhook, webhooks_max=WEBHOOKS_MAX):
            webhook = await self._created_before(caller, webhook)
        return webhook, self._secret(webhook)

    async def _created_before(self, caller: Caller, webhook: Webhook) -> Webhook:
        for other in await self.list(caller):
            if other.id == webhook.id:
                if other.url != webhook.url or other.secret_version > 1:
                    raise Invalid(
                        "This Idempotency-Key was used for another webhook, or its secret changed",
                        code="idempotency_key_reused",
                    )
                return other
        raise Conflict(f"A project has at most {WEBHOOKS_MAX} webhooks", code="too_many_webhooks")

    def _id_of(self, caller: Caller, key: str) -> UUID:
        owner = json.dumps([caller.project_id, caller.user_id, key]).encode()
        return UUID(bytes=digest(self._root, b"id " + owner, sha256)[:16], version=4)

    async def list(self, caller: Caller) -> Sequence[Webhook]:
        return await self._store.list(project_id=caller.project_id, user_id=caller.user_id)

    async def find(self, caller: Caller, webhook_id: UUID) -> Webhook:
        """Raises NotFound, also for one that the caller may not see."""
        for webhook in await self.list(caller):
            if webhook.id == webhook_id:
                return webhook
        raise _missing()

    async def change(
        self, caller: Caller, webhook_id: UUID, changes: WebhookChanges
    ) -> tuple[Webhook, str | None]:
        """The changed webhook, and the new secret if it was rotated."""
        webhook = await self.find(caller, webhook_id)
        if changes.url is not None:
            self._check_url(changes.url)
            if webhook.include_content and changes.include_content is None:
                # The texts go where this caller says: its permission counts from now on.
                changes = replace(changes, include_content=True)
        _check_content(caller, changes.include_content)
        now = self._clock.now()
        if changes.include_content:
            webhook = replace(webhook, created_by=_key_of(caller))
        changed = await self._store.change(webhook, changes, now=now, previous_until=now + ROTATION)
        if changed is None:
            raise _missing()
        self._signal.notify()
        return changed, self._secret(changed) if changes.rotate_secret else None

    async def delete(self, caller: Caller, webhook_id: UUID) -> None:
        await self._store.delete(await self.find(caller, webhook_id))

    async def deliveries(
        self,
        caller: Caller,
        webhook_id: UUID,
        *,
        status: DeliveryStatus | None,
        below: int,
        limit: int,
    ) -> DeliveryPage:
        """Deliveries, newest first."""
        webhook = await self.find(caller, webhook_id)
        return await self._store.deliveries(webhook, status=status, below=below, limit=limit)

    async def test(self, caller: Caller, webhook_id: UUID) -> Delivery:
        """Deliver a test event. Raises Conflict for a disabled webhook."""
        webhook = await self._enabled(caller, webhook_id)
        return self._notified(await self._store.add_test(webhook))

    async def replay(self, caller: Caller, webhook_id: UUID, delivery_id: int) -> Delivery:
        """Deliver an event once more, under its id. Raises NotFound, Conflict as `test`."""
        webhook = await self._enabled(caller, webhook_id)
        delivery = await self._store.replay(webhook, delivery_id)
        if delivery is None:
            raise NotFound("There is no such delivery", code="delivery_not_found")
        return self._notified(delivery)

    async def _enabled(self, caller: Caller, webhook_id: UUID) -> Webhook:
        webhook = await self.find(caller, webhook_id)
        if webhook.disabled_at is not None:
            raise Conflict(
                "This webhook is disabled; enable it with PATCH", code="webhook_disabled"
            )
        return webhook

    def _notified(self, delivery: Delivery) -> Delivery:
        self._signal.notify()
        return delivery

    def _secret(self, webhook: Webhook) -> str:
        return secret_text(signing_key(self._root, webhook.id, webhook.secret_version))


def _check_content(caller: Caller, include_content: bool | None) -> None:
    if include_content and "read" not in caller.permissions:
        raise Forbidden(
            "Including content needs the permission `read`, which these credentials do not have",
            code="permission_missing",
        )


def _key_of(caller: Caller) -> str | None:
    """The prefix of the API key that the caller has, if it has one."""
    is_key = caller.name.startswith(_KEY_NAME)
    return caller.name.removeprefix(_KEY_NAME) if is_key else None


def _missing() -> NotFound:
    return NotFound("There is no such webhook", code="webhook_not_found")

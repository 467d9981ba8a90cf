"""Webhooks of all partitions: defined in the home partition, copied to the others.

An event is written, and its deliveries with it, where its user is. So every partition has a copy of
each webhook, with the state of its own deliveries. A change is written at home first, then to the
copies; `copy_webhooks`, which workers call at intervals, updates those that did not respond.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.job import Job, Outcome
from luma_memory.domain.partition import HOME, created_in
from luma_memory.domain.webhook import Delivery, DeliveryStatus, Webhook, WebhookChanges
from luma_memory.partitions.jobs import merged_page
from luma_memory.partitions.places import Places
from luma_memory.partitions.router import Routed
from luma_memory.partitions.work_checks import WorkChecks
from luma_memory.ports.webhooks import DeliveryPage
from luma_memory.store.webhooks import PostgresDeliveryStore, PostgresWebhookStore

# How long a copy may stay behind after its partition did not respond.
COPY_SECONDS: Final = 15.0


async def create(
    routed: Routed[PostgresWebhookStore], webhook: Webhook, *, webhooks_max: int
) -> bool:
    if not await routed.at(HOME, lambda store: store.create(webhook, webhooks_max=webhooks_max)):
        return False
    with contextlib.suppress(LumaMemoryError):  # it exists: workers copy it later
        await copy_webhooks(routed)
    return True


async def listed(
    routed: Routed[PostgresWebhookStore], *, project_id: str, user_id: str | None
) -> Sequence[Webhook]:
    """As at home, with the worst state of their deliveries in the partitions that respond."""
    found = await routed.at(HOME, lambda store: store.list(project_id=project_id, user_id=user_id))
    if not found:
        return found
    copies = await routed.outcomes(
        lambda store: store.list(project_id=project_id, user_id=user_id),
        numbers=range(HOME + 1, routed.places.count),
    )
    states: dict[UUID, list[Webhook]] = {}
    for outcome in copies:
        for one in () if isinstance(outcome, LumaMemoryError) else outcome:
            states.setdefault(one.id, []).append(one)
    return [_with_states(one, states.get(one.id, ())) for one in found]


async def find(
    routed: Routed[PostgresWebhookStore], webhook_id: UUID, *, project_id: str
) -> Webhook | None:
    return await routed.at(HOME, lambda store: store.find(webhook_id, project_id=project_id))


def _with_states(webhook: Webhook, copies: Sequence[Webhook]) -> Webhook:
    worst = max((webhook, *copies), key=lambda one: (one.disabled_at is not None, one.failures))
    successes = [one.last_success_at for one in (webhook, *copies) if one.last_success_at]
    return replace(
        webhook,
        disabled_at=worst.disabled_at,
        disabled_reason=worst.disabled_reason,
        failures=worst.failures,
        failing_since=worst.failing_since,
        circuit_until=worst.circuit_until,
        last_success_at=max(successes, default=None),
    )


async def change(
    routed: Routed[PostgresWebhookStore],
    webhook: Webhook,
    changes: WebhookChanges,
    *,
    now: datetime,
    previous_until: datetime,
) -> Webhook | None:
    """`enabled` also changes the copies' own state; what they define comes from home."""
    changed = await routed.at(
        HOME,
        lambda store: store.change(webhook, changes, now=now, previous_until=previous_until),
    )
    if changes.enabled is not None or changes.url is not None:
        own = WebhookChanges(enabled=changes.enabled, url=changes.url)
        await routed.outcomes(
            lambda store: store.change(webhook, own, now=now, previous_until=previous_until),
            numbers=range(HOME + 1, routed.places.count),
        )
    with contextlib.suppress(LumaMemoryError):
        await copy_webhooks(routed)
    return changed


async def delete(routed: Routed[PostgresWebhookStore], webhook: Webhook) -> None:
    await routed.at(HOME, lambda store: store.delete(webhook))
    await routed.outcomes(
        lambda store: store.delete(webhook), numbers=range(HOME + 1, routed.places.count)
    )


async def deliveries(
    routed: Routed[PostgresWebhookStore],
    webhook: Webhook,
    *,
    status: DeliveryStatus | None,
    below: int,
    limit: int,
) -> DeliveryPage:
    async def page(number: int, place: int) -> tuple[Sequence[Delivery], int | None]:
        found = await routed.at(
            number,
            lambda store: store.deliveries(webhook, status=status, below=place, limit=limit),
        )
        return found.deliveries, found.next_below

    return DeliveryPage(*await merged_page(routed.places.count, below, limit, page))


async def delivery(
    routed: Routed[PostgresWebhookStore], webhook: Webhook, delivery_id: int
) -> Delivery | None:
    return await _found(routed, delivery_id, lambda store: store.delivery(webhook, delivery_id))


async def add_test(routed: Routed[PostgresWebhookStore], webhook: Webhook) -> Delivery:
    return await routed.at(HOME, lambda store: store.add_test(webhook))


async def replay(
    routed: Routed[PostgresWebhookStore], webhook: Webhook, delivery_id: int
) -> Delivery | None:
    return await _found(
        routed, delivery_id, lambda store: store.replay(webhook, delivery_id), writes=True
    )


async def _found(
    routed: Routed[PostgresWebhookStore],
    delivery_id: int,
    work: Callable[[PostgresWebhookStore], Awaitable[Delivery | None]],
    *,
    writes: bool = False,
) -> Delivery | None:
    """Where it was created, or where its user has been moved since."""
    first = created_in(delivery_id)
    if first >= routed.places.count:
        return None
    for number in dict.fromkeys([first, *range(routed.places.count)]):
        if (found := await routed.at(number, work, writes=writes)) is not None:
            return found
    return None


async def copy_webhooks(routed: Routed[PostgresWebhookStore]) -> None:
    """Bring the copies up to date, those that respond. Raises if the home partition does not."""
    expected = await routed.at(HOME, lambda store: store.definitions())
    await routed.outcomes(
        lambda store: store.take_definitions(expected), numbers=range(HOME + 1, routed.places.count)
    )


class PartitionedDeliveries:
    """What a worker calls of `ports.webhooks.DeliveryStore` beside the jobs: in all partitions."""

    def __init__(
        self,
        places: Places,
        stores: Sequence[PostgresDeliveryStore],
        webhooks: Sequence[PostgresWebhookStore],
        checks: WorkChecks,
        monotonic: Callable[[], float],
    ) -> None:
        self._routed = Routed(places, stores)
        self._webhooks = Routed(places, webhooks)
        self._checks = checks
        self._monotonic = monotonic
        self._copied_at = float("-inf")

    async def prompt(self, now: datetime) -> tuple[bool, int]:
        if self._monotonic() - self._copied_at >= COPY_SECONDS:
            self._copied_at = self._monotonic()
            await copy_webhooks(self._webhooks)
            self._checks.expire()
        await self._checks.fresh(is_idle=False)
        found = await self._routed.outcomes(
            lambda store: store.prompt(now), numbers=self._checks.with_webhooks
        )
        enqueued = sum(one[1] for one in found if not isinstance(one, LumaMemoryError))
        if enqueued:
            self._checks.expire()
        return bool(self._checks.with_webhooks), enqueued

    async def prune(self, before: datetime, *, limit: int) -> int:
        found = await self._routed.outcomes(lambda store: store.prune(before, limit=limit))
        return max((one for one in found if not isinstance(one, LumaMemoryError)), default=0)


class ByPartition:
    """A handler of jobs: that of the partition where a job was claimed."""

    def __init__(
        self, places: Places, handlers: Sequence[Callable[[Job], Awaitable[Outcome]]]
    ) -> None:
        self._places = places
        self._handlers = handlers

    async def __call__(self, job: Job) -> Outcome:
        handler = self._handlers[job.partition]
        return await self._places.run(job.partition, lambda: handler(job), writes=True)

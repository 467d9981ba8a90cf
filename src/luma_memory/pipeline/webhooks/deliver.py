"""The `deliver_webhook` job: send what is due for one webhook.

The job that runs holds its webhook, so at most one job sends to a receiver, and what belongs
together is decided in one place: the order of a user's events, how many requests are in flight, and
when to leave the receiver alone. A receiver that hangs occupies its own job, and no other's.

Each delivery is tried at least once: what was sent is recorded afterwards, and sent again, with the
same id, if this process ends in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from luma_memory.domain.clock import Clock
from luma_memory.domain.job import Cancel, Defer, Done, Job, Outcome
from luma_memory.domain.webhook import Attempt, DueDelivery, EndpointState, Webhook
from luma_memory.domain.webhook_signatures import signed_headers
from luma_memory.pipeline.webhooks.payload import body_of, valid_keys
from luma_memory.pipeline.webhooks.schedule import (
    CIRCUIT_FAILURES,
    initial_state,
    retry_at,
    state_after,
)
from luma_memory.ports.webhooks import DeliveryStore, WebhookSender
from luma_memory.telemetry.events import Emit, WebhookAttempted, WebhookDisabled

# Requests in flight to one receiver.
CONCURRENCY: Final = 8
# Deliveries read and settled together: what is sent twice, at most, when a worker is killed.
BATCH: Final = 128
# Then other webhooks get this job's place.
SLICE_SECONDS: Final = 20.0
# Beyond the slice and the last request: to write down how it ended.
MARGIN_SECONDS: Final = 20.0


class DeliverWebhooks:
    """root: the installation's secret for webhooks. unit: the wait after a first failed attempt."""

    def __init__(
        self,
        store: DeliveryStore,
        sender: WebhookSender,
        *,
        root: bytes,
        unit: timedelta,
        request_seconds: float,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._store = store
        self._sender = sender
        self._root = root
        self._unit = unit
        self._hold = timedelta(seconds=job_seconds(request_seconds))
        self._clock = clock
        self._emit = emit

    async def __call__(self, job: Job) -> Outcome:
        webhook_id = _webhook_id(job)
        if webhook_id is None:
            return Cancel("the job names no webhook")
        ends = self._clock.monotonic() + SLICE_SECONDS
        while True:
            now = self._clock.now()
            webhook = await self._store.hold(
                webhook_id, job_id=job.id, now=now, until=now + self._hold
            )
            if webhook is None:
                # Gone, disabled, left alone for now, or held by a job that will see what is due.
                return Done()
            is_drained = await self._send_due(webhook, ends)
            await self._store.release(webhook_id, job_id=job.id)
            if not is_drained:
                return Defer(self._clock.now(), "more deliveries are due")
            # A job that found the webhook held has ended: what it was enqueued for is here now.
            if not await self._store.due(webhook, now=self._clock.now(), limit=1):
                return Done()

    async def _send_due(self, webhook: Webhook, ends: float) -> bool:
        """Send batches until nothing is due or may be sent; False when the time is over."""
        state = initial_state(webhook)
        while self._clock.monotonic() < ends:
            is_probe = state.failures >= CIRCUIT_FAILURES
            due = await self._store.due(
                webhook, now=self._clock.now(), limit=1 if is_probe else BATCH
            )
            if not due:
                return True
            batch = _Batch(webhook, state)
            await self._send(batch, due, ends)
            state = batch.state
            await self._store.settle(webhook, batch.attempts, state, now=self._clock.now())
            self._report(batch)
            if batch.is_stopped:
                return True
        return False

    async def _send(self, batch: _Batch, due: Sequence[DueDelivery], ends: float) -> None:
        """Users in parallel, the events of one in their order."""
        of_user: dict[str, list[DueDelivery]] = {}
        for delivery in due:
            of_user.setdefault(delivery.event.user_id, []).append(delivery)
        waiting = iter(of_user.values())

        async def sending() -> None:
            for deliveries in waiting:
                for delivery in deliveries:
                    if batch.is_stopped or self._clock.monotonic() >= ends:
                        return
                    await self._attempt(batch, delivery)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(CONCURRENCY, len(of_user))):
                tasks.create_task(sending())

    async def _attempt(self, batch: _Batch, delivery: DueDelivery) -> None:
        body = body_of(delivery)
        now = self._clock.now()
        headers = signed_headers(
            valid_keys(self._root, batch.webhook, now=now),
            message_id=delivery.event.public_id,
            timestamp=int(now.timestamp()),
            body=body,
        )
        response = await self._sender.send(batch.webhook.url, body=body, headers=headers)
        now = self._clock.now()
        again = retry_at(delivery, response, unit=self._unit, now=now)
        batch.attempts.append(Attempt(delivery.id, response, again))
        is_open = batch.is_stopped
        state = state_after(batch.state, response, is_final=again is None, unit=self._unit, now=now)
        # Requests that were in flight when the circuit opened do not open it further.
        if not is_open or response.is_success:
            batch.state = state
        batch.is_stopped = batch.state.circuit_until is not None or (
            batch.state.disabled_reason is not None
        )

    def _report(self, batch: _Batch) -> None:
        for attempt in batch.attempts:
            self._emit(WebhookAttempted(is_success=attempt.response.is_success))
        if (reason := batch.state.disabled_reason) is not None:
            self._emit(WebhookDisabled(str(batch.webhook.id), reason))


class _Batch:
    """Attempts of one webhook that are recorded together."""

    def __init__(self, webhook: Webhook, state: EndpointState) -> None:
        self.webhook = webhook
        # An open circuit whose time has come: one request shows whether it closes.
        self.state = EndpointState(state.failures, state.failing_since)
        self.attempts: list[Attempt] = []
        self.is_stopped = False


def job_seconds(request_seconds: float) -> float:
    """The time that a job may take."""
    return SLICE_SECONDS + request_seconds + MARGIN_SECONDS


def _webhook_id(job: Job) -> UUID | None:
    try:
        return UUID(str(job.payload.get("webhook_id")))
    except ValueError:
        return None

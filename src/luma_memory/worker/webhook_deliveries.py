"""Deliveries of webhooks in every worker, beside its other jobs.

They wait for receivers, and not for this machine, so they have slots of their own: a receiver that
hangs takes none from enrichment, and a long queue of blocks delays no event.

In the table of workers this is a worker of its own, with one job type. Besides claiming and
reconciling, it enqueues jobs for retries whose time has come and deletes old events.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from luma_memory.domain.clock import Clock
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.ports.jobs import JobQueue, WorkerPresence
from luma_memory.ports.webhooks import DeliveryUpkeep
from luma_memory.telemetry.events import Emit, Event, JobCompleted, JobFailed
from luma_memory.worker.claimer import Claimer
from luma_memory.worker.duty import Duty, periodic
from luma_memory.worker.reconciler import Reconciler
from luma_memory.worker.slots import Slots

# Webhooks that are delivered to at once.
SLOTS: Final = 32
STOP_GRACE_SECONDS: Final = 5.0
PRUNE_SECONDS: Final = 60.0
PRUNE_ROWS: Final = 1_000
PRUNE_BATCHES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class DeliveryTimes:
    """lease: longer than the deadline of a job. keep_events: their retention."""

    lease: timedelta
    poll: timedelta = timedelta(seconds=1)
    keep_events: timedelta = timedelta(days=7)


class WebhookDeliveries:
    """Starts and stops with its worker."""

    def __init__(
        self,
        queue: JobQueue,
        deliveries: DeliveryUpkeep,
        runner: JobRunner,
        presence: WorkerPresence,
        *,
        times: DeliveryTimes,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._deliveries = deliveries
        self._presence = presence
        self._times = times
        self._clock = clock
        self._has_webhooks = True  # until the first round has looked
        worker_id, poll = presence.worker_id, times.poll.total_seconds()
        self._slots = Slots(
            queue, runner, worker_id=worker_id, size=SLOTS, emit=emit, claims_ahead=False
        )
        self._claimer = Claimer(
            queue,
            self._slots,
            worker_id=worker_id,
            job_types=runner.job_types,
            lease=times.lease,
            poll_interval=times.poll,
            emit=emit,
        )
        reconciler = Reconciler(
            queue, self._slots, worker_id=worker_id, claiming=self._claimer.claiming
        )
        self.duties = [
            Duty("claim webhooks", self._claimer.loop),
            periodic("keep webhooks", reconciler.check, every_seconds=max(poll, 0.5), emit=emit),
            periodic("prompt webhooks", self._prompt, every_seconds=poll, emit=emit),
            periodic("prune events", self._prune, every_seconds=PRUNE_SECONDS, emit=emit),
        ]

    def note(self, event: Event) -> None:
        """A job that ended in this process may have written events: look for them at once."""
        if isinstance(event, (JobCompleted, JobFailed)):
            self._wake()

    async def start(self) -> None:
        await self._presence.start(running=lambda: self._slots.busy, on_signal=self._wake)
        for duty in self.duties:
            duty.start()

    async def stop(self) -> None:
        """Idempotent; harmless before start."""
        await asyncio.gather(*(duty.stop() for duty in self.duties))
        await self._slots.release_all(grace_seconds=STOP_GRACE_SECONDS)
        await self._presence.stop()

    def _wake(self) -> None:
        # Without webhooks no job of another type costs a statement here.
        if self._has_webhooks:
            self._claimer.wake()

    async def _prompt(self) -> None:
        self._has_webhooks, enqueued = await self._deliveries.prompt(self._clock.now())
        if enqueued:
            self._claimer.wake()

    async def _prune(self) -> None:
        before = self._clock.now() - self._times.keep_events
        for _ in range(PRUNE_BATCHES_MAX):
            if await self._deliveries.prune(before, limit=PRUNE_ROWS) < PRUNE_ROWS:
                return

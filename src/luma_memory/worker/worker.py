"""The worker: a few duties around one queue.

    claim      fill free slots; woken by notifications, by a freed slot, or by the poll interval
    keep       reconcile the running jobs with the table: cancelled, taken over, lost claims
    rescue     reclaim the jobs of dead workers
    prune      delete ended jobs past their retention, in bounded batches
    schedule   one weekly_summary job per user and week, where summaries can be written
    backfill   jobs for blocks that were enriched without an unavailable provider
    reembed    jobs for scopes whose vectors belong to another model, when requested
    health     a periodic log line with the worker's state
    presence   (queue.session) heartbeat, session lock, LISTEN
    webhooks   (worker.webhook_deliveries) deliveries of events, in slots of their own

Any number of workers run all of them. To stop, a worker claims no more jobs, lets short jobs end
and releases the rest.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from luma_memory.domain.clock import Clock
from luma_memory.pipeline.enrichment.backfill import Backfill
from luma_memory.pipeline.enrichment.reembed import Reembedding
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.ports.jobs import JobQueue, QueueUpkeep, WorkerPresence
from luma_memory.telemetry.events import Emit, Event, WorkerHealth, WorkerStarting, WorkerStopped
from luma_memory.worker.claimer import Claimer
from luma_memory.worker.duty import Duty, periodic
from luma_memory.worker.reconciler import Reconciler
from luma_memory.worker.slots import Slots
from luma_memory.worker.webhook_deliveries import WebhookDeliveries

STOP_GRACE_SECONDS = 5.0
# Rows one statement deletes or users one statement schedules: tens of milliseconds.
BATCH_ROWS_MAX = 1_000
BATCHES_PER_ROUND_MAX = 100


@dataclass(frozen=True, slots=True)
class WorkerTimes:
    """Durations and intervals. The lease is longer than a job's deadline, so a job's lease expires
    only if its worker is dead, or cannot write a result back although PostgreSQL is available.
    """

    lease: timedelta
    poll: timedelta = timedelta(seconds=1)
    health: timedelta = timedelta(minutes=1)
    prune: timedelta = timedelta(minutes=1)
    schedule: timedelta = timedelta(minutes=10)
    backfill: timedelta = timedelta(seconds=5)
    keep_completed: timedelta = timedelta(days=1)
    keep_failed: timedelta = timedelta(days=30)


class Worker:
    """Runs jobs until it is stopped."""

    def __init__(
        self,
        queue: JobQueue,
        upkeep: QueueUpkeep,
        runner: JobRunner,
        presence: WorkerPresence,
        *,
        concurrent_jobs_max: int,
        times: WorkerTimes,
        clock: Clock,
        emit: Emit,
        backfill: Backfill | None = None,
        reembedding: Reembedding | None = None,
        claims_ahead: bool = True,
        webhooks: WebhookDeliveries | None = None,
    ) -> None:
        self._webhooks = webhooks
        if webhooks is not None:
            emit = _noted(emit, webhooks)
        self._queue = queue
        self._upkeep = upkeep
        self._presence = presence
        self._backfill = backfill
        self._reembedding = reembedding
        self._concurrent_jobs_max = concurrent_jobs_max
        self._times = times
        self._clock = clock
        self._emit = emit
        self._started = clock.monotonic()
        worker_id = presence.worker_id
        self._slots = Slots(
            queue,
            runner,
            worker_id=worker_id,
            size=concurrent_jobs_max,
            emit=emit,
            claims_ahead=claims_ahead,
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
        self._reconciler = Reconciler(
            queue, self._slots, worker_id=worker_id, claiming=self._claimer.claiming
        )
        self._duties = self._make_duties(schedules=runner.works_on("weekly_summary"))

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Raises the error of a failed duty after releasing the jobs."""
        self._emit(WorkerStarting(self._presence.worker_id, self._concurrent_jobs_max))
        await self._presence.start(running=lambda: self._slots.busy, on_signal=self._claimer.wake)
        for duty in self._duties:
            duty.start()
        duties = self._duties
        if self._webhooks is not None:
            await self._webhooks.start()
            duties = [*duties, *self._webhooks.duties]
        ends: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait())]
        ends += [asyncio.create_task(duty.ended()) for duty in duties]
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            await asyncio.shield(self._stop())

    async def _stop(self) -> None:
        if self._webhooks is not None:
            await self._webhooks.stop()
        await asyncio.gather(*(duty.stop() for duty in self._duties))
        released = await self._slots.release_all(grace_seconds=STOP_GRACE_SECONDS)
        await self._presence.stop()
        self._emit(WorkerStopped(self._presence.worker_id, released))

    def _make_duties(self, *, schedules: bool) -> list[Duty]:
        poll = self._times.poll.total_seconds()
        rounds = [
            # A worker is declared dead after two failed checks 0.4 s apart: by default its jobs
            # restart in less than a second.
            ("rescue", self._rescue, poll / 4),
            ("keep", self._reconciler.check, max(poll, 0.5)),
            ("prune", self._prune, self._times.prune.total_seconds()),
            ("health check", self._health, self._times.health.total_seconds()),
        ]
        if schedules:
            rounds.append(("schedule", self._schedule, self._times.schedule.total_seconds()))
        if self._backfill is not None:
            rounds.append(
                ("backfill", self._enqueue_backfill, self._times.backfill.total_seconds())
            )
        if self._reembedding is not None:
            rounds.append(("reembed", self._reembed, self._times.backfill.total_seconds()))
        return [
            Duty("claim", self._claimer.loop),
            *(
                periodic(name, work, every_seconds=seconds, emit=self._emit)
                for name, work, seconds in rounds
            ),
        ]

    async def _rescue(self) -> None:
        if await self._queue.rescue(self._presence.worker_id):
            self._claimer.wake()

    async def _prune(self) -> None:
        now = self._clock.now()
        for _ in range(BATCHES_PER_ROUND_MAX):
            deleted = await self._upkeep.prune(
                completed_before=now - self._times.keep_completed,
                failed_before=now - self._times.keep_failed,
                limit=BATCH_ROWS_MAX,
            )
            if deleted < BATCH_ROWS_MAX:
                return

    async def _schedule(self) -> None:
        for _ in range(BATCHES_PER_ROUND_MAX):
            made = await self._upkeep.schedule_weekly_summaries(
                self._clock.now(), limit=BATCH_ROWS_MAX
            )
            if made:
                self._claimer.wake()
            if made < BATCH_ROWS_MAX:
                return

    async def _enqueue_backfill(self) -> None:
        if self._backfill is not None and await self._backfill.enqueue_due():
            self._claimer.wake()

    async def _reembed(self) -> None:
        if self._reembedding is not None and await self._reembedding.round():
            self._claimer.wake()

    async def _health(self) -> None:
        stats = await self._queue.stats()
        self._emit(
            WorkerHealth(
                uptime_seconds=round(self._clock.monotonic() - self._started),
                jobs_processing=self._slots.busy,
                pending=stats.pending,
                processing=stats.processing,
                completed=stats.completed,
                failed=stats.failed,
            )
        )


def _noted(emit: Emit, webhooks: WebhookDeliveries) -> Emit:
    def emit_and_note(event: Event) -> None:
        emit(event)
        webhooks.note(event)

    return emit_and_note

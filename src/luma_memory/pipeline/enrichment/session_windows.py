"""Embed windows of turns: `reembed` jobs that have a session as payload.

A worker enqueues the job of a block's session just before it writes the block back. The job runs a
few seconds later, after other jobs, and covers all turns stored by then. So a burst of turns costs
one job, no block becomes active later because of it, and a crash loses nothing: the job exists
before the block is active. A job that finds all windows up to date ends at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from luma_memory.concurrency.coalesce import Coalescer
from luma_memory.concurrency.parted import Batches, parted
from luma_memory.domain.block import BlockToEnrich
from luma_memory.domain.clock import Clock
from luma_memory.domain.enrichment import ModelCall
from luma_memory.domain.errors import ProviderPaused, RateLimited, is_outage
from luma_memory.domain.job import Cancel, Done, Handler, Job, NewJob, Outcome
from luma_memory.domain.scope import Scope
from luma_memory.domain.windows import SESSION_START, MadeWindow, Place
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.pipeline.enrichment.scope_embedders import ScopeEmbedders
from luma_memory.pipeline.enrichment.windows import (
    TURN_CHARACTERS,
    TURNS_BEFORE,
    Window,
    plan_windows,
)
from luma_memory.ports.jobs import JobProducer
from luma_memory.ports.models import Embedder
from luma_memory.ports.windows import WindowStore

# Turns that follow within this time share the job.
DELAY: Final = timedelta(seconds=2)
# After blocks, which are meanwhile found by their own terms and vectors.
PRIORITY: Final = -10
# Turns per job: about a second of embedding on one core.
TURNS_MAX: Final = 200
SESSIONS_MAX: Final = 100
_WINDOWS_PER_CALL: Final = 16
_PENDING_MAX: Final = 10_000
_JOBS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class _PendingJob:
    """An enqueued job of a session."""

    run_at: datetime
    start: Place  # covers the turns from here on
    enqueued: asyncio.Future[None]


class SessionWindows:
    """Enqueues jobs for sessions with new turns, and handles them.

    embedder: None when windows are disabled; no job is enqueued then, and jobs are cancelled.
    scope_embedders: the embedder of each scope; None to use `embedder` for all. part_of: the
    partition of a user, whose jobs have statements of their own; None if there is one partition.
    """

    def __init__(
        self,
        store: WindowStore,
        producer: JobProducer,
        *,
        embedder: Embedder | None,
        clock: Clock,
        scope_embedders: ScopeEmbedders | None = None,
        spending: Spending | None = None,
        part_of: Callable[[Scope], int] | None = None,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._scope_embedders = scope_embedders
        self._spending = spending
        self._clock = clock
        self._producer = producer
        # Jobs that arrive while a statement is in flight share the next one.
        self._jobs: Batches[NewJob, None] = parted(
            lambda: Coalescer(self._enqueue_all, items_max=_JOBS_MAX, is_shared=is_outage),
            None if part_of is None else lambda job: part_of(job.scope),
        )
        # The pending job of each session, which will also cover later turns.
        self._pending_jobs: dict[tuple[Scope, str], _PendingJob] = {}

    async def enqueue(self, blocks: Sequence[BlockToEnrich]) -> None:
        """Enqueue jobs for the windows around blocks. Raises StoreUnavailable."""
        if self._embedder is None:
            return
        now = self._clock.now()
        # Blocks that share a job also share the wait for it; the earliest determines its start.
        enqueued = {
            self._job_for(block, block.session_id, now)
            for block in sorted(blocks, key=lambda block: (block.occurred_at, block.id))
            if block.session_id is not None
        }
        for job in enqueued:
            await asyncio.shield(job)

    def _job_for(
        self, block: BlockToEnrich, session_id: str, now: datetime
    ) -> asyncio.Future[None]:
        """Completes when the job that covers the block's session is enqueued."""
        key, place = (block.scope, session_id), Place(block.occurred_at, block.id)
        pending = self._pending_jobs.get(key)
        if pending is None or pending.run_at <= now or pending.start > place:
            run_at = now + DELAY
            job = _session_job(block.scope, session_id, place, run_at)
            pending = _PendingJob(run_at, place, asyncio.ensure_future(self._jobs.submit(job)))
            self._remember(key, pending, now)
        return pending.enqueued

    async def __call__(self, job: Job) -> Outcome:
        if self._embedder is None:
            return Cancel("windows of turns are disabled")
        session, start = job.payload.get("session_id"), _start(job.payload)
        if isinstance(session, str) and start is not None:
            embedder = self._embedder
            if self._scope_embedders is not None:
                embedder = await self._scope_embedders.of_scope(job.scope)
            try:
                await self._make(job.scope, session, start, embedder)
            except ProviderPaused as error:  # the circuit is open: consume no attempt
                raise RateLimited(
                    str(error), retry_after_seconds=error.retry_after_seconds, code=error.code
                ) from error
            return Done()
        if job.payload.get("sessions") == "all":
            await self._spread(job.scope, str(job.payload.get("after", "")))
            return Done()
        return Cancel("the job has neither a session nor `all`")

    async def _make(self, scope: Scope, session_id: str, start: Place, embedder: Embedder) -> None:
        turns = await self._store.turns(
            scope, session_id, start, limit=TURNS_MAX, before=TURNS_BEFORE, text=TURN_CHARACTERS
        )
        model = embedder.model.id
        plan = plan_windows(turns, embedding_model=model)
        made = [
            window
            for first in range(0, len(plan.windows), _WINDOWS_PER_CALL)
            for window in await self._embed(
                scope, embedder, plan.windows[first : first + _WINDOWS_PER_CALL]
            )
        ]
        if turns:
            await self._store.store(
                scope,
                made,
                embedding_model=model,
                dropped=plan.dropped,
                turns=[turn.place.block_id for turn in turns],
            )
        if sum(not turn.is_before for turn in turns) == TURNS_MAX:
            await self._jobs.submit(_session_job(scope, session_id, turns[-1].place, None))

    async def _embed(
        self, scope: Scope, embedder: Embedder, windows: Sequence[Window]
    ) -> Sequence[MadeWindow]:
        embeddings = await embedder.embed_documents([window.text for window in windows])
        if self._spending is not None:
            tokens = sum(embedding.token_count for embedding in embeddings)
            calls = [ModelCall(embedder.model.id, tokens)]
            self._spending.record(scope, "embedding", calls, blocks=0)
        return [
            MadeWindow(window.block_id, window.fingerprint, embedding.vector)
            for window, embedding in zip(windows, embeddings, strict=True)
        ]

    async def _spread(self, scope: Scope, after: str) -> None:
        """Enqueue a job for each session of the scope, page by page."""
        names = await self._store.sessions(scope, after=after, limit=SESSIONS_MAX)
        jobs = [_session_job(scope, name, SESSION_START, None) for name in names]
        if len(names) == SESSIONS_MAX:
            payload = {"sessions": "all", "after": names[-1]}
            jobs.append(NewJob(scope, "reembed", payload, priority=PRIORITY))
        await asyncio.gather(*(self._jobs.submit(job) for job in jobs))

    async def _enqueue_all(self, jobs: Sequence[NewJob]) -> Sequence[None]:
        await self._producer.enqueue(jobs)
        return [None] * len(jobs)

    def _remember(self, key: tuple[Scope, str], pending: _PendingJob, now: datetime) -> None:
        if len(self._pending_jobs) >= _PENDING_MAX:
            self._pending_jobs = {k: a for k, a in self._pending_jobs.items() if a.run_at > now}
        if len(self._pending_jobs) < _PENDING_MAX:
            self._pending_jobs[key] = pending
            pending.enqueued.add_done_callback(lambda done: self._forget_failed(key, done))

    def _forget_failed(self, key: tuple[Scope, str], enqueued: asyncio.Future[None]) -> None:
        if enqueued.cancelled() or enqueued.exception() is not None:
            self._pending_jobs.pop(key, None)


def with_windows(windows: SessionWindows, vectors: Handler) -> Handler:
    """The handler of `reembed`: jobs with a payload go to `windows`, others to `vectors`."""

    async def handle(job: Job) -> Outcome:
        return await (windows(job) if job.payload else vectors(job))

    return handle


def _session_job(scope: Scope, session_id: str, start: Place, run_at: datetime | None) -> NewJob:
    payload = {
        "session_id": session_id,
        "from": [start.at.isoformat(), str(start.block_id)],
    }
    return NewJob(scope, "reembed", payload, priority=PRIORITY, run_at=run_at)


def _start(payload: Mapping[str, Any]) -> Place | None:
    """Where the job starts, or None for an unknown payload."""
    match payload.get("from"):
        case [str(at), str(block_id)]:
            try:
                return Place(datetime.fromisoformat(at), UUID(block_id))
            except ValueError:
                return None
        case _:
            return None

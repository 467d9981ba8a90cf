"""How slots are filled: the next claim is sent before the previous one's jobs start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import StoreUnavailable
from luma_memory.domain.job import Done, Job, Outcome
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.ports.jobs import JobQueue
from luma_memory.telemetry.events import JobLost, WorkerRoundFailed
from luma_memory.testing.event_log import EventLog
from luma_memory.worker import claimer as claimer_module
from luma_memory.worker import slots as slots_module
from luma_memory.worker.claimer import Claimer
from luma_memory.worker.slots import Slots


@dataclass
class Queue:
    """Hands out `waiting` jobs; every statement waits for its turn to answer."""

    waiting: int
    limits: list[int] = field(default_factory=list)
    claims: asyncio.Queue[asyncio.Event] = field(default_factory=asyncio.Queue)
    completed: int = 0
    next_id: int = 1
    away: bool = False
    attempt: int = 1
    released: list[int] = field(default_factory=list)

    async def claim(self, _worker_id: str, *, limit: int, **_options: Any) -> Sequence[Job]:
        self.limits.append(limit)
        response = asyncio.Event()
        self.claims.put_nowait(response)
        await response.wait()
        count = min(limit, self.waiting)
        self.waiting -= count
        first, self.next_id = self.next_id, self.next_id + count
        return [
            Job(first + n, Scope("default", "ada"), "reembed", None, self.attempt, 3)
            for n in range(count)
        ]

    async def complete(self, _worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
        if self.away:
            raise StoreUnavailable("PostgreSQL does not respond")
        self.completed += len(jobs)
        return [True] * len(jobs)

    async def release(self, _worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
        self.released += [job.id for job in jobs]
        return [True] * len(jobs)

    async def release_all_claims(self) -> None:
        while True:
            (await self.claims.get()).set()

    async def release_next_claim(self) -> None:
        (await asyncio.wait_for(self.claims.get(), 60)).set()


@dataclass
class Filled:
    """A running claimer on a scripted queue."""

    queue: Queue
    slots: Slots
    claimer: Claimer
    events: EventLog
    begun: list[int] = field(default_factory=list)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - a few turns of the same loop
                await asyncio.sleep(0)


def _filled(
    *,
    waiting: int,
    slots: int,
    handle: Callable[[Job], Awaitable[Outcome]] | None = None,
    claims_ahead: bool = True,
) -> Filled:
    queue, events = Queue(waiting), EventLog()
    made: list[Filled] = []

    async def wait_to_end(job: Job) -> Outcome:
        made[0].begun.append(job.id)
        await made[0].may_end.wait()
        return Done()

    port = cast("JobQueue", queue)
    runner = JobRunner(
        port,
        {"reembed": handle or wait_to_end},
        worker_id="w",
        timeout=timedelta(seconds=60),
        backoff=timedelta(seconds=1),
        record_timeout=timedelta(0),
        clock=SystemClock(),
        emit=events,
        report_bug=lambda _message, _error: None,
    )
    slots_ = Slots(port, runner, worker_id="w", size=slots, emit=events, claims_ahead=claims_ahead)
    claimer = Claimer(
        port,
        slots_,
        worker_id="w",
        job_types=["reembed"],
        lease=timedelta(seconds=90),
        poll_interval=timedelta(seconds=60),
        emit=events,
    )
    made.append(Filled(queue, slots_, claimer, events))
    return made[0]


async def test_the_next_statement_leaves_before_the_last_ones_jobs_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claimer_module, "CLAIM_MAX", 4)
    filled = _filled(waiting=100, slots=10)
    loop = asyncio.create_task(filled.claimer.loop())
    await filled.queue.release_next_claim()
    await filled.until(lambda: len(filled.queue.limits) == 2)
    assert filled.begun == []  # asked again, and only then begun
    await filled.queue.release_next_claim()
    await filled.queue.release_next_claim()
    await filled.until(lambda: len(filled.begun) == 10)
    assert filled.queue.limits == [4, 4, 2]
    assert filled.slots.free == 0
    await _cancelled(loop)
    filled.may_end.set()
    await filled.slots.release_all(grace_seconds=60)
    assert filled.queue.completed == 10


async def test_a_queue_that_returned_fewer_is_not_polled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claimer_module, "CLAIM_MAX", 4)
    filled = _filled(waiting=5, slots=10)
    loop = asyncio.create_task(filled.claimer.loop())
    await filled.queue.release_next_claim()
    await filled.queue.release_next_claim()
    await filled.until(lambda: len(filled.begun) == 5)
    assert filled.queue.limits == [4, 4]
    assert not filled.claimer.claiming.locked()
    await _cancelled(loop)
    filled.may_end.set()
    await filled.slots.release_all(grace_seconds=60)


async def test_the_queue_is_polled_again_right_after_a_job_claimed_alone() -> None:
    """One claimed alone comes as the only one, although others wait: no poll may pass between."""
    filled = _filled(waiting=1, slots=4)
    filled.queue.attempt = 3
    loop = asyncio.create_task(filled.claimer.loop())
    await filled.queue.release_next_claim()
    await filled.until(lambda: len(filled.begun) == 1)
    filled.queue.waiting = 1
    filled.may_end.set()
    await filled.queue.release_next_claim()  # the poll interval is a minute
    await filled.until(lambda: filled.queue.completed == 2)
    await _cancelled(loop, filled.queue)


async def test_a_round_of_claims_releases_the_lock_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claimer_module, "CLAIM_MAX", 1)
    monkeypatch.setattr(claimer_module, "CLAIMS_PER_ROUND_MAX", 3)
    filled = _filled(waiting=100, slots=100)
    loop = asyncio.create_task(filled.claimer.loop())
    checked = asyncio.Event()

    async def check() -> None:
        async with filled.claimer.claiming:
            assert len(filled.slots.running) == len(filled.begun) == filled.queue.next_id - 1
            checked.set()

    await filled.queue.release_next_claim()
    looking = asyncio.create_task(check())
    for _ in range(3):
        await filled.queue.release_next_claim()
    await asyncio.wait_for(checked.wait(), 60)
    await looking
    await _cancelled(loop, filled.queue)
    filled.may_end.set()
    await filled.slots.release_all(grace_seconds=60)


async def test_stopped_between_two_statements_both_get_their_slots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claimer_module, "CLAIM_MAX", 4)
    filled = _filled(waiting=100, slots=10)
    loop = asyncio.create_task(filled.claimer.loop())
    await filled.queue.release_next_claim()
    await filled.until(lambda: len(filled.queue.limits) == 2)
    await _cancelled(loop, filled.queue)
    assert len(filled.slots.running) == 8
    filled.may_end.set()
    await filled.slots.release_all(grace_seconds=60)
    assert filled.queue.completed == 8


@pytest.mark.parametrize("turns", range(8))
async def test_a_stop_in_the_moment_of_a_wake_up_is_not_lost(turns: int) -> None:
    """The last job ends, and wakes the claimer, while the worker is being stopped."""
    filled = _filled(waiting=0, slots=2)
    loop = asyncio.create_task(filled.claimer.loop())
    await filled.queue.release_next_claim()
    for _ in range(10):  # until it waits
        await asyncio.sleep(0)
    filled.claimer.wake()
    for _ in range(turns):
        await asyncio.sleep(0)
    loop.cancel()
    await asyncio.sleep(0)
    while not filled.queue.claims.empty():  # claims sent before the stop
        await filled.queue.release_next_claim()
    ended, _still_running = await asyncio.wait({loop}, timeout=10)
    assert ended == {loop}


async def test_a_completion_that_cannot_be_written_is_reported_and_frees_the_slot() -> None:
    async def handle(_job: Job) -> Outcome:
        return Done()

    filled = _filled(waiting=1, slots=2, handle=handle)
    filled.queue.away = True
    loop = asyncio.create_task(filled.claimer.loop())
    await filled.queue.release_next_claim()
    await filled.until(lambda: bool(filled.events.of(WorkerRoundFailed)))
    assert filled.slots.free == 2
    await _cancelled(loop, filled.queue)


async def test_an_unexpected_error_reaches_the_event_loops_handler() -> None:
    class Broken(Queue):
        async def complete(self, _worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
            raise ZeroDivisionError

    async def handle(_job: Job) -> Outcome:
        return Done()

    filled = _filled(waiting=1, slots=2, handle=handle)
    filled.queue.__class__ = Broken
    errors: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: errors.append(context["exception"])
    )
    loop = asyncio.create_task(filled.claimer.loop())
    await filled.queue.release_next_claim()
    await filled.until(lambda: bool(errors))
    assert isinstance(errors[0], ZeroDivisionError)
    assert filled.slots.free == 2
    await _cancelled(loop, filled.queue)


async def _cancelled(task: asyncio.Task[None], queue: Queue | None = None) -> None:
    """Stop the claimer; a running statement gets its result."""
    task.cancel()
    if queue is not None:
        await asyncio.sleep(0)
        while not queue.claims.empty():
            await queue.release_next_claim()
    with suppress(asyncio.CancelledError):
        await task


async def test_what_is_only_written_down_leaves_its_slot() -> None:
    written = asyncio.Event()

    async def write() -> bool:
        await written.wait()
        return True

    async def handle(job: Job) -> Outcome:
        filled.begun.append(job.id)
        return Done(write=write)

    filled = _filled(waiting=100, slots=2, handle=handle)
    loop = asyncio.create_task(filled.claimer.loop())
    await filled.queue.release_next_claim()
    await filled.until(lambda: len(filled.queue.limits) == 2)
    assert filled.slots.free == 2
    await filled.queue.release_next_claim()
    await filled.until(lambda: len(filled.begun) == 4)
    # As many as there are slots, and no more: a database that hangs fills no memory.
    assert (filled.slots.free, len(filled.slots.running)) == (0, 4)
    written.set()
    await filled.until(lambda: not filled.slots.running)
    assert filled.slots.free == 2
    await _cancelled(loop)


@pytest.fixture
async def ahead() -> AsyncIterator[Filled]:
    """20 slots after 80 jobs that ended at once: their rate lets 2 be claimed ahead of a slot."""

    async def handle(job: Job) -> Outcome:
        filled.begun.append(job.id)
        if job.id > 80:
            await filled.may_end.wait()
        return Done()

    filled = _filled(waiting=1_000, slots=20, handle=handle)
    releasing = asyncio.create_task(filled.queue.release_all_claims())
    loop = asyncio.create_task(filled.claimer.loop())
    await filled.until(lambda: filled.begun[-20:] == list(range(81, 101)))
    await filled.until(lambda: filled.slots.free == 0)
    yield filled
    await _cancelled(loop)
    await _cancelled(releasing)
    await filled.slots.release_all(grace_seconds=0)


@pytest.fixture
def long_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine's speed."""
    monkeypatch.setattr(slots_module, "LEAD_SECONDS", 3_600.0)


@pytest.mark.usefixtures("long_lead")
async def test_where_jobs_end_fast_a_few_are_claimed_ahead(ahead: Filled) -> None:
    assert len(ahead.begun) == 100  # no more at once than there are slots
    assert [job.id for job in ahead.slots.running] == list(range(81, 103))
    ahead.may_end.set()
    await ahead.until(lambda: len(ahead.begun) > 120)
    assert ahead.begun[100:102] == [101, 102]


@pytest.mark.usefixtures("long_lead")
async def test_a_worker_that_computes_itself_claims_nothing_ahead() -> None:
    async def handle(job: Job) -> Outcome:
        filled.begun.append(job.id)
        if job.id > 80:
            await filled.may_end.wait()
        return Done()

    filled = _filled(waiting=1_000, slots=20, handle=handle, claims_ahead=False)
    releasing = asyncio.create_task(filled.queue.release_all_claims())
    loop = asyncio.create_task(filled.claimer.loop())
    await filled.until(lambda: filled.begun[-20:] == list(range(81, 101)))
    await filled.until(lambda: filled.slots.free == 0)
    assert [job.id for job in filled.slots.running] == list(range(81, 101))
    await _cancelled(loop)
    await _cancelled(releasing)
    await filled.slots.release_all(grace_seconds=0)


@pytest.mark.usefixtures("long_lead")
async def test_what_is_claimed_ahead_can_be_taken_away(ahead: Filled) -> None:
    lost = ahead.slots.running[-1]
    ahead.slots.abandon([lost])
    assert lost not in ahead.slots.running
    assert [event.job_id for event in ahead.events.of(JobLost)] == [lost.id]
    ahead.may_end.set()
    await ahead.until(lambda: len(ahead.begun) > 120)
    assert lost.id not in ahead.begun


@pytest.mark.usefixtures("long_lead")
async def test_jobs_claimed_ahead_are_released_at_a_stop(ahead: Filled) -> None:
    stopping = asyncio.create_task(ahead.slots.release_all(grace_seconds=60))
    # At once, not after the grace period of running jobs: another worker can start them.
    await ahead.until(lambda: ahead.queue.released == [101, 102])
    assert not stopping.done()
    ahead.may_end.set()
    assert await stopping == 2
    assert ahead.begun[-1] == 100
    assert ahead.queue.completed == 100


@pytest.mark.usefixtures("long_lead")
async def test_a_run_of_a_job_that_was_set_off_anew_ends_though_the_new_one_waits(
    ahead: Filled,
) -> None:
    old = ahead.slots.running[0]
    ahead.slots.start(old._replace(attempt=1))
    assert [event.job_id for event in ahead.events.of(JobLost)] == [old.id]
    await ahead.until(lambda: 101 in ahead.begun)  # in the slot of the one that was stopped


async def test_slots_that_did_not_become_free_as_predicted_are_not_claimed_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filled = _filled(waiting=1_000, slots=4)
    free = iter([1, 0, 2, 2, -1])
    monkeypatch.setattr(Slots, "free", property(lambda _slots: next(free, 0)))
    loop = asyncio.create_task(filled.claimer.loop())
    await filled.queue.release_next_claim()
    for _ in range(20):
        await asyncio.sleep(0)
    assert filled.queue.limits == [2]
    await _cancelled(loop)
    await filled.slots.release_all(grace_seconds=0)


@pytest.fixture
def short_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "AHEAD_SECONDS_MAX", 0.01)


@pytest.mark.usefixtures("long_lead", "short_ahead")
async def test_jobs_claimed_ahead_are_released_when_no_slot_becomes_free(
    ahead: Filled,
) -> None:
    """Its lease runs: a provider that begins to hang must not cost it an attempt."""
    async with asyncio.timeout(60):
        while len(ahead.queue.released) < 2:  # noqa: ASYNC110 - a timer, no signal
            await asyncio.sleep(0.005)
    assert sorted(ahead.queue.released)[:2] == [101, 102]
    assert ahead.begun[-1] == 100


async def test_where_jobs_end_slowly_none_is_claimed_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots_module, "LEAD_SECONDS", 1e-9)
    filled = _filled(waiting=1_000, slots=20, handle=_end_at_once)
    releasing = asyncio.create_task(filled.queue.release_all_claims())
    loop = asyncio.create_task(filled.claimer.loop())
    await filled.until(lambda: filled.queue.completed == 1_000)
    assert max(filled.queue.limits) <= 20
    assert filled.slots.free == 20
    await _cancelled(loop)
    await _cancelled(releasing)


async def _end_at_once(_job: Job) -> Outcome:
    return Done()

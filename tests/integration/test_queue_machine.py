"""The queue against a ledger: any order of what clients, workers, operators and bad luck do to it.

The ledger below models in Python what the SQL functions promise. After every step the tables must
match it. Time is moved, not waited for: a lease ends, a job becomes due and a second check is due
when the machine decides so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, ClassVar, TypeVar, get_args
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.postgres_majors import every_postgres

from luma_memory.domain.block import Accepted
from luma_memory.domain.job import ErrorClass, Failure, Job, JobFilter, JobType
from luma_memory.domain.scope import Scope
from luma_memory.ports.blocks import EnrichedBlock, Lease
from luma_memory.postgres.database import Database
from luma_memory.queue.control import PostgresJobControl
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.upkeep import PostgresQueueUpkeep
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.testing.sample_blocks import ingest_item, new_block

PROJECT = "default"
USERS = ["ada", "bea", "cleo"]
TYPES: Sequence[JobType] = get_args(JobType)
HOUR = timedelta(hours=1)
STEP = timedelta(milliseconds=100)
ENDS = ["complete", "complete", "fail", "defer", "none"]
UNDUE = datetime.max.replace(tzinfo=UTC)
ANYTHING = JobFilter(project_id=None)
ResultT = TypeVar("ResultT")


@dataclass
class Entry:
    """A job as it should be stored."""

    id: int
    user: str
    job_type: JobType
    attempts_max: int
    place: datetime  # UNDUE while it stands aside
    priority: int = 0
    block_id: UUID | None = None
    key: str | None = None
    status: str = "pending"
    attempts: int = 0
    worker: str | None = None
    error: ErrorClass | None = None
    is_due: bool = True
    lease_ended: bool = False
    is_promised: bool = False  # to `worker`, for when it is idle

    @property
    def has_to_run_alone(self) -> bool:
        """One attempt is left, and the worker was gone in the last one."""
        return self.error == "poison" and self.attempts == self.attempts_max - 1

    @property
    def runs_alone(self) -> bool:
        return self.error == "poison" and self.attempts == self.attempts_max

    def as_stored(self) -> tuple[Any, ...]:
        return (
            *(self.user, self.job_type, self.attempts_max, self.place, self.priority),
            *(self.block_id, self.key, self.status, self.attempts, self.worker, self.error),
        )


@dataclass
class Process:
    """A worker process as the database sees it."""

    lock_key: int
    lives: bool = True
    has_row: bool = True  # with its lock key
    found_free: bool = False  # at a first check
    checked_long_ago: bool = False


@dataclass
class Ledger:
    """What was accepted, and what became of it."""

    jobs: dict[int, Entry] = field(default_factory=dict)
    blocks: dict[UUID, tuple[str, str]] = field(default_factory=dict)  # user and status
    last_place: dict[str, datetime] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    accepted: int = 0
    completed: int = 0
    removed: Counter[str] = field(default_factory=Counter)  # by the status they had

    def with_status(self, *statuses: str) -> list[Entry]:
        return [entry for entry in self.jobs.values() if entry.status in statuses]

    def set_block(self, entry: Entry, status: str, *, unless: Iterable[str] = ()) -> None:
        if entry.block_id is not None and self.blocks[entry.block_id][1] not in unless:
            self.blocks[entry.block_id] = (entry.user, status)

    def fail_block(self, entry: Entry) -> None:
        self.set_block(entry, "failed", unless=("active", "failed"))

    def remove(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.removed[entry.status] += 1
            del self.jobs[entry.id]

    def owned(self, job: Job, worker: str) -> Entry | None:
        """The entry, if this run of it is the one that may end it."""
        entry = self.jobs.get(job.id)
        if entry is None or entry.status != "processing":
            return None
        return entry if (entry.attempts, entry.worker) == (job.attempt, worker) else None


@dataclass
class Run:
    """A claim of a worker, which may report its end at any time, even much later."""

    worker: str
    job: Job


class World:
    """The database, its adapters, and an event loop to call them from plain functions."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner()
        self.database = Database(dsn, pool_size=1)
        self.queue = PostgresJobQueue(self.database)
        self.upkeep = PostgresQueueUpkeep(self.database)
        self.control = PostgresJobControl(self.database, attempts_max=3)
        self.connection: asyncpg.Connection = self.run(asyncpg.connect(dsn))
        # Holds the session locks of all workers that live.
        self.locks: asyncpg.Connection = self.run(asyncpg.connect(dsn))

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return self._runner.run(work)

    def blocks(self, attempts_max: int) -> PostgresBlockStore:
        return PostgresBlockStore(self.database, attempts_max=attempts_max, fair_step=STEP)

    def rows(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        return self.run(self.connection.fetch(statement, *values))

    def change(self, statement: str, *values: Any) -> None:
        self.run(self.connection.execute(statement, *values))

    def close(self) -> None:
        self.run(self.connection.close())
        self.run(self.locks.close())
        self.run(self.database.close())
        self._runner.close()


indexes = st.integers(0, 1_000)
few = st.integers(1, 3)


class QueueMachine(RuleBasedStateMachine):
    world: ClassVar[World]
    workers = Bundle("workers")
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self._numbers = count(1)
        self.world.change(
            "TRUNCATE memory_jobs, memory_users, memory_blocks, memory_passages, memory_workers,"
            " memory_block_revisions CASCADE"
        )

    def teardown(self) -> None:
        self.world.run(self.world.locks.execute("SELECT pg_advisory_unlock_all()"))

    @initialize(target=workers)
    def first_workers(self) -> Any:
        return multiple(*(self._start_worker() for _ in range(2)))

    # Clients

    @rule(
        user=st.sampled_from(USERS),
        number=few,
        job_type=st.sampled_from(TYPES[1:]),
        priority=st.integers(-1, 1),
        is_due=st.booleans(),
        key=st.none() | st.sampled_from(["this week", "last week"]),
        attempts_max=few,
    )
    def enqueue(
        self,
        user: str,
        number: int,
        job_type: JobType,
        priority: int,
        is_due: bool,
        key: str | None,
        attempts_max: int,
    ) -> None:
        later = None if is_due else datetime.now(UTC) + HOUR
        place_after = self._place_clock(user, number)
        rows = self.world.rows(
            "SELECT id FROM enqueue_memory_jobs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) AS id",
            *([PROJECT] * number, [user] * number, [job_type] * number, [None] * number),
            *([None] * number, [priority] * number, [later] * number, [key] * number),
            *(attempts_max, STEP),
        )
        taken = {entry.key for entry in self.ledger.jobs.values() if entry.user == user}
        expected = number if key is None else int(key not in taken)
        assert len(rows) == expected
        last = place_after()
        for turn, row in enumerate(rows, start=1):
            self._accept(
                Entry(
                    row["id"],
                    user,
                    job_type,
                    attempts_max,
                    last - STEP * (number - turn) if is_due else UNDUE,
                    priority=priority,
                    key=key,
                    is_due=is_due,
                )
            )

    @rule(user=st.sampled_from(USERS), number=few, attempts_max=few)
    def ingest(self, user: str, number: int, attempts_max: int) -> None:
        self._ingest(user, number, attempts_max, lease=None)

    @rule(target=runs, worker=workers, user=st.sampled_from(USERS), attempts_max=few)
    def ingest_and_claim(self, worker: str, user: str, attempts_max: int) -> Run:
        (entry,) = self._ingest(user, 1, attempts_max, lease=Lease(worker, HOUR))
        entry.status, entry.attempts, entry.worker = "processing", 1, worker
        return Run(worker, _job(entry))

    # Workers

    @rule(
        target=runs,
        worker=workers,
        limit=st.sampled_from([6, 2, 1, 0]),
        types=st.just(TYPES) | st.lists(st.sampled_from(TYPES), min_size=2, unique=True),
    )
    def claim(self, worker: str, limit: int, types: list[JobType]) -> Any:
        return multiple(*self._claim(worker, limit, types))

    def _find_work(self, worker: str) -> list[Run]:
        """Claim all there is, from a client that has just come if there is little."""
        if len(self.ledger.with_status("pending")) < 3:
            self._ingest(USERS[0], 3, 2, lease=None)
        return self._claim(worker, 6, TYPES)

    def _claim(self, worker: str, limit: int, types: Sequence[JobType]) -> list[Run]:
        before = self._times("run_at")
        jobs = self.world.run(
            self.world.queue.claim(worker, limit=limit, lease=HOUR, job_types=types, rescue=False)
        )
        self._give_places(self._times("fair_at"))
        expected = self._next_in_line(worker, limit, types, before)
        assert sorted(job.id for job in jobs) == sorted(entry.id for entry in expected)
        for entry in expected:
            assert entry.is_due
            entry.status, entry.worker, entry.lease_ended = "processing", worker, False
            entry.is_promised = False
            entry.attempts += 1
        assert {(job.id, job.attempt) for job in jobs} == {(e.id, e.attempts) for e in expected}
        return [Run(worker, job) for job in jobs]

    @rule(target=runs, worker=workers, ends=st.lists(st.sampled_from(ENDS), min_size=6, max_size=6))
    def work(self, worker: str, ends: list[str]) -> Any:
        """An ordinary round: claim what is due, and end each job somehow or keep running it."""
        claimed = self._find_work(worker)
        for run, end in zip(claimed, ends, strict=False):
            match end:
                case "complete":
                    self._complete(run)
                case "fail":
                    self._fail(run, "provider", final=False)
                case "defer":
                    self._release(run, is_deferred=True)
                case _:
                    pass
        return multiple(*claimed)

    @rule(
        target=runs,
        index=indexes,
        worker=workers,
        is_same=st.booleans(),
        is_released=st.booleans(),
        end=st.sampled_from(["complete", "fail", "drop", "release"]),
    )
    def come_late(self, index: int, worker: str, is_same: bool, is_released: bool, end: str) -> Any:
        """A worker, maybe the same one, has claimed the job again when its first run ends."""
        if not self._unfinished():
            self._find_work(worker)
        if not self._unfinished():
            return multiple()
        entry = _pick(self._unfinished(), index)
        assert entry.worker is not None
        run = Run(entry.worker, _job(entry))
        worker = run.worker if is_same else worker
        if is_released:
            self._release(run, is_deferred=False)
        else:
            self._end_lease(entry)
            self._rescue(worker)
        claimed = self._claim(worker, 6, TYPES)
        match end:
            case "complete":
                self._complete(run)
            case "fail":
                self._fail(run, "internal", final=True)
            case "drop":
                self._drop(run)
            case _:
                self._release(run, is_deferred=False)
        return multiple(*claimed)

    def _unfinished(self) -> list[Entry]:
        """Running jobs that have an attempt left."""
        running = self.ledger.with_status("processing")
        return [entry for entry in running if entry.attempts < entry.attempts_max]

    @rule(run=runs)
    def complete(self, run: Run) -> None:
        self._complete(run)

    def _complete(self, run: Run) -> None:
        owned = self.ledger.owned(run.job, run.worker)
        if run.job.block_id is None:
            (is_mine,) = self.world.run(self.world.queue.complete(run.worker, [run.job]))
        else:
            (is_mine,) = self.world.run(
                self.world.blocks(1).write_back(run.worker, [self._result(run.job)])
            )
        assert is_mine == (owned is not None)
        if owned is not None:
            owned.status, owned.error = "completed", None
            self.ledger.completed += 1
            self.ledger.set_block(owned, "active")

    @rule(run=runs, error=st.sampled_from(get_args(ErrorClass)), final=st.booleans())
    def fail(self, run: Run, error: ErrorClass, final: bool) -> None:
        self._fail(run, error, final=final)

    def _fail(self, run: Run, error: ErrorClass, *, final: bool) -> None:
        owned = self.ledger.owned(run.job, run.worker)
        is_final = self.world.run(
            self.world.queue.fail(
                run.worker, run.job, Failure(error, "so", final=final), backoff=HOUR
            )
        )
        if owned is None:
            assert not is_final
            return
        owned.error, owned.place = error, UNDUE
        if final or owned.attempts == owned.attempts_max:
            owned.status = "failed"
            self.ledger.fail_block(owned)
        else:
            owned.status, owned.is_due = "pending", False
        assert is_final == (owned.status == "failed")

    @rule(run=runs, is_deferred=st.booleans())
    def release(self, run: Run, is_deferred: bool) -> None:
        self._release(run, is_deferred=is_deferred)

    def _release(self, run: Run, *, is_deferred: bool) -> None:
        owned = self.ledger.owned(run.job, run.worker)
        until = datetime.now(UTC) + HOUR if is_deferred else None
        (is_mine,) = self.world.run(self.world.queue.release(run.worker, [run.job], run_at=until))
        assert is_mine == (owned is not None)
        if owned is not None:
            owned.status, owned.worker = "pending", None
            owned.attempts -= 1
            if is_deferred:
                owned.place, owned.is_due = UNDUE, False

    @rule(run=runs)
    def drop(self, run: Run) -> None:
        self._drop(run)

    def _drop(self, run: Run) -> None:
        owned = self.ledger.owned(run.job, run.worker)
        is_mine = self.world.run(self.world.queue.cancel(run.worker, run.job, "nothing to do"))
        assert is_mine == (owned is not None)
        if owned is not None:
            owned.status = "cancelled"
            self.ledger.fail_block(owned)

    @rule(worker=workers)
    def heartbeat(self, worker: str) -> None:
        process = self.ledger.processes[worker]
        self._say_hello(worker, process.lock_key)
        process.has_row, process.found_free, process.checked_long_ago = True, False, False

    # Bad luck

    @rule(target=workers, worker=consumes(workers))
    def crash(self, worker: str) -> str:
        """Its lock falls with it. Its runs stay known: it may have been cut off and come back."""
        self._crash(worker)
        return self._start_worker()

    @rule(target=workers, worker=consumes(workers), times=few)
    def crash_in_a_row(self, worker: str, times: int) -> str:
        """With all the jobs it can get, and so does its successor."""
        for _ in range(times):
            self._find_work(worker)
            self._crash(worker)
            worker = self._start_worker()
            self._rescue(worker)
            self._make_second_check_due()
            self._rescue(worker)
        for _ in range(2):
            self._claim(worker, 6, TYPES)
        return worker

    def _crash(self, worker: str) -> None:
        process = self.ledger.processes[worker]
        process.lives = False
        self._with_locks("SELECT pg_advisory_unlock($1)", process.lock_key)

    @rule(index=indexes)
    @precondition(lambda self: self.ledger.with_status("processing"))
    def lease_ends(self, index: int) -> None:
        self._end_lease(_pick(self.ledger.with_status("processing"), index))

    def _end_lease(self, entry: Entry) -> None:
        entry.lease_ended = True
        self._set(entry, "locked_until = '-infinity'")

    @rule(index=indexes)
    @precondition(lambda self: self._undue())
    def time_comes(self, index: int) -> None:
        entry = _pick(self._undue(), index)
        entry.is_due = True
        self._set(entry, "run_at = clock_timestamp() - interval '1 s'")

    @rule()
    @precondition(lambda self: any(p.found_free for p in self.ledger.processes.values()))
    def second_check_is_due(self) -> None:
        self._make_second_check_due()

    def _make_second_check_due(self) -> None:
        self.world.change(
            "UPDATE memory_workers SET stopped_at = '-infinity' WHERE stopped_at IS NOT NULL"
        )
        for process in self.ledger.processes.values():
            process.checked_long_ago = process.found_free

    @rule()
    def hours_pass(self) -> None:
        """No worker ran meanwhile: the assigned places are far in the past."""
        for table in ("memory_jobs", "memory_users"):
            self.world.change(
                f"UPDATE {table} SET fair_at = fair_at - $1::interval WHERE isfinite(fair_at)", HOUR
            )
        for entry in self.ledger.jobs.values():
            if entry.place != UNDUE:
                entry.place -= HOUR
        for user in self.ledger.last_place:
            self.ledger.last_place[user] -= HOUR

    # Duties

    @rule(worker=workers)
    def rescue(self, worker: str) -> None:
        self._rescue(worker)

    def _rescue(self, worker: str) -> None:
        rescued = self.world.run(self.world.queue.rescue(worker))
        # However slow this machine is, a first check must not count as the second.
        self.world.change(
            "UPDATE memory_workers SET stopped_at = 'infinity' WHERE stopped_at > '-infinity'"
        )
        gone = self._gone(worker)
        lost = [
            e for e in self.ledger.with_status("processing") if e.lease_ended or e.worker in gone
        ]
        assert rescued == len(lost)
        for entry in lost:
            self._take_back(entry, is_gone=entry.worker in gone)

    @rule(limit=st.integers(1, 4), is_late=st.booleans())
    def prune(self, limit: int, is_late: bool) -> None:
        """Everything that ended is old enough; what has a unique key only when it is late."""
        at = datetime.now(UTC) + (timedelta(days=31) if is_late else HOUR)
        deleted = self.world.run(
            self.world.upkeep.prune(completed_before=at, failed_before=at, limit=limit)
        )
        ended = self.ledger.with_status("completed", "cancelled", "failed")
        old = [e for e in ended if e.key is None or is_late or e.status == "failed"]
        pruned = sorted(old, key=lambda entry: entry.id)[:limit]
        assert deleted == len(pruned)
        self.ledger.remove(pruned)
        busy = {entry.worker for entry in self.ledger.with_status("processing")}
        for worker, process in self.ledger.processes.items():
            if worker not in busy:
                process.has_row = process.found_free = process.checked_long_ago = False

    # Operators

    @rule(index=indexes, number=few)
    def cancel(self, index: int, number: int) -> None:
        chosen = _some(self.ledger.jobs, index, number)
        ids = self.world.run(self.world.control.cancel(replace(ANYTHING, ids=chosen), limit=10))
        entries = [self.ledger.jobs[job_id] for job_id in chosen]
        open_ones = [entry for entry in entries if entry.status in ("pending", "processing")]
        assert sorted(ids) == sorted(entry.id for entry in open_ones)
        for entry in open_ones:
            entry.status = "cancelled"
            self.ledger.fail_block(entry)

    @rule(
        index=indexes,
        number=few,
        which=st.sampled_from(["named", "of a class", "all"]),
        error=st.sampled_from(get_args(ErrorClass)),
    )
    def retry(self, index: int, number: int, which: str, error: ErrorClass) -> None:
        candidates = self.ledger.with_status("failed")
        target = ANYTHING
        if which == "named":
            target = replace(ANYTHING, ids=_some(self.ledger.jobs, index, number))
            candidates = [
                entry
                for entry in self.ledger.with_status("failed", "cancelled")
                if entry.id in (target.ids or ())
            ]
        elif which == "of a class":
            target = replace(ANYTHING, error_class=error)
            candidates = [entry for entry in candidates if entry.error == error]
        # A webhook's pending deliveries get another job by themselves.
        candidates = [entry for entry in candidates if entry.job_type != "deliver_webhook"]
        candidates.sort(key=lambda entry: entry.id)
        clocks = self._place_clocks(candidates)
        ids = self.world.run(self.world.control.retry(target, limit=100))
        assert list(ids) == [entry.id for entry in candidates]
        self._requeue(candidates, clocks)

    @rule(user=st.sampled_from(USERS))
    def clear_pending(self, user: str) -> None:
        target = replace(ANYTHING, user_id=user)
        ids = self.world.run(self.world.control.clear_pending(target, limit=100))
        cleared = [entry for entry in self.ledger.with_status("pending") if entry.user == user]
        assert sorted(ids) == sorted(entry.id for entry in cleared)
        self.ledger.remove(cleared)

    @rule(user=st.sampled_from(USERS))
    def enqueue_waiting(self, user: str) -> None:
        open_blocks = {e.block_id for e in self.ledger.with_status("pending", "processing")}
        waiting = sorted(
            block_id
            for block_id, (owner, status) in self.ledger.blocks.items()
            if owner == user and status == "pending_enrichment" and block_id not in open_blocks
        )
        place_after = self._place_clock(user, len(waiting))
        ids = self.world.run(
            self.world.control.enqueue_waiting(project_id=None, user_id=user, limit=100)
        )
        assert len(ids) == len(waiting)
        if not waiting:
            return
        last = place_after()
        stored = {row["block_id"]: row["id"] for row in self._stored_jobs() if row["id"] in ids}
        for turn, block_id in enumerate(waiting, start=1):
            place = last - STEP * (len(waiting) - turn)
            self._accept(
                Entry(stored[block_id], user, "enrich_and_embed", 3, place, block_id=block_id)
            )

    # What holds after every step

    @invariant()
    def tables_match_the_ledger(self) -> None:
        stored = {
            row["id"]: (
                *(row["user_id"], row["job_type"], row["max_attempts"], _aware(row["fair_at"])),
                *(row["priority"], row["block_id"], row["unique_key"], row["status"]),
                *(row["attempts"], row["locked_by"], row["error_class"]),
            )
            for row in self._stored_jobs()
        }
        assert stored == {job_id: entry.as_stored() for job_id, entry in self.ledger.jobs.items()}
        blocks = self.world.rows("SELECT id, user_id, status FROM memory_blocks")
        assert {row["id"]: (row["user_id"], row["status"]) for row in blocks} == self.ledger.blocks

    @invariant()
    def nothing_is_lost(self) -> None:
        (row,) = self.world.rows(
            "SELECT s.*, (SELECT count(*) FROM memory_jobs WHERE status = 'cancelled') AS cancelled"
            " FROM get_memory_job_stats() AS s"
        )
        removed = self.ledger.removed
        assert self.ledger.accepted == (
            row["pending"]
            + row["processing"]
            + row["completed"]  # pruned ones included
            + row["failed"]
            + row["cancelled"]
            + removed["failed"]
            + removed["cancelled"]
            + removed["pending"]
        )
        assert row["completed"] == self.ledger.completed
        aside = [e for e in self.ledger.with_status("pending") if e.place == UNDUE]
        assert row["deferred"] == len(aside)

    @invariant()
    def attempts_have_an_end_and_keys_are_unique(self) -> None:
        entries = list(self.ledger.jobs.values())
        assert all(0 <= entry.attempts <= entry.attempts_max for entry in entries)
        keys = Counter((entry.user, entry.key) for entry in entries if entry.key is not None)
        assert all(number == 1 for number in keys.values())

    # Helpers

    def _start_worker(self) -> str:
        number = next(self._numbers)
        worker, lock_key = f"w{number}", 1_000_000 + number
        self._with_locks("SELECT pg_advisory_lock($1)", lock_key)
        self._say_hello(worker, lock_key)
        self.ledger.processes[worker] = Process(lock_key)
        return worker

    def _with_locks(self, statement: str, lock_key: int) -> None:
        self.world.run(self.world.locks.execute(statement, lock_key))

    def _say_hello(self, worker: str, lock_key: int) -> None:
        self.world.change(
            "SELECT heartbeat_memory_worker($1, 'host', 1, '0', 0, $2)", worker, lock_key
        )

    def _accept(self, entry: Entry) -> None:
        self.ledger.jobs[entry.id] = entry
        self.ledger.accepted += 1

    def _ingest(
        self, user: str, number: int, attempts_max: int, *, lease: Lease | None
    ) -> list[Entry]:
        items = [ingest_item(new_block(user_id=user)) for _ in range(number)]
        place_after = self._place_clock(user, number)
        responses = self.world.run(self.world.blocks(attempts_max).ingest(items, lease=lease))
        last, entries = place_after(), []
        for turn, response in enumerate(responses, start=1):
            assert isinstance(response, Accepted)
            self.ledger.blocks[response.id] = (user, "pending_enrichment")
            place = last - STEP * (number - turn)
            entries.append(
                Entry(
                    response.job_id,
                    user,
                    "enrich_and_embed",
                    attempts_max,
                    place,
                    block_id=response.id,
                )
            )
            self._accept(entries[-1])
        return entries

    def _place_clock(self, user: str, number: int) -> Callable[[], datetime]:
        """Called before jobs are added; what it returns, after: the place of the last of them.

        A user without waiting jobs starts at the queue's virtual time, and no user in the future.
        """
        line = [
            entry.place
            for entry in self.ledger.with_status("pending")
            if entry.priority == 0 and entry.place != UNDUE
        ]
        before = self._database_time()

        def after() -> datetime:
            stored = self._user_place(user)
            earliest, latest = before, self._database_time()
            if line:
                earliest, latest = min(earliest, *line), min(latest, *line)
            mine = self.ledger.last_place.get(user)
            if mine is not None:
                earliest, latest = max(earliest, mine), max(latest, mine)
            assert earliest <= stored - STEP * number <= latest
            self.ledger.last_place[user] = stored
            return stored

        return after

    def _place_clocks(self, entries: Sequence[Entry]) -> dict[str, Callable[[], datetime]]:
        numbers = Counter(entry.user for entry in entries)
        return {user: self._place_clock(user, number) for user, number in numbers.items()}

    def _requeue(self, entries: Sequence[Entry], clocks: dict[str, Callable[[], datetime]]) -> None:
        for user, place_after in clocks.items():
            last = place_after()
            mine = [entry for entry in entries if entry.user == user]
            for turn, entry in enumerate(mine, start=1):
                entry.place = last - STEP * (len(mine) - turn)
                entry.status, entry.attempts, entry.worker = "pending", 0, None
                entry.is_due, entry.is_promised = True, False
                self.ledger.set_block(
                    entry, "pending_enrichment", unless=("active", "pending_enrichment")
                )

    def _give_places(self, stored: dict[int, datetime]) -> None:
        """Jobs that became due get places now, those of one user one after the other."""
        now = self._database_time()
        arrived = [
            entry
            for entry in self.ledger.with_status("pending")
            if entry.place == UNDUE and entry.is_due and not entry.has_to_run_alone
        ]
        for user in {entry.user for entry in arrived}:
            places = sorted(stored[entry.id] for entry in arrived if entry.user == user)
            assert places[0] <= now
            assert len(set(places)) == len(places)
            assert places[-1] - now <= STEP * len(places)
        for entry in arrived:
            entry.place = stored[entry.id]

    def _next_in_line(
        self,
        worker: str,
        limit: int,
        types: Sequence[JobType],
        run_at: dict[int, datetime],
    ) -> list[Entry]:
        """Jobs that a claim must return; a busy worker reserves one that has to run alone."""
        running = self.ledger.with_status("processing")
        mine = [e for e in running if e.worker == worker]
        if limit == 0 or any(entry.runs_alone for entry in mine):
            return []
        ready = [
            entry
            for entry in self.ledger.with_status("pending")
            if entry.is_due and entry.job_type in types
        ]
        aside = [entry for entry in ready if entry.place == UNDUE]
        is_others = any(entry.runs_alone for entry in running) or (
            bool(mine)
            and any(
                e.is_promised and e.worker != worker for e in self.ledger.with_status("pending")
            )
        )
        if aside and not is_others:
            first = min(aside, key=lambda entry: (run_at[entry.id], entry.id))
            if not mine:
                return [first]
            first.worker, first.is_promised = worker, True
            return []
        line = [entry for entry in ready if entry.place != UNDUE]
        line.sort(key=lambda e: (-e.priority, e.place, e.id))
        if foreground := [entry for entry in line if entry.priority >= 0]:
            return foreground[:limit]
        if all(entry.priority < 0 for entry in mine):
            return line[:limit]
        if any(entry.priority < 0 for entry in mine):
            return []
        overdue = self._database_time() - timedelta(seconds=10)
        return [entry for entry in line if entry.place < overdue][: min(limit, 1)]

    def _gone(self, rescuer: str) -> set[str | None]:
        """Workers found free for the second time; the others are marked as found once."""
        busy = {entry.worker for entry in self.ledger.with_status("processing")} - {rescuer}
        gone: set[str | None] = set()
        for worker, process in self.ledger.processes.items():
            if worker in busy and process.has_row and not process.lives:
                if process.checked_long_ago:
                    gone.add(worker)
                process.found_free = True
        return gone

    def _take_back(self, entry: Entry, *, is_gone: bool) -> None:
        entry.error = "poison" if is_gone else "timeout"
        entry.lease_ended = False
        if entry.attempts == entry.attempts_max:
            entry.status = "failed"
            self.ledger.fail_block(entry)
        else:
            entry.status = "pending"
        if entry.has_to_run_alone:
            entry.place = UNDUE
        else:
            # It keeps its place; a job without one gets the current virtual time.
            place = self._times("fair_at")[entry.id]
            assert place == entry.place or entry.place > place <= self._database_time()
            entry.place = place

    def _undue(self) -> list[Entry]:
        return [entry for entry in self.ledger.with_status("pending") if not entry.is_due]

    def _set(self, entry: Entry, assignment: str) -> None:
        self.world.change(f"UPDATE memory_jobs SET {assignment} WHERE id = $1", entry.id)

    def _result(self, job: Job) -> EnrichedBlock:
        assert job.block_id is not None
        (block,) = self.world.run(self.world.blocks(1).read([(job.scope, job.block_id)]))
        assert block is not None
        return EnrichedBlock(job, block.revision, None, None, [], None)

    def _stored_jobs(self) -> list[asyncpg.Record]:
        return self.world.rows("SELECT * FROM memory_jobs")

    def _times(self, column: str) -> dict[int, datetime]:
        rows = self.world.rows(f"SELECT id, {column} AS at FROM memory_jobs")
        return {row["id"]: _aware(row["at"]) for row in rows}

    def _user_place(self, user: str) -> datetime:
        (row,) = self.world.rows("SELECT fair_at FROM memory_users WHERE user_id = $1", user)
        place: datetime = row["fair_at"]
        return place

    def _database_time(self) -> datetime:
        (row,) = self.world.rows("SELECT clock_timestamp() AS now")
        now: datetime = row["now"]
        return now


def _job(entry: Entry) -> Job:
    return Job(
        entry.id,
        Scope(PROJECT, entry.user),
        entry.job_type,
        entry.block_id,
        entry.attempts,
        entry.attempts_max,
    )


def _aware(value: datetime) -> datetime:
    """The driver reads 'infinity' as the latest time there is, without a zone."""
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _pick(entries: Sequence[Entry], index: int) -> Entry:
    return entries[index % len(entries)]


def _some(jobs: dict[int, Entry], index: int, number: int) -> list[int]:
    ids = sorted(jobs)
    return ids[index % len(ids) :][:number] if ids else []


def _prove(dsn: str, *, examples: int, steps: int) -> None:
    class Machine(QueueMachine):
        world = World(dsn)

    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        Machine.world.close()


@every_postgres
def test_the_queue_keeps_its_promises_in_any_order(dsn: str) -> None:
    _prove(dsn, examples=30, steps=40)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@every_postgres
def test_the_queue_keeps_its_promises_in_many_long_orders(dsn: str) -> None:
    _prove(dsn, examples=400, steps=50)

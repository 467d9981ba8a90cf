"""The queue of all partitions for operators and clients: lists, counts and changes."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Final, Protocol, TypeVar

from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.job import (
    JOB_ID_MAX,
    OPEN,
    JobFilter,
    JobRecord,
    JobStats,
    JobStatus,
    JobType,
    NewJob,
)
from luma_memory.domain.partition import created_in
from luma_memory.domain.scope import Scope
from luma_memory.partitions.places import soon
from luma_memory.partitions.router import Routed
from luma_memory.ports.jobs import JobControl, JobPage, JobProducer, JobQueue, QueueUpkeep

# A place in a merged list is one number: a one, then a number of these bytes for each partition.
_PLACE_BYTES: Final = 8


class Numbered(Protocol):
    """A row of a list that each partition orders by id, newest first."""

    @property
    def id(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...


RowT = TypeVar("RowT", bound=Numbered)
# The rows of one partition below an id, newest first, and where they continue.
PageBelow = Callable[[int, int], Awaitable[tuple[Sequence[RowT], int | None]]]


async def merged_page(
    count: int, below: int, limit: int, page: PageBelow[RowT]
) -> tuple[Sequence[RowT], int | None]:
    """One page of rows of all partitions, newest first, and the place where the list continues.

    Ids rise with time within a partition only, so a place holds one id for each. page: called with
    a partition's number and an id, for up to `limit` rows.
    """
    places = list(_places(below, count))
    found: list[tuple[Sequence[RowT], int | None]] = [((), None)] * count
    continuing = [n for n, place in enumerate(places) if place > 0]
    pages = await asyncio.gather(*(page(n, places[n]) for n in continuing))
    for n, one in zip(continuing, pages, strict=True):
        found[n] = one
    rows = heapq.merge(
        *([(row, n) for row in rows] for n, (rows, _) in enumerate(found)),
        key=lambda pair: pair[0].created_at,
        reverse=True,
    )
    shown = list(islice(rows, limit))
    taken = [0] * count
    for row, n in shown:
        taken[n] += 1
        places[n] = row.id
    for n, (rows_of_n, next_below) in enumerate(found):
        if next_below is None and taken[n] == len(rows_of_n):
            places[n] = 0
    has_more = any(places)
    return [row for row, _ in shown], _number_of(places) if has_more else None


def _places(below: int, count: int) -> Sequence[int]:
    """The ids of a place; one id stands for all partitions."""
    if below <= JOB_ID_MAX:
        return [below] * count
    data = below.to_bytes(1 + _PLACE_BYTES * count, "big")[1:]
    return [
        int.from_bytes(data[at : at + _PLACE_BYTES], "big")
        for at in range(0, len(data), _PLACE_BYTES)
    ]


def _number_of(places: Sequence[int]) -> int:
    return int.from_bytes(
        b"\x01" + b"".join(place.to_bytes(_PLACE_BYTES, "big") for place in places), "big"
    )


async def page_of_jobs(
    routed: Routed[JobControl], which: JobFilter, *, status: JobStatus | None, limit: int
) -> JobPage:
    if (scope := _scope(which)) is not None:
        return await routed.of(scope, lambda store: store.page(which, status=status, limit=limit))
    if which.ids is not None:
        return await _jobs_by_id(routed, which, status, limit)

    async def page(number: int, below: int) -> tuple[Sequence[JobRecord], int | None]:
        part = replace(which, below_id=below)
        found = await routed.at(number, lambda store: store.page(part, status=status, limit=limit))
        return found.jobs, found.next_below

    return JobPage(*await merged_page(routed.places.count, which.below_id, limit, page))


async def _jobs_by_id(
    routed: Routed[JobControl], which: JobFilter, status: JobStatus | None, limit: int
) -> JobPage:
    jobs: list[JobRecord] = []
    for number in _of_ids(routed, which.ids or ()):
        if len(jobs) < min(limit, len(which.ids or ())):
            found = await routed.at(
                number, lambda store: store.page(which, status=status, limit=limit)
            )
            jobs += found.jobs
    return JobPage(jobs[:limit], None)


def _of_ids(routed: Routed[JobControl], ids: Sequence[int]) -> Sequence[int]:
    """Partitions in the order in which jobs are looked for: a moved user's are elsewhere."""
    first = dict.fromkeys(created_in(one) for one in ids if created_in(one) < routed.places.count)
    return list(first | dict.fromkeys(range(routed.places.count)))


async def count_jobs(
    routed: Routed[JobControl], which: JobFilter, *, statuses: Sequence[JobStatus]
) -> int:
    if (scope := _scope(which)) is not None:
        return await routed.of(scope, lambda store: store.count(which, statuses=statuses))
    return sum(await routed.all(lambda store: store.count(which, statuses=statuses)))


async def retry_jobs(routed: Routed[JobControl], which: JobFilter, *, limit: int) -> Sequence[int]:
    return await _change(routed, which, limit, lambda store, left: store.retry(which, limit=left))


async def cancel_jobs(
    routed: Routed[JobControl],
    which: JobFilter,
    *,
    limit: int,
    statuses: Sequence[JobStatus] = OPEN,
) -> Sequence[int]:
    return await _change(
        routed,
        which,
        limit,
        lambda store, left: store.cancel(which, limit=left, statuses=statuses),
    )


async def clear_pending(
    routed: Routed[JobControl], which: JobFilter, *, limit: int
) -> Sequence[int]:
    return await _change(
        routed, which, limit, lambda store, left: store.clear_pending(which, limit=left)
    )


async def enqueue_waiting(
    routed: Routed[JobControl], *, project_id: str | None, user_id: str | None, limit: int
) -> Sequence[int]:
    which = JobFilter(project_id=project_id, user_id=user_id)
    return await _change(
        routed,
        which,
        limit,
        lambda store, left: store.enqueue_waiting(
            project_id=project_id, user_id=user_id, limit=left
        ),
    )


async def count_waiting(
    routed: Routed[JobControl], *, project_id: str | None, user_id: str | None
) -> int:
    async def count(store: JobControl) -> int:
        return await store.count_waiting(project_id=project_id, user_id=user_id)

    if project_id is not None and user_id is not None:
        return await routed.of(Scope(project_id, user_id), count)
    return sum(await routed.all(count))


async def pause(routed: Routed[JobControl], job_type: JobType | None) -> None:
    """In every partition that responds; then raises for the others."""
    await routed.all(lambda store: store.pause(job_type), writes=True)


async def resume(routed: Routed[JobControl], job_type: JobType | None) -> None:
    await routed.all(lambda store: store.resume(job_type), writes=True)


async def _change(
    routed: Routed[JobControl],
    which: JobFilter,
    limit: int,
    change: Callable[[JobControl, int], Awaitable[Sequence[int]]],
) -> Sequence[int]:
    """One partition after the other, until `limit` jobs were changed."""
    if (scope := _scope(which)) is not None:
        return await routed.of(scope, lambda store: change(store, limit), writes=True)
    bound = limit if which.ids is None else min(limit, len(which.ids))
    changed: list[int] = []
    for number in _of_ids(routed, which.ids or ()):
        left = bound - len(changed)
        if left > 0:

            async def one(store: JobControl, left: int = left) -> Sequence[int]:
                return await change(store, left)

            changed += await routed.at(number, one, writes=True)
    return sorted(changed)


def _scope(which: JobFilter) -> Scope | None:
    """The user of a filter that names one; deliveries of webhooks belong to none."""
    if which.project_id is None or not which.user_id:
        return None
    return Scope(which.project_id, which.user_id)


async def stats(routed: Routed[JobQueue]) -> JobStats:
    """Of the partitions that respond. Raises StoreUnavailable if none does."""
    found = await routed.responding(lambda store: soon(store.stats()))
    ages = [one.oldest_pending_seconds for one in found if one.oldest_pending_seconds is not None]
    return JobStats(
        pending=sum(one.pending for one in found),
        processing=sum(one.processing for one in found),
        completed=sum(one.completed for one in found),
        failed=sum(one.failed for one in found),
        deferred=sum(one.deferred for one in found),
        oldest_pending_seconds=max(ages, default=None),
        paused=sorted({paused for one in found for paused in one.paused}),
    )


async def enqueue(routed: Routed[JobProducer], jobs: Sequence[NewJob]) -> Sequence[int]:
    ids: list[int] = []
    await routed.places.know()
    if routed.places.moves_users:
        for scope in dict.fromkeys(job.scope for job in jobs):
            own = [job for job in jobs if job.scope == scope]

            async def enqueue_own(store: JobProducer, own: Sequence[NewJob] = own) -> Sequence[int]:
                return await store.enqueue(own)

            ids += await routed.of(scope, enqueue_own, writes=True)
        return ids
    for number, positions in routed.parted(jobs, lambda job: job.scope).items():
        chosen = [jobs[n] for n in positions]

        async def one(store: JobProducer, chosen: Sequence[NewJob] = chosen) -> Sequence[int]:
            return await store.enqueue(chosen)

        ids += await routed.at(number, one, writes=True)
    return ids


async def prune(
    routed: Routed[QueueUpkeep],
    *,
    completed_before: datetime,
    failed_before: datetime,
    limit: int,
) -> int:
    """`limit` in each partition; the largest number that one deleted."""
    return await _upkeep(
        routed,
        lambda store: store.prune(
            completed_before=completed_before, failed_before=failed_before, limit=limit
        ),
    )


async def schedule(routed: Routed[QueueUpkeep], now: datetime, *, limit: int) -> int:
    """`limit` in each partition; the largest number that one made."""
    return await _upkeep(routed, lambda store: store.schedule_weekly_summaries(now, limit=limit))


async def _upkeep(
    routed: Routed[QueueUpkeep], work: Callable[[QueueUpkeep], Awaitable[int]]
) -> int:
    """A caller repeats it while a partition had as much to do as one call does."""
    outcomes = await routed.outcomes(work, writes=True)
    errors = [one for one in outcomes if isinstance(one, LumaMemoryError)]
    if len(errors) == len(outcomes):
        raise errors[0]
    return max(one for one in outcomes if not isinstance(one, LumaMemoryError))

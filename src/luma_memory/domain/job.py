"""Jobs, their outcomes and the classes of their failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderTimeout,
    UnavailableError,
)
from luma_memory.domain.scope import Scope

JobType = Literal[
    "enrich_and_embed", "detect_relations", "weekly_summary", "reembed", "deliver_webhook"
]
JobStatus = Literal["pending", "processing", "completed", "failed", "cancelled"]
ErrorClass = Literal["provider", "provider_permanent", "schema", "timeout", "poison", "internal"]
Paused: TypeAlias = Literal[
    "all", "enrich_and_embed", "detect_relations", "weekly_summary", "reembed", "deliver_webhook"
]
OPEN: Sequence[JobStatus] = ("pending", "processing")
JOB_ID_MAX = 2**63 - 1
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Job(NamedTuple):
    """A claimed job. (id, attempt) identifies this run: only its worker can finish it.

    A tuple, because creating frozen dataclasses took a sixth of a worker's time per job.
    """

    id: int
    scope: Scope
    job_type: JobType
    block_id: UUID | None
    attempt: int  # 1 for the first
    attempts_max: int
    payload: Mapping[str, Any] = _NOTHING  # as it was enqueued: not checked
    partition: int = 0  # where it was claimed, and where its results go

    @property
    def is_last_attempt(self) -> bool:
        return self.attempt >= self.attempts_max


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be enqueued."""

    scope: Scope
    job_type: JobType
    payload: Mapping[str, Any] = field(default_factory=dict)
    block_id: UUID | None = None
    priority: int = 0  # higher runs first
    run_at: datetime | None = None  # not before; None is at once
    unique_key: str | None = None  # a job with a key that exists is not enqueued again


@dataclass(frozen=True, slots=True)
class Done:
    """The work is done.

    write: stores the result and completes the job in one statement; returns whether the job was
    still claimed by this worker. Repeatable; called when the job's time has ended and other jobs
    may start. is_written: such a statement has already run. is_mine: False if it found the job
    claimed by another worker and changed nothing.
    """

    is_written: bool = False
    is_mine: bool = True
    write: Callable[[], Awaitable[bool]] | None = None


@dataclass(frozen=True, slots=True)
class Defer:
    """Not now: run again at `until`, without spending the attempt."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Do not run again: there is nothing left to do."""

    reason: str


# The result of a handler; raising instead is a failed attempt.
Outcome: TypeAlias = Done | Defer | Cancel
# Runs one job of a type; raising is a failed attempt.
Handler: TypeAlias = "Callable[[Job], Awaitable[Outcome]]"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt, as stored with the job."""

    error_class: ErrorClass
    message: str
    # True if another attempt would fail the same way.
    final: bool = False


@dataclass(frozen=True, slots=True)
class JobStats:
    """The queue in numbers."""

    pending: int
    processing: int
    completed: int  # since the installation began, whether or not the rows still exist
    failed: int
    deferred: int  # those pending jobs whose time has not come
    oldest_pending_seconds: float | None  # age of the oldest job that could run
    # Paused: job types, "all" for the whole queue.
    paused: Sequence[Paused] = ()


@dataclass(frozen=True, slots=True)
class AttemptError:
    """How a failed attempt of a job ended."""

    attempt: int  # restarts at 1 if the job is retried by hand
    at: datetime
    worker: str | None
    error_class: ErrorClass | None
    message: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it is stored, with every column; a failed one with all details of its failure.

    Fields have the names of the columns, as operators know them.
    """

    id: int
    scope: Scope
    block_id: UUID | None
    job_type: JobType
    payload: Mapping[str, Any]
    status: JobStatus
    priority: int  # higher runs first
    attempts: int  # counted at the claim
    max_attempts: int
    run_at: datetime
    fair_at: datetime | None  # place in the queue; None while run_at lies ahead
    locked_by: str | None  # the worker of the last attempt
    locked_until: datetime | None
    unique_key: str | None
    error_class: ErrorClass | None  # of the last failed attempt
    last_error: str | None
    created_at: datetime
    started_at: datetime | None  # of the last attempt
    finished_at: datetime | None
    attempt_errors: Sequence[AttemptError] = ()  # of the last ten failed attempts, oldest first


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Selects jobs. None does not restrict; instants: from `after` on, before `before`."""

    project_id: str | None  # None is every project: for operators, never for a client
    user_id: str | None = None
    ids: Sequence[int] | None = None
    job_type: JobType | None = None
    error_class: ErrorClass | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    finished_after: datetime | None = None
    finished_before: datetime | None = None
    # Exclusive bounds of a range of ids, to process many jobs in batches.
    above_id: int = 0
    below_id: int = JOB_ID_MAX

    @property
    def narrows(self) -> bool:
        """Whether the filter has more conditions than the project."""
        return self != JobFilter(project_id=self.project_id)

    @property
    def retryable(self) -> Sequence[JobStatus]:
        """Statuses that a retry includes; cancelled jobs are retried by id only."""
        return ("failed",) if self.ids is None else ("failed", "cancelled")


def classify(error: BaseException) -> Failure:
    """The failure of an exception. Messages of foreign exceptions are not trusted.

    They may quote a block's text or a secret, so only the exception's type is kept.
    """
    match error:
        case TimeoutError() | ProviderTimeout():
            return Failure("timeout", str(error) or "the job's time ran out")
        case ProviderResponseInvalid():
            return Failure("schema", str(error))
        case ProviderRejected():
            return Failure("provider_permanent", str(error), final=True)
        case UnavailableError():
            return Failure("provider", str(error))
        case LumaMemoryError():
            return Failure("internal", str(error))
        case _:
            return Failure("internal", f"unexpected {type(error).__name__}")

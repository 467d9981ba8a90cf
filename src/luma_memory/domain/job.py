"""Jobs, their outcomes and the classes of their failures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderTimeout,
    UnavailableError,
)
from luma_memory.domain.scope import Scope

JobType = Literal["enrich_and_embed", "detect_relations", "weekly_summary", "reembed"]
JobStatus = Literal["pending", "processing", "completed", "failed", "cancelled"]
ErrorClass = Literal["provider", "provider_permanent", "schema", "timeout", "poison", "internal"]


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job. (id, attempt) names this run of it: nobody else may finish it."""

    id: int
    scope: Scope
    job_type: JobType
    block_id: UUID | None
    attempt: int  # 1 for the first
    attempts_max: int
    created_at: datetime

    @property
    def is_last_attempt(self) -> bool:
        return self.attempt >= self.attempts_max


@dataclass(frozen=True, slots=True)
class Done:
    """The work is done.

    is_written: the result's own statement has completed the job already. is_mine: False when that
    statement found the job in other hands and changed nothing.
    """

    is_written: bool = False
    is_mine: bool = True


@dataclass(frozen=True, slots=True)
class Defer:
    """Not now: run again at `until`, without spending the attempt."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Never: there is nothing to do any more."""

    reason: str


# What a handler returns; raising instead is a failed attempt.
Outcome: TypeAlias = Done | Defer | Cancel


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt, as it is written beside the job."""

    error_class: ErrorClass
    message: str
    # True when another attempt would fail alike.
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


def classify(error: BaseException) -> Failure:
    """The failure an exception stands for. Messages of foreign exceptions are not trusted.

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

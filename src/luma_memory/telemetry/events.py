"""The catalogue of events: constant names, fields, units.

An event is emitted once; logs and metrics subscribe. Fields never hold the text
of a block, a query or a secret. The wording of the lines operators look for is a contract.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """Base class of all events."""

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def level(self) -> Level:
        return "info"

    def message(self) -> str:
        """The line a person reads."""
        return self.name

    def values(self) -> Mapping[str, object]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


Emit: TypeAlias = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class WorkerStarting(Event):
    worker_id: str
    concurrent_jobs_max: int

    def message(self) -> str:
        return "🚀 Memory Worker Starting..."


@dataclass(frozen=True, slots=True)
class WorkerStopped(Event):
    worker_id: str
    released: int  # jobs released

    def message(self) -> str:
        return f"🛑 Memory Worker Stopped ({self.released} jobs handed back)"


@dataclass(frozen=True, slots=True)
class JobCompleted(Event):
    job_id: int
    job_type: str
    duration_ms: int

    def message(self) -> str:
        return f"✅ Job completed: {self.job_type} ({self.duration_ms}ms)"


@dataclass(frozen=True, slots=True)
class JobFailed(Event):
    job_id: int
    job_type: str
    attempt: int
    error_class: str
    error: str
    final: bool

    @property
    def level(self) -> Level:
        return "error" if self.final else "warning"

    def message(self) -> str:
        end = "for good" if self.final else "will be tried again"
        return f"❌ Job failed: {self.job_type} ({self.error_class}: {self.error}; {end})"


@dataclass(frozen=True, slots=True)
class JobDeferred(Event):
    job_id: int
    job_type: str
    seconds: float
    reason: str

    def message(self) -> str:
        return f"Job deferred: {self.job_type} ({self.reason}, again in {self.seconds:.0f}s)"


@dataclass(frozen=True, slots=True)
class WentWithout(Event):
    """A block became active though the provider failed: enriched locally, or without vectors."""

    job_id: int
    step: str  # enrich or embed
    code: str  # of the provider's error
    error: str

    @property
    def level(self) -> Level:
        return "warning"

    def message(self) -> str:
        how = "enriched locally" if self.step == "enrich" else "without vectors"
        return f"Block {how}: {self.error}"


@dataclass(frozen=True, slots=True)
class JobCancelled(Event):
    """There was nothing left to do."""

    job_id: int
    job_type: str
    reason: str

    def message(self) -> str:
        return f"Job cancelled: {self.job_type} ({self.reason})"


@dataclass(frozen=True, slots=True)
class JobLost(Event):
    """The job was cancelled or taken over; this run's result was dropped."""

    job_id: int
    job_type: str
    attempt: int

    @property
    def level(self) -> Level:
        return "warning"

    def message(self) -> str:
        return f"Job lost: {self.job_type} was cancelled or taken over; its result is discarded"


@dataclass(frozen=True, slots=True)
class WorkerHealth(Event):
    uptime_seconds: int
    jobs_processing: int
    pending: int
    processing: int
    completed: int
    failed: int

    def message(self) -> str:
        return (
            f"📊 Worker Health Check: uptime {self.uptime_seconds}s,"
            f" jobs processing {self.jobs_processing}, queue pending={self.pending}"
            f" processing={self.processing} completed={self.completed} failed={self.failed}"
        )


@dataclass(frozen=True, slots=True)
class WorkerRoundFailed(Event):
    """One round of a periodic duty failed; the next one runs as planned."""

    duty: str
    error: str

    @property
    def level(self) -> Level:
        return "warning"

    def message(self) -> str:
        return f"Worker {self.duty} failed: {self.error}; trying again"


@dataclass(frozen=True, slots=True)
class RecallDegraded(Event):
    stage: str
    error: str

    @property
    def level(self) -> Level:
        return "warning"

    def message(self) -> str:
        return f"Recall without {self.stage}: {self.error}"


@dataclass(frozen=True, slots=True)
class SnapshotOutcome(Event):
    """What became of a search that could use a snapshot, or of a snapshot."""

    outcome: str  # used, updated, scanned, loaded, packed, evicted

    @property
    def level(self) -> Level:
        return "debug"

    def message(self) -> str:
        return f"Snapshot {self.outcome}"


@dataclass(frozen=True, slots=True)
class SnapshotsKept(Event):
    """All snapshots of this process after one came, grew or went."""

    count: int
    size_bytes: int

    @property
    def level(self) -> Level:
        return "debug"

    def message(self) -> str:
        return f"{self.count} snapshots kept"


@dataclass(frozen=True, slots=True)
class ReplicaRead(Event):
    """Where a read that the replica may serve went."""

    outcome: str  # used; the others went to the primary, see docs/metrics.md

    @property
    def level(self) -> Level:
        return "debug"

    def message(self) -> str:
        return f"Read of the replica: {self.outcome}"


@dataclass(frozen=True, slots=True)
class ReplicaChanged(Event):
    """The replica is used from now on, or left alone."""

    reason: str | None  # why it is not used; None: it is

    @property
    def level(self) -> Level:
        return "info" if self.reason is None else "warning"

    def message(self) -> str:
        if self.reason is None:
            return "The replica is read"
        return f"The replica is not read: {self.reason}"


@dataclass(frozen=True, slots=True)
class CacheHit(Event):
    age_seconds: float
    is_checked: bool  # False: PostgreSQL did not say whether anything changed

    @property
    def level(self) -> Level:
        return "debug"

    def message(self) -> str:
        return "Cache hit"


@dataclass(frozen=True, slots=True)
class CacheMiss(Event):
    reason: str  # absent, changed, expired, unreadable, unavailable

    @property
    def level(self) -> Level:
        return "debug"

    def message(self) -> str:
        return f"Cache miss ({self.reason})"


@dataclass(frozen=True, slots=True)
class CacheUsed(Event):
    """Hits and misses of some seconds: one line per request would cost a tenth of a hit."""

    hits: int
    misses: int

    def message(self) -> str:
        return f"Cache hit {self.hits}, Cache miss {self.misses}"


@dataclass(frozen=True, slots=True)
class CacheUnreachable(Event):
    """Requests are served without it."""

    reason: str

    @property
    def level(self) -> Level:
        return "warning"

    def message(self) -> str:
        return f"Cache unavailable: {self.reason}"


@dataclass(frozen=True, slots=True)
class CacheReturned(Event):
    def message(self) -> str:
        return "Cache available again"


@dataclass(frozen=True, slots=True)
class RequestHandled(Event):
    method: str
    path: str  # the route's template, never the ids in it
    status: int
    duration_ms: float

    @property
    def level(self) -> Level:
        # A probe's 503 is a valid response: a process that is not ready yet has not failed.
        is_probe = self.status == 503 and self.path.startswith("/health")
        if self.status >= 500 and not is_probe:
            return "error"
        return "info" if 400 <= self.status < 500 else "debug"

    def message(self) -> str:
        return f"{self.method} {self.path} {self.status} ({self.duration_ms:.1f}ms)"


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """Something an operator should read at the start."""

    text: str
    severity: Level = "info"

    @property
    def level(self) -> Level:
        return self.severity

    def message(self) -> str:
        return self.text

    def values(self) -> Mapping[str, object]:
        return {}


@dataclass(frozen=True, slots=True)
class SummaryFellBack(Event):
    """A week was summarized without the model."""

    code: str  # of the provider's error
    error: str

    @property
    def level(self) -> Level:
        return "warning"

    def message(self) -> str:
        return f"Weekly summary written locally: {self.error}"


@dataclass(frozen=True, slots=True)
class RelationsLimited(Event):
    """A user's relation detections of this window are used up; logged once per user and window."""

    project_id: str
    user_id: str
    limit: int

    @property
    def level(self) -> Level:
        return "warning"

    def message(self) -> str:
        return f"Rate limit reached: {self.limit} relation detections of one user in an hour"


@dataclass(frozen=True, slots=True)
class RelationsRefused(Event):
    """Some relations named an unknown candidate or quoted text that does not exist."""

    job_id: int
    count: int

    @property
    def level(self) -> Level:
        return "warning"

    def message(self) -> str:
        return f"Relations refused: {self.count} were made up"


@dataclass(frozen=True, slots=True)
class WebhookAttempted(Event):
    """One request to a webhook's receiver."""

    is_success: bool

    @property
    def level(self) -> Level:
        return "debug"

    def message(self) -> str:
        return "Webhook delivered" if self.is_success else "Webhook not delivered"


@dataclass(frozen=True, slots=True)
class WebhookDisabled(Event):
    """No further deliveries to this webhook."""

    webhook_id: str
    reason: str

    @property
    def level(self) -> Level:
        return "warning"

    def message(self) -> str:
        return f"Webhook disabled: {self.reason}"

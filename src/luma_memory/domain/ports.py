"""Capabilities the pipeline needs; who provides them is decided in `bootstrap`.

Adapters translate foreign errors into `domain.errors` and attach the cause.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, Protocol
from uuid import UUID

from luma_memory.domain.access import ApiKey
from luma_memory.domain.answer import Answer, KeyedRequest
from luma_memory.domain.block import (
    Accepted,
    BackfillStep,
    Block,
    BlockStatus,
    BlockToEnrich,
    IngestItem,
    PassagePlace,
    PassageText,
)
from luma_memory.domain.cache import CacheCounts, CacheFacts, CacheKey, EntryKind
from luma_memory.domain.context import Synthesis, SynthesisRequest
from luma_memory.domain.enrichment import (
    Embedding,
    EmbeddingModel,
    Enrichment,
    EnrichmentKind,
    EnrichmentRequest,
    ModelCall,
    Vector,
)
from luma_memory.domain.erasure import Erasure
from luma_memory.domain.job import (
    Failure,
    Job,
    JobFilter,
    JobRecord,
    JobStats,
    JobStatus,
    JobType,
    NewJob,
)
from luma_memory.domain.relation import (
    Admission,
    Findings,
    Link,
    NewRelation,
    Relation,
    RelationBlock,
    RelationCursor,
    RelationPage,
    RelationRequest,
    RelationStatus,
    RelationType,
)
from luma_memory.domain.revision import RevisionPage
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import Background, NamedEvent, ScanRequest, ScopeScan, TimeSpan
from luma_memory.domain.summary import (
    Draft,
    NewSummary,
    Summary,
    SummaryPage,
    SummaryRequest,
    WeekRead,
)
from luma_memory.domain.usage import PriceTable, Spent, UsageEntry, UsageFilter
from luma_memory.domain.user import User
from luma_memory.domain.weeks import Week
from luma_memory.domain.windows import MadeWindow, Place, Turn


class Embedder(Protocol):
    """Texts in, unit vectors out. Documents and queries have separate doors: some models differ."""

    @property
    def model(self) -> EmbeddingModel: ...

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Embedding]:
        """One embedding a text, in the order of the texts; any number of texts, also none.

        Raises ProviderUnavailable, ProviderTimeout, RateLimited, ProviderRejected or
        ProviderResponseInvalid. Safe to cancel.
        """
        ...

    async def embed_query(self, text: str) -> Embedding:
        """Like `embed_documents`, for the text of a question."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


class Reranker(Protocol):
    """Reads a question and texts together, and says how well each answers it."""

    @property
    def name(self) -> str:
        """Whose scores these are."""
        ...

    async def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """A finite score a text, in the order of the texts; higher is better.

        Raises as `Embedder.embed_documents`. Safe to cancel.
        """
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


class Enricher(Protocol):
    """A block's text in, derived facts out."""

    @property
    def kind(self) -> EnrichmentKind:
        """What blocks enriched here are marked with."""
        ...

    @property
    def name(self) -> str:
        """Model or method and its version."""
        ...

    async def enrich(self, request: EnrichmentRequest) -> Enrichment:
        """Derived facts of one block. Raises as `Embedder.embed_documents`. Safe to cancel."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


CircuitState = Literal["closed", "limited", "away", "refused"]
CircuitOutcome = Literal["well", "limited", "away", "refused"]


@dataclass(frozen=True, slots=True)
class CircuitView:
    """Whether a provider may be called, as far as anybody here knows."""

    state: CircuitState  # closed: go on and call
    code: str | None = None  # of the error that opened it
    reason: str | None = None
    wait_seconds: float = 0.0  # until it is worth asking again
    failures: int = 0  # in a row, before this call
    is_probe: bool = False  # this caller alone tries an open circuit: note what comes of it


@dataclass(frozen=True, slots=True)
class CircuitNote:
    """What came of a call."""

    outcome: CircuitOutcome
    is_probe: bool = False
    code: str | None = None
    reason: str | None = None
    wait: timedelta = timedelta(0)  # for "limited"


class Circuits(Protocol):
    """What all workers know of the providers. All methods raise StoreUnavailable."""

    async def enter(self, name: str) -> CircuitView:
        """Ask before a call."""
        ...

    async def note(self, name: str, note: CircuitNote) -> None:
        """Tell the others."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """Work that is claimed as it is accepted: by whom, and for how long."""

    worker_id: str
    duration: timedelta


@dataclass(frozen=True, slots=True)
class EnrichedPassage:
    """A passage with its vector, None when embedding is switched off or failed for good."""

    text: PassagePlace  # a PassageText, or the place of one that is stored and stays
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class Owed:
    """What an active block still lacks."""

    reason: str | None  # one sentence for the block's `error`
    steps: Sequence[BackfillStep] = ()  # to be tried again; none when that would be in vain
    after: timedelta | None = None  # None: when somebody asks


@dataclass(frozen=True, slots=True)
class EnrichedBlock:
    """What one run of a job made of one block."""

    job: Job
    revision: int  # of the block as it was read; an edit since then voids the result
    # None when enrichment is switched off: what is stored stays.
    enrichment: Enrichment | None
    kind: EnrichmentKind | None
    passages: Sequence[EnrichedPassage]
    embedding_model: str | None
    # What could not be made, why, and when to try it again; None when nothing is owed.
    owed: Owed | None = None


@dataclass(frozen=True, slots=True)
class BlockPage:
    """Blocks, newest first; `next_before` continues the list, None at its end."""

    blocks: Sequence[Block]
    next_before: UUID | None


class BlockStore(Protocol):
    """The blocks of all scopes. Every method says for whom.

    All methods raise StoreUnavailable when PostgreSQL does not answer.
    """

    async def ingest(
        self, items: Sequence[IngestItem], *, lease: Lease | None
    ) -> Sequence[Accepted | Exception]:
        """Commit blocks, passages and jobs in one statement; one answer an item, in order.

        With a lease the jobs are born claimed by its worker, attempt 1.
        """
        ...

    async def read(self, keys: Sequence[tuple[Scope, UUID]]) -> Sequence[Block | None]:
        """The blocks in order of the keys; None for those not in that scope."""
        ...

    async def read_to_enrich(
        self, keys: Sequence[tuple[Scope, UUID]]
    ) -> Sequence[BlockToEnrich | None]:
        """`read` for the blocks' own jobs."""
        ...

    async def page(
        self,
        scope: Scope,
        *,
        limit: int,
        before: UUID | None,
        status: BlockStatus | None,
        session_id: str | None,
    ) -> BlockPage:
        """One page of a scope's blocks, newest first."""
        ...

    async def keep(
        self,
        worker_id: str,
        job: Job,
        enrichment: Enrichment,
        *,
        revision: int,
        kind: EnrichmentKind,
        owed: Owed | None,
    ) -> None:
        """Store derived facts of a block whose vectors are still to be made; its job goes on.

        Nothing is changed where the job is no longer this worker's own attempt.
        """
        ...

    async def write_back(self, worker_id: str, results: Sequence[EnrichedBlock]) -> Sequence[bool]:
        """Store results and complete their jobs in one statement.

        False where the job was no longer this worker's own attempt: nothing was changed there.
        """
        ...


class SearchStore(Protocol):
    """Raw scores for recall."""

    async def scan(self, scope: Scope, request: ScanRequest) -> ScopeScan:
        """Score every live passage and window of the scope in one statement."""
        ...


class QuestionReader(Protocol):
    """What a question says beside its words."""

    async def times(self, question: str, asked_at: datetime | None) -> Sequence[TimeSpan]:
        """The times it names, "last week" being relative to `asked_at` (None: to now).

        A few at most, often none.
        """
        ...

    async def events(self, question: str) -> Sequence[NamedEvent]:
        """What it names in place of a time, with the side of it that is meant; two at most."""
        ...

    async def language(self, question: str) -> str | None:
        """ISO 639-1; None where it cannot be told, as of most questions of a few words."""
        ...


class WindowStore(Protocol):
    """Sessions, and the vectors of windows of their turns. Raises StoreUnavailable."""

    async def turns(
        self, scope: Scope, session_id: str, start: Place, *, limit: int, before: int, text: int
    ) -> Sequence[Turn]:
        """Turns from `start` on and some before it, in order; `text` characters of each."""
        ...

    async def sessions(self, scope: Scope, *, after: str, limit: int) -> Sequence[str]:
        """Names of the scope's sessions after one, in order."""
        ...

    async def store(
        self,
        scope: Scope,
        made: Sequence[MadeWindow],
        *,
        embedding_model: str,
        dropped: Sequence[UUID],
        turns: Sequence[UUID],
    ) -> None:
        """Store windows with the blocks they end with, drop those of others, in one statement.

        turns: all blocks that were looked at; what else they lack for recall is made good.
        """
        ...


class JobProducer(Protocol):
    """Jobs that no block brings with it."""

    async def enqueue(self, jobs: Sequence[NewJob]) -> Sequence[int]:
        """The new jobs' ids; none for a unique key that is taken. Raises StoreUnavailable."""
        ...


class JobQueue(Protocol):
    """The queue as a worker sees it."""

    async def claim(
        self,
        worker_id: str,
        *,
        limit: int,
        lease: timedelta,
        job_types: Sequence[JobType],
        rescue: bool,
    ) -> Sequence[Job]:
        """Up to `limit` jobs, each with an attempt counted. Nothing to do is an empty answer."""
        ...

    async def complete(self, worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
        """Complete jobs whose work needed no write-back; which of them were still the worker's.

        Jobs in other hands stay untouched.
        """
        ...

    async def fail(
        self, worker_id: str, job: Job, failure: Failure, *, backoff: timedelta
    ) -> bool | None:
        """Count a failed attempt. True when the job failed for good, False when it runs again.

        None when the job was in other hands: nothing was changed.
        """
        ...

    async def release(
        self, worker_id: str, jobs: Sequence[Job], *, run_at: datetime | None = None
    ) -> Sequence[bool]:
        """Hand jobs back without spending the attempt; which of them were still the worker's."""
        ...

    async def rescue(self, worker_id: str) -> int:
        """Take back jobs of workers that are gone, for anybody to claim; how many."""
        ...

    async def held(self, worker_id: str) -> Sequence[Job]:
        """The jobs that this worker is running, as the table has it."""
        ...

    async def cancel(self, worker_id: str, job: Job, reason: str) -> bool:
        """End a claimed job for good without a result; False when it was in other hands."""
        ...

    async def stats(self) -> JobStats:
        """The queue in numbers, in constant time."""
        ...


class QueueUpkeep(Protocol):
    """What keeps the queue small and its calendar. All methods raise StoreUnavailable."""

    async def prune(
        self, *, completed_before: datetime, failed_before: datetime, limit: int
    ) -> int:
        """Delete up to `limit` jobs that ended before these; how many. The totals stay."""
        ...

    async def schedule_weekly_summaries(self, now: datetime, *, limit: int) -> int:
        """Enqueue what is due at `now`, once a user and week; how many jobs were made."""
        ...


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first; `next_below` continues the list, None at its end."""

    jobs: Sequence[JobRecord]
    next_below: int | None


class JobControl(Protocol):
    """The queue as operators and clients see it: look, run again, cancel, clear.

    Every method says for which project. What changes jobs changes at most `limit` of them, the
    oldest first, in one statement. All methods raise StoreUnavailable.
    """

    async def page(self, which: JobFilter, *, status: JobStatus | None, limit: int) -> JobPage:
        """One page of jobs, newest first."""
        ...

    async def count(self, which: JobFilter, *, statuses: Sequence[JobStatus]) -> int:
        """How many jobs in these states; reads all of them."""
        ...

    async def retry(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        """Let failed jobs run again (cancelled ones by id only); the ids of those that will."""
        ...

    async def cancel(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        """Cancel jobs that have not ended, also running ones; the ids of those that were."""
        ...

    async def clear_pending(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        """Delete pending jobs; their blocks go on waiting. The ids of those that are gone."""
        ...

    async def enqueue_waiting(
        self, *, project_id: str | None, user_id: str | None, limit: int
    ) -> Sequence[int]:
        """A job for every block that waits for enrichment without one; the ids of the jobs."""
        ...

    async def count_waiting(self, *, project_id: str | None, user_id: str | None) -> int:
        """Blocks that wait for enrichment without a job."""
        ...


class Prices(Protocol):
    """What calls cost."""

    def cost_usd(self, call: ModelCall) -> Decimal | None:
        """US dollars; None where no price is known."""
        ...

    def knows(self, model: str) -> bool:
        """Whether there is a price for a model ("vendor/model")."""
        ...

    @property
    def table(self) -> PriceTable: ...


class UsageStore(Protocol):
    """The account of all scopes. All methods raise StoreUnavailable."""

    async def add(self, entries: Sequence[UsageEntry]) -> None:
        """Add to what is counted."""
        ...

    async def spent(self, keys: Sequence[tuple[Scope, date]]) -> Sequence[Spent]:
        """What each scope took on that day, in order of the keys."""
        ...

    async def lines(self, which: UsageFilter, *, limit: int) -> Sequence[UsageEntry]:
        """Day, operation and model, newest day first; scopes are added up unless one is named."""
        ...


class VectorModels(Protocol):
    """Which models the stored vectors are of. All methods raise StoreUnavailable."""

    async def register(self, model_id: str) -> None:
        """This model makes vectors from now on."""
        ...

    async def in_use(self) -> Sequence[str]:
        """Models that vectors may still be of, the one used longest first."""
        ...

    async def of_scope(self, scope: Scope) -> str | None:
        """The scope's own; None is the first of those in use."""
        ...


class BackgroundStore(Protocol):
    """What is known of embedding models' cosines. All methods raise StoreUnavailable."""

    async def background(self, model_id: str) -> Background | None:
        """None where it was not measured yet."""
        ...

    async def keep_background(self, model_id: str, background: Background) -> None:
        """Keep what was measured of a registered model; the first measurement stays."""
        ...


@dataclass(frozen=True, slots=True)
class StalePassage:
    """A passage that has no vector of the wanted model."""

    block_id: UUID
    ordinal: int
    revision: int  # of the block as it was read
    speaker: str | None
    text: str


@dataclass(frozen=True, slots=True)
class ReembedProgress:
    """How far a change of the embedding model has come, in passages."""

    wanted: bool  # asked for, and not finished
    total: int
    done: int  # of the wanted model, in use or ready for it


class ReembedStore(Protocol):
    """A change of the embedding model under way. All methods raise StoreUnavailable."""

    async def want(self, model_id: str) -> None:
        """Have all vectors be of this model. Asking again changes nothing."""
        ...

    async def wanted(self) -> str | None:
        """The model that was asked for, while that is not finished."""
        ...

    async def enqueue(self, model_id: str, *, limit: int, circuits: Sequence[str]) -> int:
        """Jobs for up to `limit` scopes with stale passages, when no such job is left; how many.

        Where none is stale any more, the change is finished and other models retire. Nothing is
        done unless this model is wanted, and while one of these circuits is open.
        """
        ...

    async def stale(self, scope: Scope, model_id: str, *, limit: int) -> Sequence[StalePassage]:
        """Some of the scope's passages that have no vector of this model yet."""
        ...

    async def put(
        self, scope: Scope, model_id: str, vectors: Sequence[tuple[StalePassage, Vector | None]]
    ) -> None:
        """Keep vectors beside those in use; None where the model refuses the text."""
        ...

    async def switch(self, scope: Scope, model_id: str) -> None:
        """Put what was kept in use, all of the scope at once."""
        ...

    async def progress(self, model_id: str) -> ReembedProgress:
        """Reads all passages."""
        ...


class BackfillStore(Protocol):
    """Active blocks that something is owed to. All methods raise StoreUnavailable."""

    async def enqueue_due(self, *, open_max: int, circuits: Sequence[str]) -> int:
        """Jobs for what is due, while fewer than that many wait; how many were made.

        None while one of these circuits is open.
        """
        ...

    async def request(self, *, project_id: str | None, user_id: str | None, limit: int) -> int:
        """Make due what is owed later or when asked, for up to `limit` blocks; how many."""
        ...

    async def owed(self, *, project_id: str | None, user_id: str | None) -> OwedCounts:
        """How many blocks are owed something."""
        ...


@dataclass(frozen=True, slots=True)
class OwedCounts:
    """Active blocks that lack something."""

    due: int  # a worker is about to make it
    later: int  # to be tried again
    asked: int  # only when somebody asks: it was switched off when they came


class JobSignal(Protocol):
    """Tells workers that there may be work. A hint: losing it costs a poll interval."""

    def notify(self) -> None:
        """Say so soon; never blocks and never raises."""
        ...


class WorkerPresence(Protocol):
    """How a worker is known to the others."""

    @property
    def worker_id(self) -> str:
        """New at every process start."""
        ...

    async def start(
        self, *, running: Callable[[], int], on_signal: Callable[[], None] | None
    ) -> None:
        """Register, and call `on_signal` from then on whenever there may be work.

        running: asked at every heartbeat for the number of jobs at work. Raises StoreUnavailable
        or SetupError.
        """
        ...

    async def stop(self) -> None:
        """Say goodbye. Idempotent; harmless before start."""
        ...


class SystemProbe(Protocol):
    """What health asks of the database."""

    async def schema_is_current(self) -> bool:
        """Raises StoreUnavailable."""
        ...

    async def live_worker_count(self) -> int:
        """Workers seen lately that have not stopped. Raises StoreUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key with the SHA-256 of all of it."""

    key: ApiKey
    key_hash: bytes


class KeyStore(Protocol):
    """API keys. All methods raise StoreUnavailable."""

    async def create(self, stored: StoredKey) -> ApiKey:
        """Store a new key; it as it is stored."""
        ...

    async def list(self, *, project_id: str | None) -> Sequence[ApiKey]:
        """Every key, also revoked ones, oldest first; of one project, or of all."""
        ...

    async def revoke(self, prefix: str) -> ApiKey | None:
        """End a key for good; None when there is none. Repeating it changes nothing."""
        ...

    async def find(self, prefix: str) -> StoredKey | None:
        """The key of that prefix, also a revoked one."""
        ...

    async def any_exists(self) -> bool:
        """Whether there ever was a key, revoked ones included."""
        ...

    async def note_used(self, prefixes: Collection[str]) -> None:
        """These keys were used just now."""
        ...


class TokenVerifier(Protocol):
    """Access tokens that somebody else gives to end users."""

    async def subject(self, token: str) -> str:
        """Whom the token is about. Raises Unauthenticated, or ProviderUnavailable."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


@dataclass(frozen=True, slots=True)
class ScopeState:
    """What an answer about a scope depends on besides the question."""

    # Rises with every visible change, and a number never comes twice. 0: nothing was ever stored.
    version: int
    read_at: datetime  # by the database's clock, which also decides what has expired
    next_expiry_at: datetime | None  # the earliest after `read_at` in the scope


class ScopeVersions(Protocol):
    """Whether anything changed."""

    async def state(self, scope: Scope) -> ScopeState:
        """As of now: every write that was committed before the call is in. One short look-up.

        Raises StoreUnavailable.
        """
        ...


class Cache(Protocol):
    """Bytes by key, for a while. Losing all of it costs only speed; it holds no fact alone.

    All methods but `facts` and `close` raise CacheUnavailable, within tens of milliseconds. They
    are safe to cancel at any moment: no later answer belongs to another asker.
    """

    async def fetch(self, key: CacheKey) -> bytes | None:
        """The value as it was stored, by anybody; None when there is none."""
        ...

    async def store(self, key: CacheKey, value: bytes, *, ttl_seconds: float) -> None:
        """Keep a value for at most so long; it may go earlier. A value too large is not kept."""
        ...

    async def claim(self, key: CacheKey, *, token: str, seconds: float) -> bool:
        """Whether nobody else holds this name; if so, it is the caller's for so long."""
        ...

    async def let_go(self, key: CacheKey, *, token: str) -> None:
        """Give a claimed name back; one that is somebody else's by now stays theirs."""
        ...

    async def drop_all(self, kind: EntryKind, owner: str) -> int:
        """Drop every entry of an owner; how many. For once in a while: it may look at every key,
        and takes seconds where there are many.
        """
        ...

    async def facts(self) -> CacheFacts:
        """How it is; never raises."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


class CacheLedger(Protocol):
    """Counts of all processes. Raises StoreUnavailable."""

    async def add(self, counts: Mapping[datetime, CacheCounts]) -> None:
        """Add what was counted, by full hour."""
        ...

    async def since(self, hour: datetime) -> CacheCounts:
        """The sum from that hour on."""
        ...


class CacheHits(Protocol):
    """How often the cache had the answer."""

    async def last_day(self) -> CacheCounts:
        """Of all processes, over 24 hours. Raises StoreUnavailable."""
        ...


class Synthesizer(Protocol):
    """Writes a short text from blocks."""

    @property
    def name(self) -> str:
        """Model and version of the prompt."""
        ...

    async def synthesize(self, request: SynthesisRequest) -> Synthesis:
        """Statements with the places they rest on. Raises as `Embedder.embed_documents`."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


class TokenCounter(Protocol):
    """How long texts are for a model."""

    @property
    def name(self) -> str:
        """Whose tokens these are."""
        ...

    async def count(self, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of each text. An estimate errs on the high side."""
        ...


class BlockEditor(Protocol):
    """What clients change after a block was accepted. All methods raise StoreUnavailable."""

    async def edit(
        self,
        scope: Scope,
        block_id: UUID,
        *,
        revision: int,
        changed_by: str,
        changes: Mapping[str, Any],
        content_hash: bytes | None,
        passages: Sequence[PassageText] | None,
    ) -> bool:
        """Change a block that still has this revision; False when it has not, or is gone.

        changes: columns by name. content_hash: None keeps it. passages: those of the new words,
        which are enriched anew; None when the words stay.
        """
        ...

    async def delete(
        self, scope: Scope, block_id: UUID, *, revision: int | None
    ) -> Literal["deleted", "missing", "stale"]:
        """Delete a block with all that refers to it; stale: it has another revision."""
        ...

    async def revisions(
        self, scope: Scope, block_id: UUID, *, below: int | None, limit: int
    ) -> RevisionPage:
        """What a block was, newest first; nothing for one that is not there."""
        ...


class AnswerStore(Protocol):
    """Remembered answers."""

    async def once(self, request: KeyedRequest, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of `work`, which is done once for a key, whoever asks and how often.

        Work and answer are one transaction: what fails is not remembered, and a crash leaves
        neither. Raises Invalid (code idempotency_key_reused) for another request with that key,
        StoreUnavailable, and what `work` raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class Remains:
    """What names a user now."""

    counts: Mapping[str, int]  # rows by what they are; none is 0
    stored_since: datetime | None  # since when there is a row of the user's own


class EraserStore(Protocol):
    """Everything of a user, for good. All methods raise StoreUnavailable."""

    async def sweep_jobs(self, scope: Scope) -> tuple[int, int]:
        """Delete the user's jobs in small steps; how many, and up to which job id."""
        ...

    async def erase(
        self,
        scope: Scope,
        *,
        erasure_id: UUID,
        key_digest: bytes | None,
        started_at: datetime,
        last_job: int,
        swept: int,
        cached: int,
    ) -> Erasure | None:
        """Delete everything else in one transaction and write down that it happened.

        None when an erasure with that key is there already: nothing was changed. Raises
        StoreContended when a job of the user is being ended at this moment.
        """
        ...

    async def find(
        self, scope: Scope, *, erasure_id: UUID | None, key: bytes | None
    ) -> Erasure | None:
        """An erasure by its id or by the digest of its key."""
        ...

    async def remains(self, scope: Scope) -> Remains:
        """What names the user now."""
        ...


class Archive(Protocol):
    """All rows of a user, out and in again. All methods raise StoreUnavailable."""

    def rows(self, scope: Scope) -> AsyncIterator[tuple[str, Sequence[str]]]:
        """Kinds of rows and pages of them as JSON texts, in the order they can be stored again."""
        ...

    async def store(self, scope: Scope, kind: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Store rows of a kind; how many were not there yet. Raises Invalid."""
        ...

    async def dimension(self, scope: Scope, model: str) -> int | None:
        """Of the user's vectors of a model; None where there are none."""
        ...


class ScopeCache(Protocol):
    """What is kept of a user outside the database, to answer faster."""

    async def forget(self, scope: Scope) -> int:
        """Drop it; how many entries there were. Never raises: what stays behind expires."""
        ...


class UserStore(Protocol):
    """Users' own settings. All methods raise StoreUnavailable."""

    async def read(self, scope: Scope) -> User:
        """The user; one who is not there is answered as they would be."""
        ...

    async def set_time_zone(self, scope: Scope, time_zone: str) -> User:
        """From now on; the user is made if need be. Raises Invalid for one unknown there."""
        ...


class Summarizer(Protocol):
    """A week's items in, what they came to out."""

    @property
    def name(self) -> str:
        """Model or method and its version."""
        ...

    async def summarize(self, request: SummaryRequest) -> Draft:
        """Raises as `Embedder.embed_documents`. Safe to cancel."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


SummaryOutcome = Literal["stored", "changed", "lost"]


class SummaryStore(Protocol):
    """Weekly summaries. All methods raise StoreUnavailable."""

    async def read_week(self, scope: Scope, week: Week, *, limit: int) -> WeekRead:
        """The week's active blocks as they stood at its end, the `limit` weightiest of them."""
        ...

    async def store(
        self,
        scope: Scope,
        summary: NewSummary | None,
        week: Week,
        read: WeekRead,
        *,
        worker_id: str | None,
        job: Job | None,
    ) -> SummaryOutcome:
        """Store it (None: an empty week, which has none) if the blocks stand as they were read.

        With a job, it is completed together with that; "lost" when it is no longer this worker's.
        """
        ...

    async def of_week(self, scope: Scope, week_start: date) -> Summary | None: ...

    async def page(self, scope: Scope, *, limit: int, before: date | None) -> SummaryPage:
        """Newest week first."""
        ...


class Relator(Protocol):
    """One block and its candidates in, relations between them out."""

    @property
    def name(self) -> str:
        """Model or method and its version."""
        ...

    async def relate(self, request: RelationRequest) -> Findings:
        """Raises as `Embedder.embed_documents`. Safe to cancel."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


class RelationStore(Protocol):
    """Relations, and what follows from them. All methods raise StoreUnavailable."""

    async def candidates(self, scope: Scope, block_id: UUID) -> RelationRequest | None:
        """An active block with those it may have to do with; None when it is not there."""
        ...

    async def admit(self, worker_id: str, job: Job, *, limit: int, window: timedelta) -> Admission:
        """Take one of the user's detections of a window, or a place in a later one."""
        ...

    async def store(
        self,
        worker_id: str,
        job: Job,
        relations: Sequence[NewRelation],
        read: Sequence[RelationBlock],
        *,
        model: str,
    ) -> int | None:
        """Store relations of blocks that stand as they were read, and complete the job.

        How many are new; None when the job is no longer this worker's: nothing was changed.
        """
        ...

    async def decide(
        self, scope: Scope, relation_id: UUID, status: RelationStatus, *, decided_by: str
    ) -> Relation | None:
        """Accept or reject; None when there is no such relation."""
        ...

    async def page(
        self,
        scope: Scope,
        *,
        limit: int,
        before: UUID | None,
        block_id: UUID | None,
        relation_type: RelationType | None,
        status: RelationStatus | None,
    ) -> RelationPage:
        """Relations of a scope, or of one of its blocks, newest first."""
        ...

    async def enqueue_page(
        self,
        after: RelationCursor,
        *,
        project_id: str | None,
        user_id: str | None,
        limit: int,
        attempts_max: int,
        is_trial: bool,
    ) -> tuple[int, RelationCursor] | None:
        """Enqueue detections for active blocks that never had one; None at the end of all.

        How many of the next `limit` blocks got one (is_trial: would get), and where to go on.
        """
        ...

    async def links(self, scope: Scope, block_ids: Sequence[UUID], *, limit: int) -> Sequence[Link]:
        """Accepted relations of these blocks that say more than `related`, the surest first."""
        ...

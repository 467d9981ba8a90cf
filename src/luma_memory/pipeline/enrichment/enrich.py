"""The `enrich_and_embed` job: read the block, enrich, embed, write back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from luma_memory.concurrency.coalesce import Coalescer
from luma_memory.concurrency.contention import ContentionAware
from luma_memory.concurrency.deadline import TimeLimit
from luma_memory.concurrency.parted import Batches, parted
from luma_memory.concurrency.retries import ResultT, retry_until
from luma_memory.domain.block import BackfillStep, BlockToEnrich, PassagePlace
from luma_memory.domain.clock import Clock
from luma_memory.domain.enrichment import (
    Embedding,
    Enrichment,
    EnrichmentKind,
    EnrichmentRequest,
    ModelCall,
)
from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderPaused,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    StoreContended,
    StoreUnavailable,
    is_outage,
)
from luma_memory.domain.job import Cancel, Defer, Done, Job, Outcome
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.pipeline.enrichment.block_passages import passage_places, with_terms
from luma_memory.pipeline.enrichment.long_blocks import LongBlocks, Progress
from luma_memory.pipeline.enrichment.scope_embedders import ScopeEmbedders
from luma_memory.pipeline.enrichment.session_windows import SessionWindows
from luma_memory.pipeline.ingest.indexing import embedding_text
from luma_memory.pipeline.text.terms import DEFAULT_LANGUAGE
from luma_memory.ports.blocks import BlockStore, EnrichedBlock, EnrichedPassage, PendingBackfill
from luma_memory.ports.models import Embedder, Enricher
from luma_memory.telemetry import spans
from luma_memory.telemetry.events import Emit, WentWithout

# When the backfill of a block runs first, and again after one that failed.
BACKFILL_FIRST = timedelta(seconds=15)
BACKFILL_AGAIN = timedelta(minutes=5)
# How often a backfill tries an account that was refused.
REFUSED_ACCOUNT_RETRY = timedelta(seconds=30)
# The share of the time for a step that one run spends on parts of a long block: the rest is
# for the part that is being embedded at that point.
SLICE_SHARE = 0.25
READ_BATCH_MAX = 200
WRITE_BATCH_MAX = 100
# How long a job retries through a restart of the database, without consuming an attempt.
RETRY_SECONDS = 10.0
# Vectors per write-back: a block of 100,000 characters has about 200 passages.
WRITE_PASSAGES_MAX = 2_000


@dataclass(slots=True)
class StepResults:
    """The results of one run of a job: each step has a result, an error, or was not run."""

    enrichment: Enrichment | None = None
    kind: EnrichmentKind | None = None
    enrich_error: LumaMemoryError | None = None
    calls: Sequence[ModelCall] = ()  # of the enrichment
    embedder: Embedder | None = None  # that was called
    places: Sequence[PassagePlace] = ()  # that still need vectors
    vectors: Sequence[Embedding] | None = None  # one a place
    embed_error: LumaMemoryError | None = None

    @property
    def errors(self) -> Sequence[LumaMemoryError]:
        return [error for error in (self.enrich_error, self.embed_error) if error is not None]

    def step_of(self, error: LumaMemoryError) -> BackfillStep:
        return "enrich" if error is self.enrich_error else "embed"


class EnrichBlock:
    """Handler of `enrich_and_embed`. Reads and write-backs of concurrent jobs share statements.

    The two steps are independent: the result of one is kept while the other is retried, so no
    attempt pays for it twice.

    enricher, embedder: None when the step is disabled; the block then becomes active without it,
    with a backfill on request. fallback: enriches when no further attempt can succeed; None for no
    fallback. fail_fast: fail the block in that case; otherwise it becomes active with a pending
    backfill. can_wait: whether a worker will run deferred jobs.
    paused_wait: how long after its acceptance a block waits for a provider whose circuit is open,
    without consuming an attempt. provider_timeout: for each step, None for the job's own timeout;
    it must be shorter than that, or a hanging provider leaves no time for the fallback.
    job_timeout: of one run, in which a long block may not fit; None for no limit.
    scope_embedders: the embedder of each scope; None to use `embedder` for all.
    windows: notified of new turns, so that the session windows around them are embedded; or None.
    concurrent_writes: statements of write-backs in flight; more than one where jobs wait for a
    network, so that finished jobs do not wait for the statement of others. part_of: the partition
    of a user, whose blocks have statements of their own; None if there is one partition.
    """

    def __init__(
        self,
        store: BlockStore,
        *,
        worker_id: str,
        enricher: Enricher | None,
        embedder: Embedder | None,
        fallback: Enricher | None,
        fail_fast: bool,
        clock: Clock,
        emit: Emit,
        can_wait: bool = True,
        paused_wait: timedelta = timedelta(0),
        provider_timeout: timedelta | None = None,
        job_timeout: timedelta | None = None,
        spending: Spending | None = None,
        scope_embedders: ScopeEmbedders | None = None,
        windows: SessionWindows | None = None,
        concurrent_writes: int = 1,
        part_of: Callable[[Scope], int] | None = None,
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._enricher = enricher
        self._embedder = embedder
        self._fallback = fallback
        self._fail_fast = fail_fast
        self._can_wait = can_wait
        self._paused_wait = paused_wait
        self._windows = windows
        self._provider_seconds = provider_timeout.total_seconds() if provider_timeout else None
        self._spending = spending
        self._scope_embedders = scope_embedders
        self._clock = clock
        self._emit = emit
        step_timeout = provider_timeout or job_timeout
        self._long_blocks = LongBlocks(
            store,
            self._embed,
            slice_seconds=SLICE_SHARE * step_timeout.total_seconds()
            if step_timeout and can_wait
            else None,
            spending=spending,
            clock=clock,
        )
        self._reads: Batches[tuple[Scope, UUID], BlockToEnrich | None] = parted(
            lambda: Coalescer(store.read_to_enrich, items_max=READ_BATCH_MAX, is_shared=is_outage),
            None if part_of is None else lambda key: part_of(key[0]),
        )
        self._writes: Batches[tuple[BlockToEnrich, EnrichedBlock], bool] = parted(
            lambda: self._write_backs(concurrent_writes),
            None if part_of is None else lambda item: part_of(item[0].scope),
        )

    def _write_backs(self, batches_max: int) -> Batches[tuple[BlockToEnrich, EnrichedBlock], bool]:
        return ContentionAware(
            self._write_back,
            key_of=lambda item: item[0].scope,
            locked=self._store.locked_scopes,
            items_max=WRITE_BATCH_MAX,
            size_max=WRITE_PASSAGES_MAX,
            size_of=lambda item: len(item[1].passages),
            batches_max=batches_max,
            contended=StoreContended,
            is_shared=is_outage,
        )

    async def __call__(self, job: Job) -> Outcome:
        block_id = job.block_id
        if block_id is None:
            return Cancel("the job has no block")
        with spans.span("read"):
            block = await _retry(lambda: self._reads.submit((job.scope, block_id)))
        if block is None:
            return Done()  # a job whose block is gone is done
        if self._spending is None:
            return await self._run(job, block)
        if until := await self._spending.admit(job.scope):
            return Defer(until, "the user's daily budget is used up")
        try:
            return await self._run(job, block)
        finally:
            self._spending.leave(job.scope)

    async def _run(self, job: Job, block: BlockToEnrich) -> Outcome:
        places = passage_places(block)
        embedder = await self._embedder_of(block)
        progress = Progress(places)
        if embedder is not None:
            progress = await self._long_blocks.advance(embedder, block, places)
            if progress.is_time_up:
                return Defer(self._clock.now(), "more passages to embed")
        results = await self._provide(block, embedder, progress)
        if results.errors:
            await self._settle(job, block, results)
        passages = await with_terms(block, places, _language(block, results))
        result = self._result(job, block, passages, results)
        return Done(write=lambda: self._written(block, result))

    async def _written(self, block: BlockToEnrich, result: EnrichedBlock) -> bool:
        with spans.span("write back"):
            return await self._writes.submit((block, result))

    async def _embedder_of(self, block: BlockToEnrich) -> Embedder | None:
        """The embedder for the block; None if it needs no vectors."""
        if "embed" not in _steps(block) or self._embedder is None or self._scope_embedders is None:
            return self._embedder if "embed" in _steps(block) else None
        return await self._scope_embedders.of_scope(block.scope)

    async def _provide(
        self, block: BlockToEnrich, embedder: Embedder | None, progress: Progress
    ) -> StepResults:
        steps = _steps(block)
        results = StepResults(embedder=embedder, places=progress.left, embed_error=progress.error)
        embedding = None
        if embedder is not None and progress.error is None:
            embedding = asyncio.create_task(self._embed(embedder, block, progress.left))
            # Lets the call reach its thread or socket before the enrichment starts.
            await asyncio.sleep(0)
        try:
            if "enrich" in steps and self._enricher is not None:
                await self._enrich(self._enricher, block, results)
            if embedding is not None:
                results.vectors = await embedding
        except LumaMemoryError as error:
            results.embed_error = error
        finally:
            if embedding is not None and results.vectors is None and results.embed_error is None:
                # Cancelled: cancel the other step, too, and retrieve its exception.
                embedding.cancel()
                await asyncio.gather(embedding, return_exceptions=True)
        if self._spending is not None:
            _record_spending(self._spending, block.scope, results)
        return results

    @spans.traced("enrich")
    async def _enrich(self, enricher: Enricher, block: BlockToEnrich, results: StepResults) -> None:
        try:
            results.enrichment = await self._in_time(enricher.enrich(_request(block)))
            results.kind = enricher.kind
        except LumaMemoryError as error:
            results.enrich_error = error
            spans.current().failed(error)
        source = results.enrichment or results.enrich_error
        results.calls = source.calls if source else ()

    @spans.traced("embed")
    async def _embed(
        self, embedder: Embedder, block: BlockToEnrich, passages: Sequence[PassagePlace]
    ) -> Sequence[Embedding]:
        texts = [
            embedding_text(
                block.content[passage.start : passage.stop], embedder, speaker=block.speaker
            )
            for passage in passages
        ]
        return await self._in_time(embedder.embed_documents(texts))

    async def _in_time(self, work: Awaitable[ResultT]) -> ResultT:
        if self._provider_seconds is None:
            return await work
        try:
            with TimeLimit(self._provider_seconds):
                return await work
        except TimeoutError as error:
            raise ProviderTimeout("The provider did not respond in time.") from error

    async def _settle(self, job: Job, block: BlockToEnrich, results: StepResults) -> None:
        """Decide on failed steps: retry, wait, fall back, or continue without.

        Raises the error that ends the attempt, after keeping the other step's result; or returns,
        and the block becomes active with the available results.
        """
        is_backfill = _is_backfill(block)
        final = [error for error in results.errors if job.is_last_attempt or not error.retryable]
        waiting = [error for error in results.errors if self._is_deferred(error, block, results)]
        final = [error for error in final if error not in waiting]
        if final and self._fail_fast and not is_backfill:
            await self._keep(job, block, results)
            raise _as_failure(final[0])
        if results.enrich_error in final and self._fallback is not None and not is_backfill:
            results.enrichment = await self._fallback.enrich(_request(block))
            results.kind = "fallback"
        if again := next(iter(waiting), None) or _first_not_in(final, results.errors):
            await self._keep(job, block, results)
            raise self._deferred(again, block) if again in waiting else again
        for error in results.errors:
            self._emit(WentWithout(job.id, results.step_of(error), error.code, str(error)))

    def _is_deferred(
        self, error: LumaMemoryError, block: BlockToEnrich, results: StepResults
    ) -> bool:
        if isinstance(error, StoreUnavailable):
            return True
        if not self._can_wait:
            return False
        if isinstance(error, ProviderPaused):
            age = self._clock.now() - block.created_at
            return age < self._paused_wait or _is_backfill(block)
        if _refuses_account(error):
            # A deferral leaves the block unchanged, but would discard the result of the other step.
            return _is_backfill(block) and results.enrichment is None and results.vectors is None
        return isinstance(error, RateLimited)

    def _deferred(self, error: LumaMemoryError, block: BlockToEnrich) -> LumaMemoryError:
        """The error as a deferral, at most for the rest of the block's wait limit."""
        if _refuses_account(error):
            seconds = REFUSED_ACCOUNT_RETRY.total_seconds()
            return RateLimited(str(error), retry_after_seconds=seconds, code=error.code)
        if not isinstance(error, ProviderPaused):
            return error
        seconds = error.retry_after_seconds
        if not _is_backfill(block):
            left = self._paused_wait - (self._clock.now() - block.created_at)
            seconds = min(seconds, max(left.total_seconds(), 0.0))
        return RateLimited(str(error), retry_after_seconds=seconds, code=error.code)

    async def _keep(self, job: Job, block: BlockToEnrich, results: StepResults) -> None:
        """Store the result of one step before the attempt ends with the error of the other."""
        enrichment, kind, error = results.enrichment, results.kind, results.enrich_error
        if enrichment is None or kind is None or _is_backfill(block):
            return
        with contextlib.suppress(StoreUnavailable):
            await self._store.keep(
                self._worker_id,
                job,
                enrichment,
                revision=block.revision,
                kind=kind,
                pending_backfill=PendingBackfill(
                    str(error), ("enrich",) if _can_succeed_later(error) else ()
                )
                if error
                else None,
            )

    def _result(
        self, job: Job, block: BlockToEnrich, passages: Sequence[PassagePlace], results: StepResults
    ) -> EnrichedBlock:
        # Passages without one here keep what a part has stored for them.
        vectors = {
            place.ordinal: embedding.vector
            for place, embedding in zip(results.places, results.vectors or (), strict=False)
        }
        return EnrichedBlock(
            job=job,
            revision=block.revision,
            enrichment=results.enrichment,
            kind=results.kind,
            passages=[
                EnrichedPassage(passage, vectors.get(passage.ordinal)) for passage in passages
            ],
            embedding_model=results.embedder.model.id
            if results.embedder and results.vectors
            else None,
            pending_backfill=self._pending_backfill(block, results),
        )

    def _pending_backfill(
        self, block: BlockToEnrich, results: StepResults
    ) -> PendingBackfill | None:
        """The steps that the block lacks when it becomes active."""
        if not results.errors and self._enricher and self._embedder and not _is_kept(block):
            return None
        automatic = [results.step_of(e) for e in results.errors if _can_succeed_later(e)]
        on_request = [results.step_of(e) for e in results.errors if not _can_succeed_later(e)]
        if self._enricher is None and "enrich" in _steps(block):
            on_request.append("enrich")
        if self._embedder is None and "embed" in _steps(block):
            on_request.append("embed")
        reason = "; ".join(str(error) for error in results.errors) or None
        if _is_kept(block) and results.enrichment is None:
            reason = reason or block.error
            if block.backfill_steps:
                automatic += [step for step in block.backfill_steps if step not in automatic]
            elif block.enrichment == "fallback":
                on_request.append("enrich")
        if not (automatic or on_request):
            return None
        # If a backfill completed one step, its provider accepts calls again.
        is_vain = _is_backfill(block) and results.enrichment is None and results.vectors is None
        after = BACKFILL_AGAIN if is_vain else BACKFILL_FIRST
        return PendingBackfill(reason, (*automatic, *on_request), after if automatic else None)

    async def _write_back(
        self, items: Sequence[tuple[BlockToEnrich, EnrichedBlock]]
    ) -> Sequence[bool]:
        if self._windows is not None:
            await self._windows.enqueue([block for block, _ in items])
        writes = [result for _, result in items]
        models = {write.embedding_model for write in writes} - {None}
        if len(models) <= 1:
            return await self._store.write_back(self._worker_id, writes)
        # During a switch of models scopes differ, and a statement stores vectors of one model.
        written: dict[int, bool] = {}
        for model in {write.embedding_model for write in writes}:
            own = [write for write in writes if write.embedding_model == model]
            written_now = await self._store.write_back(self._worker_id, own)
            written |= {
                id(write): is_written for write, is_written in zip(own, written_now, strict=True)
            }
        return [written[id(write)] for write in writes]


async def _retry(attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
    return await retry_until(attempt, retry_on=StoreUnavailable, timeout_seconds=RETRY_SECONDS)


def _can_succeed_later(error: LumaMemoryError) -> bool:
    """Whether the same text may succeed later without a request.

    An account or an address can be repaired, a text cannot. A model that gave invalid responses in
    every attempt gives them again, at a price.
    """
    if isinstance(error, ProviderResponseInvalid):
        return error.code == "provider_redirected"
    return error.retryable or _refuses_account(error)


def _refuses_account(error: LumaMemoryError) -> bool:
    return isinstance(error, ProviderRejected) and error.concerns_account


def _is_backfill(block: BlockToEnrich) -> bool:
    return block.status == "active" and bool(block.backfill_steps)


def _is_kept(block: BlockToEnrich) -> bool:
    """Whether an earlier attempt already enriched this revision."""
    return (
        block.status != "active"
        and block.enriched_revision == block.revision
        and block.enrichment in ("model", "fallback")
    )


def _language(block: BlockToEnrich, results: StepResults) -> str:
    known = results.enrichment.language if results.enrichment is not None else block.language
    return known or DEFAULT_LANGUAGE


def _steps(block: BlockToEnrich) -> Sequence[BackfillStep]:
    if _is_backfill(block):
        return block.backfill_steps or ()
    return ("embed",) if block.is_item or _is_kept(block) else ("enrich", "embed")


def _record_spending(spending: Spending, scope: Scope, results: StepResults) -> None:
    if results.calls:
        spending.record(
            scope, "enrichment", results.calls, blocks=int(results.enrichment is not None)
        )
    if results.embedder and results.vectors:
        tokens = sum(embedding.token_count for embedding in results.vectors)
        call = ModelCall(results.embedder.model.id, tokens)
        spending.record(scope, "embedding", [call], blocks=1)
    elif results.embed_error and results.embed_error.calls:
        spending.record(scope, "embedding", results.embed_error.calls, blocks=0)


def _first_not_in(
    these: Sequence[LumaMemoryError], errors: Sequence[LumaMemoryError]
) -> LumaMemoryError | None:
    return next((error for error in errors if error not in these), None)


def _as_failure(error: LumaMemoryError) -> LumaMemoryError:
    """The error as a failed attempt, where no worker would run a deferred job."""
    if isinstance(error, RateLimited):
        return ProviderUnavailable(str(error), code=error.code)
    return error


def _request(block: BlockToEnrich) -> EnrichmentRequest:
    return EnrichmentRequest(block.content, block.occurred_at, block.speaker)

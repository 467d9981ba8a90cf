"""The job `enrich_and_embed`: read the block, enrich, embed, write back."""

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
from luma_memory.concurrency.retries import ResultT, retry_until
from luma_memory.domain.block import BackfillStep, BlockToEnrich, PassagePlace, PassageText
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
from luma_memory.pipeline.enrichment.long_blocks import LongBlocks, Progress
from luma_memory.pipeline.enrichment.scope_embedders import ScopeEmbedders
from luma_memory.pipeline.enrichment.session_windows import SessionWindows
from luma_memory.pipeline.ingest.indexing import embedding_text, index_passages
from luma_memory.pipeline.text.terms import DEFAULT_LANGUAGE
from luma_memory.ports.blocks import BlockStore, EnrichedBlock, EnrichedPassage, PendingBackfill
from luma_memory.ports.models import Embedder, Enricher
from luma_memory.telemetry import spans
from luma_memory.telemetry.events import Emit, WentWithout

# When a block that went without is tried again: soon after, then now and then.
BACKFILL_FIRST = timedelta(seconds=15)
BACKFILL_AGAIN = timedelta(minutes=5)
# How often a backfill tries an account that was refused.
REFUSED_ACCOUNT_RETRY = timedelta(seconds=30)
# Of a provider's time, what one run takes for the parts of a long block: the rest of the job's is
# for the part that is being made then.
SLICE_SHARE = 0.25
READ_BATCH_MAX = 200
WRITE_BATCH_MAX = 100
# A restart of the database is waited out, and no claim is spent on it.
RETRY_SECONDS = 10.0
# Vectors of one write-back: a block of 100,000 characters has some 200 passages.
WRITE_PASSAGES_MAX = 2_000


@dataclass(slots=True)
class Made:
    """What one run of a job made of a block: each half has a result, an error, or was not tried."""

    enrichment: Enrichment | None = None
    kind: EnrichmentKind | None = None
    enrich_error: LumaMemoryError | None = None
    calls: Sequence[ModelCall] = ()  # for the enrichment
    embedder: Embedder | None = None  # that was asked
    places: Sequence[PassagePlace] = ()  # whose vectors were still to be made
    vectors: Sequence[Embedding] | None = None  # one a place
    embed_error: LumaMemoryError | None = None

    @property
    def errors(self) -> Sequence[LumaMemoryError]:
        return [error for error in (self.enrich_error, self.embed_error) if error is not None]

    def step_of(self, error: LumaMemoryError) -> BackfillStep:
        return "enrich" if error is self.enrich_error else "embed"


class EnrichBlock:
    """Handler of `enrich_and_embed`. Reads and write-backs of concurrent jobs share statements.

    The two halves stand for themselves: what one of them made is kept while the other is tried
    again, so that no attempt pays for it twice.

    enricher, embedder: None when that step is switched off; the block then becomes active without,
    and is owed it in case somebody asks. fallback: who enriches when no attempt can help, None
    where nobody should. fail_fast: fail the block then; otherwise it becomes active with what there
    is, and is owed the rest. can_wait: whether somebody runs a job again that is deferred.
    paused_patience: how long after its acceptance a block waits, without spending an attempt, for a
    provider that is known to be away. provider_timeout: for each half, None for as long as the job
    may take; below the job's own time, or a hanging provider leaves none for the fallback.
    serving: who embeds which scope, None for the embedder itself.
    windows: who is told of new turns, so that the windows around them get vectors; None for nobody.
    writes_at_once: statements of write-backs; more than one where jobs wait for a network, so that
    those that end while one is under way need not wait for it.
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
        paused_patience: timedelta = timedelta(0),
        provider_timeout: timedelta | None = None,
        spending: Spending | None = None,
        serving: ScopeEmbedders | None = None,
        windows: SessionWindows | None = None,
        writes_at_once: int = 1,
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._enricher = enricher
        self._embedder = embedder
        self._fallback = fallback
        self._fail_fast = fail_fast
        self._can_wait = can_wait
        self._paused_patience = paused_patience
        self._windows = windows
        self._provider_seconds = provider_timeout.total_seconds() if provider_timeout else None
        self._spending = spending
        self._serving = serving
        self._clock = clock
        self._emit = emit
        seconds = self._provider_seconds
        self._long_blocks = LongBlocks(
            store,
            self._embed,
            slice_seconds=SLICE_SHARE * seconds if seconds and can_wait else None,
            spending=spending,
            clock=clock,
        )
        self._reads: Coalescer[tuple[Scope, UUID], BlockToEnrich | None] = Coalescer(
            store.read_to_enrich, items_max=READ_BATCH_MAX, is_shared=is_outage
        )
        self._writes: ContentionAware[tuple[BlockToEnrich, EnrichedBlock], bool, Scope] = (
            ContentionAware(
                self._write_back,
                key_of=lambda item: item[0].scope,
                locked=store.locked_scopes,
                items_max=WRITE_BATCH_MAX,
                size_max=WRITE_PASSAGES_MAX,
                size_of=lambda item: len(item[1].passages),
                batches_max=writes_at_once,
                contended=StoreContended,
                is_shared=is_outage,
            )
        )

    async def __call__(self, job: Job) -> Outcome:
        block_id = job.block_id
        if block_id is None:
            return Cancel("the job names no block")
        with spans.span("read"):
            block = await _patiently(lambda: self._reads.submit((job.scope, block_id)))
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
        passages = _passages(block)
        embedder = await self._embedder_of(block)
        progress = Progress(passages)
        if embedder is not None:
            progress = await self._long_blocks.advance(embedder, block, passages)
            if progress.is_time_up:
                return Defer(self._clock.now(), "more passages to embed")
        made = await self._provide(block, embedder, progress)
        if made.errors:
            await self._settle(job, block, made)
        if (language := _language(block, made)) != DEFAULT_LANGUAGE:
            passages = _indexed(block, language)
        result = self._result(job, block, passages, made)
        return Done(write=lambda: self._written(block, result))

    async def _written(self, block: BlockToEnrich, result: EnrichedBlock) -> bool:
        with spans.span("write back"):
            return await self._writes.submit((block, result))

    async def _embedder_of(self, block: BlockToEnrich) -> Embedder | None:
        """Who makes the block's vectors; None where none are to be made."""
        if "embed" not in _steps(block) or self._embedder is None or self._serving is None:
            return self._embedder if "embed" in _steps(block) else None
        return await self._serving.of_scope(block.scope)

    async def _provide(
        self, block: BlockToEnrich, embedder: Embedder | None, progress: Progress
    ) -> Made:
        steps = _steps(block)
        made = Made(embedder=embedder, places=progress.left, embed_error=progress.error)
        embedding = None
        if embedder is not None and progress.error is None:
            embedding = asyncio.create_task(self._embed(embedder, block, progress.left))
            # On its way to its thread or socket before the enriching begins.
            await asyncio.sleep(0)
        try:
            if "enrich" in steps and self._enricher is not None:
                await self._enrich(self._enricher, block, made)
            if embedding is not None:
                made.vectors = await embedding
        except LumaMemoryError as error:
            made.embed_error = error
        finally:
            if embedding is not None and made.vectors is None and made.embed_error is None:
                # Ended from outside: the other half is stopped too, and its failure looked at.
                embedding.cancel()
                await asyncio.gather(embedding, return_exceptions=True)
        if self._spending is not None:
            _note_spending(self._spending, block.scope, made)
        return made

    @spans.traced("enrich")
    async def _enrich(self, enricher: Enricher, block: BlockToEnrich, made: Made) -> None:
        try:
            made.enrichment = await self._in_time(enricher.enrich(_request(block)))
            made.kind = enricher.kind
        except LumaMemoryError as error:
            made.enrich_error = error
            spans.current().failed(error)
        source = made.enrichment or made.enrich_error
        made.calls = source.calls if source else ()

    @spans.traced("embed")
    async def _embed(
        self, embedder: Embedder, block: BlockToEnrich, passages: Sequence[PassagePlace]
    ) -> Sequence[Embedding]:
        texts = [
            embedding_text(block.content, passage, speaker=block.speaker) for passage in passages
        ]
        return await self._in_time(embedder.embed_documents(texts))

    async def _in_time(self, work: Awaitable[ResultT]) -> ResultT:
        if self._provider_seconds is None:
            return await work
        try:
            with TimeLimit(self._provider_seconds):
                return await work
        except TimeoutError as error:
            raise ProviderTimeout("The provider did not answer in time.") from error

    async def _settle(self, job: Job, block: BlockToEnrich, made: Made) -> None:
        """Decide what becomes of what failed: try again, wait, fall back, or go without.

        Raises the error that the attempt ends with, what is made kept; or returns, and the block
        becomes active with what there is.
        """
        is_backfill = _is_backfill(block)
        hopeless = [error for error in made.errors if job.is_last_attempt or not error.retryable]
        waiting = [error for error in made.errors if self._is_waited_for(error, block, made)]
        hopeless = [error for error in hopeless if error not in waiting]
        if hopeless and self._fail_fast and not is_backfill:
            await self._keep(job, block, made)
            raise _ended(hopeless[0])
        if made.enrich_error in hopeless and self._fallback is not None and not is_backfill:
            made.enrichment = await self._fallback.enrich(_request(block))
            made.kind = "fallback"
        if again := next(iter(waiting), None) or _first_not_in(hopeless, made.errors):
            await self._keep(job, block, made)
            raise self._deferred(again, block) if again in waiting else again
        for error in made.errors:
            self._emit(WentWithout(job.id, made.step_of(error), error.code, str(error)))

    def _is_waited_for(self, error: LumaMemoryError, block: BlockToEnrich, made: Made) -> bool:
        if isinstance(error, StoreUnavailable):
            return True
        if not self._can_wait:
            return False
        if isinstance(error, ProviderPaused):
            age = self._clock.now() - block.created_at
            return age < self._paused_patience or _is_backfill(block)
        if _refuses_account(error):
            # Deferred jobs leave the block as it is, but would pay for the other half again.
            return _is_backfill(block) and made.enrichment is None and made.vectors is None
        return isinstance(error, RateLimited)

    def _deferred(self, error: LumaMemoryError, block: BlockToEnrich) -> LumaMemoryError:
        """As the runner knows it: told to wait; not longer than the block's patience lasts."""
        if _refuses_account(error):
            seconds = REFUSED_ACCOUNT_RETRY.total_seconds()
            return RateLimited(str(error), retry_after_seconds=seconds, code=error.code)
        if not isinstance(error, ProviderPaused):
            return error
        seconds = error.retry_after_seconds
        if not _is_backfill(block):
            left = self._paused_patience - (self._clock.now() - block.created_at)
            seconds = min(seconds, max(left.total_seconds(), 0.0))
        return RateLimited(str(error), retry_after_seconds=seconds, code=error.code)

    async def _keep(self, job: Job, block: BlockToEnrich, made: Made) -> None:
        """Write down a good half before the attempt ends with the error of the other."""
        enrichment, kind, error = made.enrichment, made.kind, made.enrich_error
        if enrichment is None or kind is None or _is_backfill(block):
            return
        with contextlib.suppress(StoreUnavailable):
            await self._store.keep(
                self._worker_id,
                job,
                enrichment,
                revision=block.revision,
                kind=kind,
                owed=PendingBackfill(str(error), ("enrich",) if _can_succeed_later(error) else ())
                if error
                else None,
            )

    def _result(
        self, job: Job, block: BlockToEnrich, passages: Sequence[PassagePlace], made: Made
    ) -> EnrichedBlock:
        # Passages without one here keep what a part has stored for them.
        vectors = {
            place.ordinal: embedding.vector
            for place, embedding in zip(made.places, made.vectors or (), strict=False)
        }
        return EnrichedBlock(
            job=job,
            revision=block.revision,
            enrichment=made.enrichment,
            kind=made.kind,
            passages=[
                EnrichedPassage(passage, vectors.get(passage.ordinal)) for passage in passages
            ],
            embedding_model=made.embedder.model.id if made.embedder and made.vectors else None,
            owed=self._owed(block, made),
        )

    def _owed(self, block: BlockToEnrich, made: Made) -> PendingBackfill | None:
        """What the block still lacks when it becomes active."""
        if not made.errors and self._enricher and self._embedder and not _is_kept(block):
            return None
        automatic = [made.step_of(e) for e in made.errors if _can_succeed_later(e)]
        on_request = [made.step_of(e) for e in made.errors if not _can_succeed_later(e)]
        if self._enricher is None and "enrich" in _steps(block):
            on_request.append("enrich")
        if self._embedder is None and "embed" in _steps(block):
            on_request.append("embed")
        reason = "; ".join(str(error) for error in made.errors) or None
        if _is_kept(block) and made.enrichment is None:
            reason = reason or block.error
            if block.backfill_steps:
                automatic += [step for step in block.backfill_steps if step not in automatic]
            elif block.enrichment == "fallback":
                on_request.append("enrich")
        if not (automatic or on_request):
            return None
        # A backfill that got one half done met a provider that accepts calls again.
        is_vain = _is_backfill(block) and made.enrichment is None and made.vectors is None
        after = BACKFILL_AGAIN if is_vain else BACKFILL_FIRST
        return PendingBackfill(reason, (*automatic, *on_request), after if automatic else None)

    async def _write_back(
        self, items: Sequence[tuple[BlockToEnrich, EnrichedBlock]]
    ) -> Sequence[bool]:
        if self._windows is not None:
            await self._windows.note([block for block, _ in items])
        results = [result for _, result in items]
        models = {result.embedding_model for result in results} - {None}
        if len(models) <= 1:
            return await self._store.write_back(self._worker_id, results)
        # While the model changes, scopes differ; a statement knows one model.
        written: dict[int, bool] = {}
        for model in {result.embedding_model for result in results}:
            own = [result for result in results if result.embedding_model == model]
            answers = await self._store.write_back(self._worker_id, own)
            written |= {id(result): answer for result, answer in zip(own, answers, strict=True)}
        return [written[id(result)] for result in results]


async def _patiently(attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
    return await retry_until(attempt, retry_on=StoreUnavailable, timeout_seconds=RETRY_SECONDS)


def _can_succeed_later(error: LumaMemoryError) -> bool:
    """Whether the same text may succeed later. An account can be repaired, a text cannot."""
    return error.retryable or _refuses_account(error)


def _refuses_account(error: LumaMemoryError) -> bool:
    return isinstance(error, ProviderRejected) and error.concerns_account


def _is_backfill(block: BlockToEnrich) -> bool:
    return block.status == "active" and bool(block.backfill_steps)


def _is_kept(block: BlockToEnrich) -> bool:
    """Whether an earlier attempt made this revision's facts already."""
    return (
        block.status != "active"
        and block.enriched_revision == block.revision
        and block.enrichment in ("model", "fallback")
    )


def _passages(block: BlockToEnrich) -> Sequence[PassagePlace]:
    """With the words of the default language, where the door has not stored those already."""
    if block.is_indexed:
        return [PassagePlace(0, 0, len(block.content))]
    return _indexed(block, DEFAULT_LANGUAGE)


def _indexed(block: BlockToEnrich, language: str) -> Sequence[PassageText]:
    return index_passages(
        block.content, speaker=block.speaker, occurred_at=block.occurred_at, language=language
    )


def _language(block: BlockToEnrich, made: Made) -> str:
    known = made.enrichment.language if made.enrichment is not None else block.language
    return known or DEFAULT_LANGUAGE


def _steps(block: BlockToEnrich) -> Sequence[BackfillStep]:
    if _is_backfill(block):
        return block.backfill_steps or ()
    return ("embed",) if _is_kept(block) else ("enrich", "embed")


def _note_spending(spending: Spending, scope: Scope, made: Made) -> None:
    if made.calls:
        spending.note(scope, "enrichment", made.calls, blocks=int(made.enrichment is not None))
    if made.embedder and made.vectors:
        tokens = sum(embedding.token_count for embedding in made.vectors)
        call = ModelCall(made.embedder.model.id, tokens)
        spending.note(scope, "embedding", [call], blocks=1)
    elif made.embed_error and made.embed_error.calls:
        spending.note(scope, "embedding", made.embed_error.calls, blocks=0)


def _first_not_in(
    these: Sequence[LumaMemoryError], errors: Sequence[LumaMemoryError]
) -> LumaMemoryError | None:
    return next((error for error in errors if error not in these), None)


def _ended(error: LumaMemoryError) -> LumaMemoryError:
    """As the runner knows it: a failed attempt, where nobody would run a deferred job."""
    if isinstance(error, RateLimited):
        return ProviderUnavailable(str(error), code=error.code)
    return error


def _request(block: BlockToEnrich) -> EnrichmentRequest:
    return EnrichmentRequest(block.content, block.occurred_at, block.speaker)

"""The `detect_relations` job: relate a block to earlier ones.

One model call covers all candidates. Its response is validated: a relation with an unknown
candidate, or with quotes that are not in the texts, is rejected. Relations that follow time are
reversed if necessary: the later block supersedes the earlier one. A response can relate blocks, and
so remove one from recall until the relation is rejected; it can never change a block's text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError, NotFound, ProviderPaused, RateLimited
from luma_memory.domain.inert_text import is_inert
from luma_memory.domain.job import Cancel, Defer, Done, Job, Outcome
from luma_memory.domain.relation import (
    BY_TIME,
    Finding,
    Findings,
    NewRelation,
    Relation,
    RelationCursor,
    RelationPage,
    RelationRequest,
    RelationStatus,
    RelationType,
)
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.ports.models import Relator
from luma_memory.ports.relations import RelationStore
from luma_memory.telemetry.events import Emit, RelationsLimited, RelationsRefused

WINDOW: Final = timedelta(hours=1)
# Below this confidence a relation is only a guess.
CONFIDENCE_MIN: Final = 0.5
RELATIONS_MAX: Final = 40
QUOTE_CHARACTERS_MAX: Final = 200
BACKLOG_PAGE: Final = 2_000
_BEGINNING: Final = RelationCursor(Scope("", ""), UUID(int=0))
_SPACE: Final = re.compile(r"\s+")


class DetectRelations:
    """Handler of `detect_relations`.

    limit: detections per user and hour; further ones are deferred. fallback: replaces the relator
    when the last attempt fails; None for no fallback.
    """

    def __init__(
        self,
        store: RelationStore,
        *,
        relator: Relator,
        fallback: Relator | None,
        limit: int,
        spending: Spending | None,
        worker_id: str,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._store = store
        self._relator = relator
        self._fallback = fallback
        self._limit = limit
        self._spending = spending
        self._worker_id = worker_id
        self._clock = clock
        self._emit = emit

    async def __call__(self, job: Job) -> Outcome:
        if job.block_id is None:
            return Cancel("the job has no block")
        if self._limit == 0:
            return Cancel("MEMORY_RELATION_DETECTION_RATE_LIMIT is 0")
        request = await self._store.candidates(job.scope, job.block_id)
        # A block that was deleted or edited needs no detection: an edit enqueues its own job.
        if request is None or not request.candidates:
            return Done()
        if self._spending is None:
            return await self._admitted(job, request)
        if until := await self._spending.admit(job.scope):
            return Defer(until, "the user's daily budget is used up")
        try:
            return await self._admitted(job, request)
        finally:
            self._spending.leave(job.scope)

    async def _admitted(self, job: Job, request: RelationRequest) -> Outcome:
        admission = await self._store.admit(self._worker_id, job, limit=self._limit, window=WINDOW)
        if not admission.is_mine:
            return Done(is_written=True, is_mine=False)
        if not admission.granted:
            assert admission.retry_at is not None
            if admission.is_news:
                scope = job.scope
                self._emit(RelationsLimited(scope.project_id, scope.user_id, self._limit))
            return Defer(
                admission.retry_at, "the user's relation detections of this hour are used up"
            )
        relator = self._relator
        try:
            found = await self._found(job, relator, request)
        except (RateLimited, ProviderPaused) as error:
            raise RateLimited(
                str(error), retry_after_seconds=error.retry_after_seconds, code=error.code
            ) from error
        except LumaMemoryError as error:
            hopeless = job.is_last_attempt or not error.retryable
            if not hopeless or self._fallback is None:
                raise
            relator = self._fallback
            found = await self._found(job, relator, request)
        relations, refused = checked(found.relations, request)
        if refused:
            self._emit(RelationsRefused(job.id, refused))
        read = [request.block, *(candidate.block for candidate in request.candidates)]
        model = found.model or relator.name
        stored = await self._store.store(self._worker_id, job, relations, read, model=model)
        return Done(is_written=True, is_mine=stored is not None)

    async def _found(self, job: Job, relator: Relator, request: RelationRequest) -> Findings:
        try:
            findings = await relator.relate(request)
        except LumaMemoryError as error:
            if self._spending is not None:
                self._spending.record(job.scope, "relations", error.calls, blocks=0)
            raise
        if self._spending is not None:
            self._spending.record(job.scope, "relations", findings.calls, blocks=1)
        return findings


def checked(
    findings: Sequence[Finding], request: RelationRequest
) -> tuple[Sequence[NewRelation], int]:
    """The valid relations, and how many were rejected as invented or not quoted from the texts.

    Relations with a low confidence are dropped without being counted.
    """
    kept: dict[tuple[UUID, UUID, RelationType], NewRelation] = {}
    refused = 0
    for finding in findings[:RELATIONS_MAX]:
        if not 1 <= finding.candidate <= len(request.candidates):
            refused += 1
            continue
        relation = _relation(finding, request)
        if relation is None:
            refused += 1
        elif relation.confidence >= CONFIDENCE_MIN:
            kept.setdefault((relation.source_id, relation.target_id, relation.type), relation)
    return list(kept.values()), refused


def _relation(finding: Finding, request: RelationRequest) -> NewRelation | None:
    """None if a quote is not in the texts or the confidence is not a number."""
    block, other = request.block, request.candidates[finding.candidate - 1].block
    if not (
        _is_quoted(finding.block_quote, block.content)
        and _is_quoted(finding.candidate_quote, other.content)
    ):
        return None
    if not finding.confidence >= 0:  # also NaN
        return None
    source, target = (block, other) if finding.from_block else (other, block)
    if finding.type in BY_TIME and source.place < target.place:
        source, target = target, source
    quotes = (finding.block_quote, finding.candidate_quote)
    first, second = quotes if source is block else reversed(quotes)
    return NewRelation(
        source.id,
        target.id,
        finding.type,
        min(finding.confidence, 1.0),
        f"“{_shown(first)}” – “{_shown(second)}”",
    )


def _is_quoted(quote: str, text: str) -> bool:
    plain = _plain(quote)
    return bool(plain) and plain in _plain(text)


def _plain(text: str) -> str:
    """Normalized text: models change quotation marks, spaces and letter forms when they quote."""
    signs = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    return _SPACE.sub(" ", signs).strip(" \"'.…").casefold()


_QUOTES: Final = str.maketrans("“”„«»‘’‚`", '"""""\'\'\'\'')


def _shown(quote: str) -> str:
    kept = "".join(sign if is_inert(sign) else " " for sign in quote)
    return _SPACE.sub(" ", kept).strip()[:QUOTE_CHARACTERS_MAX]


class RelationBacklog:
    """Blocks that became active while relations were disabled.

    attempts_max: of each job.
    """

    def __init__(self, store: RelationStore, *, attempts_max: int) -> None:
        self._store = store
        self._attempts_max = attempts_max

    async def enqueue(
        self, *, project_id: str | None, user_id: str | None, is_trial: bool
    ) -> AsyncIterator[int]:
        """Enqueue their jobs, page by page; yields the number of jobs per page.

        Idempotent. is_trial: only count. Raises StoreUnavailable.
        """
        cursor = _BEGINNING
        while page := await self._store.enqueue_page(
            cursor,
            project_id=project_id,
            user_id=user_id,
            limit=BACKLOG_PAGE,
            attempts_max=self._attempts_max,
            is_trial=is_trial,
        ):
            count, cursor = page
            yield count


class Relations:
    """List, accept and reject relations."""

    def __init__(self, store: RelationStore) -> None:
        self._store = store

    async def page(
        self,
        scope: Scope,
        *,
        limit: int,
        before: UUID | None,
        block_id: UUID | None = None,
        relation_type: RelationType | None = None,
        status: RelationStatus | None = None,
    ) -> RelationPage:
        """Newest first."""
        return await self._store.page(
            scope,
            limit=limit,
            before=before,
            block_id=block_id,
            relation_type=relation_type,
            status=status,
        )

    async def decide(
        self, scope: Scope, relation_id: UUID, status: RelationStatus, *, decided_by: str
    ) -> Relation:
        """Accept or reject a relation; superseded blocks are updated at once. Raises NotFound."""
        relation = await self._store.decide(scope, relation_id, status, decided_by=decided_by)
        if relation is None:
            raise NotFound("There is no such relation of this user", code="relation_not_found")
        return relation

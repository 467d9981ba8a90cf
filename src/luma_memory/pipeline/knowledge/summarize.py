"""The `weekly_summary` job, and summaries on request.

A week that is too long for one call is summarized in parts, and then the highlights of the parts
are summarized; each keeps the citations of its part. A citation of an unknown block is dropped, and
a sentence without citations is not a highlight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, Final

from luma_memory.domain.clock import Clock
from luma_memory.domain.enrichment import ModelCall
from luma_memory.domain.errors import (
    Conflict,
    Invalid,
    LumaMemoryError,
    ProviderPaused,
    ProviderTimeout,
    QuotaExceeded,
    RateLimited,
)
from luma_memory.domain.inert_text import is_inert
from luma_memory.domain.job import Cancel, Defer, Done, Job, Outcome
from luma_memory.domain.scope import Scope
from luma_memory.domain.summary import (
    HIGHLIGHTS_MAX,
    Draft,
    Highlight,
    Item,
    NewSummary,
    Summary,
    SummaryPage,
    SummaryRequest,
    WeekBlock,
    WeekRead,
)
from luma_memory.domain.weeks import Week, monday_of
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.ports.accounts import UserStore
from luma_memory.ports.models import Summarizer
from luma_memory.ports.summaries import SummaryStore
from luma_memory.telemetry.events import Emit, SummaryFellBack

# About 8,000 tokens of English: a call for one part fits well into a job's timeout.
PART_CHARACTERS: Final = 32_000
# Concurrent calls. A longer week (above a quarter of a million characters) is reduced to its most
# important blocks.
PARTS_MAX: Final = 8
BLOCKS_MAX: Final = 2_000
# Per block, so that a pasted book does not crowd out the rest of the week.
BLOCK_CHARACTERS_MAX: Final = 4_000
_TRIES: Final = 3
_TEXT_CHARACTERS_MAX: Final = 4_000
_HIGHLIGHT_CHARACTERS_MAX: Final = 400
_AGAIN: Final = timedelta(seconds=5)
# Timeout of a summary on request, after which the fallback is used.
WAIT_SECONDS_MAX: Final = 20.0


class Summaries:
    """Create and list weekly summaries. Handler of `weekly_summary`.

    fallback: replaces the summarizer when it fails; None for no fallback.
    """

    def __init__(
        self,
        store: SummaryStore,
        users: UserStore,
        *,
        summarizer: Summarizer,
        fallback: Summarizer | None,
        spending: Spending | None,
        worker_id: str,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._store = store
        self._users = users
        self._summarizer = summarizer
        self._fallback = fallback
        self._spending = spending
        self._worker_id = worker_id
        self._clock = clock
        self._emit = emit

    async def __call__(self, job: Job) -> Outcome:
        start = _monday(job.payload.get("week_start"))
        if start is None:
            return Cancel("the job has no week")
        week = Week.beginning(start, (await self._users.read(job.scope)).time_zone)
        if self._spending is not None and (until := await self._spending.admit(job.scope)):
            return Defer(until, "the user's daily budget is used up")
        try:
            read = await self._store.read_week(job.scope, week, limit=BLOCKS_MAX)
            made = await self._made(
                job.scope, week, read, can_wait=True, is_last=job.is_last_attempt
            )
        finally:
            if self._spending is not None:
                self._spending.leave(job.scope)
        outcome = await self._store.store(
            job.scope, made, week, read, worker_id=self._worker_id, job=job
        )
        if outcome == "changed":
            return Defer(self._clock.now() + _AGAIN, "blocks of the week were changed meanwhile")
        return Done(is_written=True, is_mine=outcome == "stored")

    async def make(self, scope: Scope, week_start: date | None) -> Summary | None:
        """Summarize a week now and replace its summary; None if the week is empty.

        week_start: its Monday; None is the last full week. Raises Invalid for a future week,
        QuotaExceeded, Conflict when its blocks keep changing, StoreUnavailable; without a fallback
        also the summarizer's errors, and ProviderTimeout after WAIT_SECONDS_MAX.
        """
        time_zone = (await self._users.read(scope)).time_zone
        running = Week.containing(self._clock.now(), time_zone)
        try:
            week = Week.beginning(week_start, time_zone) if week_start else running.before
        except ValueError as error:
            raise Invalid(str(error), code="week_invalid", field="week") from None
        if week.starts_at > self._clock.now():
            raise Invalid("That week has not started", code="week_invalid", field="week")
        if self._spending is not None and (until := await self._spending.admit(scope)):
            seconds = (until - self._clock.now()).total_seconds()
            raise QuotaExceeded(
                "The user's daily budget is used up", retry_after_seconds=max(seconds, 1.0)
            )
        ends_at = asyncio.get_running_loop().time() + WAIT_SECONDS_MAX
        try:
            for _ in range(_TRIES):
                read = await self._store.read_week(scope, week, limit=BLOCKS_MAX)
                made = await self._made(
                    scope, week, read, can_wait=False, is_last=True, ends_at=ends_at
                )
                outcome = await self._store.store(scope, made, week, read, worker_id=None, job=None)
                if outcome == "stored" or (made is None and outcome == "lost"):
                    return await self._store.of_week(scope, week.start)
        finally:
            if self._spending is not None:
                self._spending.leave(scope)
        raise Conflict("The week's blocks keep changing; try again")

    async def page(
        self,
        scope: Scope,
        *,
        limit: int,
        before: date | None,
        first: date | None = None,
        last: date | None = None,
    ) -> SummaryPage:
        """A user's summaries of the weeks from first to last, the newest week first."""
        return await self._store.page(scope, limit=limit, before=before, first=first, last=last)

    async def _made(
        self,
        scope: Scope,
        week: Week,
        read: WeekRead,
        *,
        can_wait: bool,
        is_last: bool,
        ends_at: float | None = None,
    ) -> NewSummary | None:
        """can_wait: defer for an unavailable provider without consuming an attempt.

        is_last: no further attempt follows, so use the fallback. ends_at: deadline of the
        summarizer on the loop's clock; None for the job's own.
        """
        items = [_item(block) for block in read.blocks]
        if not items:
            return None
        try:
            async with asyncio.timeout_at(ends_at):
                return await self._summarized(scope, self._summarizer, week, items, read.before)
        except TimeoutError as error:
            late = ProviderTimeout(f"The week was not summarized within {WAIT_SECONDS_MAX:.0f} s")
            if self._fallback is None:
                raise late from error
            self._emit(SummaryFellBack(late.code, str(late)))
        except (RateLimited, ProviderPaused) as error:
            if can_wait or self._fallback is None:
                raise _waiting(error) from error
            self._emit(SummaryFellBack(error.code, str(error)))
        except LumaMemoryError as error:
            if (error.retryable and not is_last) or self._fallback is None:
                raise
            self._emit(SummaryFellBack(error.code, str(error)))
        return await self._summarized(scope, self._fallback, week, items, read.before)

    async def _summarized(
        self,
        scope: Scope,
        summarizer: Summarizer,
        week: Week,
        items: Sequence[Item],
        before: str | None,
    ) -> NewSummary:
        calls: list[ModelCall] = []
        try:
            draft, items = await _draft(summarizer, week, items, before, calls)
        except LumaMemoryError as error:
            calls += error.calls
            raise
        finally:
            if self._spending is not None:
                self._spending.record(scope, "summaries", calls, blocks=len(items))
        return _checked(draft, items, week, draft.model or summarizer.name)


async def _draft(
    summarizer: Summarizer,
    week: Week,
    items: Sequence[Item],
    before: str | None,
    calls: list[ModelCall],
) -> tuple[Draft, Sequence[Item]]:
    """The draft of the week, and the items that its marks refer to."""
    parts = _parts(items)
    if len(parts) > 1:
        drafts = await asyncio.gather(
            *(summarizer.summarize(SummaryRequest(week, part, None)) for part in parts),
            return_exceptions=True,
        )
        for draft in drafts:
            if isinstance(draft, Draft):
                calls += draft.calls
        for draft in drafts:
            if isinstance(draft, BaseException):
                raise draft
        items = [
            item
            for part, draft in zip(parts, drafts, strict=True)
            if isinstance(draft, Draft)
            for item in _as_items(draft, part)
        ]
    draft = await summarizer.summarize(SummaryRequest(week, items, before))
    calls += draft.calls
    return draft, items


def _item(block: WeekBlock) -> Item:
    text = block.content
    if len(text) > BLOCK_CHARACTERS_MAX:
        text = block.summary or text[:BLOCK_CHARACTERS_MAX]
    return Item(
        text=text,
        occurred_at=block.occurred_at,
        block_ids=[block.id],
        speaker=block.speaker,
        importance=block.importance,
        tags=block.tags,
    )


def _parts(items: Sequence[Item]) -> Sequence[Sequence[Item]]:
    """The items in order of time; if they exceed all parts, only the most important ones."""
    capacity = PART_CHARACTERS * PARTS_MAX
    kept, used = set[int](), 0
    for index in sorted(range(len(items)), key=lambda n: -items[n].importance):
        used += len(items[index].text)
        if used > capacity and kept:
            break
        kept.add(index)
    parts: list[list[Item]] = [[]]
    size = 0
    for index, item in enumerate(items):
        if index not in kept:
            continue
        if size + len(item.text) > PART_CHARACTERS and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += len(item.text)
    return parts


def _as_items(draft: Draft, part: Sequence[Item]) -> Sequence[Item]:
    """A part's highlights as items, each at the time of its first cited item."""
    return [
        Item(
            text=highlight.text,
            occurred_at=min(part[mark - 1].occurred_at for mark in marks),
            block_ids=highlight.block_ids,
            importance=max(part[mark - 1].importance for mark in marks),
            tags=[tag for mark in marks for tag in part[mark - 1].tags],
        )
        for highlight, marks in _highlights(draft, part)
    ]


def _highlights(draft: Draft, items: Sequence[Item]) -> Sequence[tuple[Highlight, Sequence[int]]]:
    found = []
    for highlight in draft.highlights[:HIGHLIGHTS_MAX]:
        marks = sorted({mark for mark in highlight.marks if 1 <= mark <= len(items)})
        text = _line(highlight.text, _HIGHLIGHT_CHARACTERS_MAX)
        if marks and text:
            ids = dict.fromkeys(key for mark in marks for key in items[mark - 1].block_ids)
            found.append((Highlight(text, list(ids)), marks))
    return found


def _checked(draft: Draft, items: Sequence[Item], week: Week, model: str) -> NewSummary:
    highlights = [highlight for highlight, _ in _highlights(draft, items)]
    cited = dict.fromkeys(key for highlight in highlights for key in highlight.block_ids)
    text = _line(draft.text, _TEXT_CHARACTERS_MAX)
    return NewSummary(
        week=week,
        text=text or "\n".join(highlight.text for highlight in highlights),
        highlights=highlights,
        comparison=_line(draft.comparison or "", _TEXT_CHARACTERS_MAX) or None,
        model=model,
        block_ids=list(cited),
    )


def _line(text: str, characters_max: int) -> str:
    """The text without characters that cannot be stored or that act on their reader."""
    plain = (" " if sign.isspace() and sign != "\n" else sign for sign in text)
    kept = "".join(sign for sign in plain if sign == "\n" or is_inert(sign))
    return kept.strip()[:characters_max]


def _waiting(error: RateLimited | ProviderPaused) -> RateLimited:
    return RateLimited(str(error), retry_after_seconds=error.retry_after_seconds, code=error.code)


def _monday(value: Any) -> date | None:
    """Payloads are not validated when jobs are enqueued."""
    try:
        return monday_of(str(value))
    except ValueError:
        return None

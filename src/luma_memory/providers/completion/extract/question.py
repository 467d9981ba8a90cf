"""What a question says beside its words: `ports.models.QuestionReader` on the local grammar."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from threading import Thread
from typing import Concatenate, ParamSpec, TypeVar

from luma_memory.domain.clock import Clock
from luma_memory.domain.search import NamedEvent, TimeSpan
from luma_memory.providers.completion.extract.dates import dates
from luma_memory.providers.completion.extract.document import read
from luma_memory.providers.completion.extract.language import UNDETERMINED, identify, warm_up
from luma_memory.providers.completion.extract.vocabulary import vocabulary

# A question longer than this is a text that somebody pasted.
READ_CHARS = 2_000
# Up to here a question is read beside the event loop's other work; longer ones in a thread.
INLINE_CHARS = 200
SPANS_MAX = 8
EVENTS_MAX = 2
EVENT_CHARS_MAX = 120

ArgumentsT = ParamSpec("ArgumentsT")
ResultT = TypeVar("ResultT")


class LocalQuestionReader:
    """Stateless but for the word lists, which are loaded once per process, in a thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._warm = False
        self._is_warming = False

    @property
    def is_warming(self) -> bool:
        """Whether `warm` was called and is not done: a question asked now has to wait."""
        return self._is_warming

    def warm(self) -> None:
        """Load the word lists beside everything else, so that no question waits for them."""
        self._is_warming = True
        Thread(target=self._load, name="warm-question-reader", daemon=True).start()

    async def times(self, question: str, asked_at: datetime | None) -> Sequence[TimeSpan]:
        """See the port. Days are those of UTC."""
        await self._loaded()
        return await _in_bounded_time(_times, question, asked_at or self._clock.now())

    async def events(self, question: str) -> Sequence[NamedEvent]:
        """See the port."""
        await self._loaded()
        return await _in_bounded_time(_events, question)

    async def language(self, question: str) -> str | None:
        """See the port."""
        await self._loaded()
        found = identify(question).reported
        return None if found == UNDETERMINED else found

    async def _loaded(self) -> None:
        if not self._warm:
            await asyncio.to_thread(self._load)

    def _load(self) -> None:
        try:
            _warm_up()
            self._warm = True
        finally:
            self._is_warming = False


async def _in_bounded_time(
    read_question: Callable[Concatenate[str, ArgumentsT], ResultT],
    question: str,
    *arguments: ArgumentsT.args,
    **named: ArgumentsT.kwargs,
) -> ResultT:
    """A usual question takes less than the hand-over to a thread; a pasted text takes long."""
    if len(question) <= INLINE_CHARS:
        return read_question(question, *arguments, **named)
    return await asyncio.to_thread(read_question, question, *arguments, **named)


def _warm_up() -> None:
    warm_up()
    _times("Was it yesterday?", datetime(2020, 1, 1, tzinfo=UTC))


def _times(question: str, now: datetime) -> list[TimeSpan]:
    text = question[:READ_CHARS]
    mentions = dates(read(text, identify(text).reading), now.astimezone(UTC))
    values = dict.fromkeys(mention.value for mention in mentions if mention.value is not None)
    return [_span(value) for value in values][:SPANS_MAX]


def _events(question: str) -> list[NamedEvent]:
    text = question[:READ_CHARS]
    language = identify(text).reading
    pattern = _event_pattern(language)
    if pattern is None:
        return []
    dated = dates(read(text, language), datetime(2020, 1, 1, tzinfo=UTC))
    found = []
    for match in pattern.finditer(text):
        start, end = match.span("event")
        # "before 10 April" is a time by itself.
        if not any(mention.start < end and start < mention.end for mention in dated):
            is_before = match["before"] is not None
            found.append(NamedEvent("before" if is_before else "after", match["event"].strip()))
    return found[:EVENTS_MAX]


@cache
def _event_pattern(language: str) -> re.Pattern[str] | None:
    words = vocabulary(language).dates
    if words is None:
        return None
    return re.compile(
        rf"(?<!\w)(?:(?P<before>{words.event_before})|(?:{words.event_after}))(?:(?<=['’])|\s+)"
        rf"(?P<event>[^,;:.?!…\n]{{1,{EVENT_CHARS_MAX}}})",
        re.IGNORECASE,
    )


def _span(value: str) -> TimeSpan:
    """The instants of an ISO day, month, year, or interval of two days."""
    first, _, last = value.partition("/")
    start, stop = _first_day(first), _day_after(last or first)
    return TimeSpan(_midnight(start), _midnight(stop))


def _first_day(value: str) -> date:
    parts = [int(part) for part in value.split("-")]
    return date(parts[0], *[*parts[1:], 1, 1][:2])


def _day_after(value: str) -> date:
    parts = [int(part) for part in value.split("-")]
    match parts:
        case [9999] | [9999, 12] | [9999, 12, 31]:
            return date.max
        case [year]:
            return date(year + 1, 1, 1)
        case [year, month]:
            return date(year + month // 12, month % 12 + 1, 1)
        case _:
            return date(*parts) + timedelta(days=1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)

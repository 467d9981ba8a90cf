"""A question's times, events and language: `ports.models.QuestionReader` by local rules."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from threading import Thread
from typing import Concatenate, ParamSpec, TypeVar

from luma_memory.domain.clock import Clock
from luma_memory.domain.search import NamedEvent, TimeSpan
from luma_memory.domain.weeks import zone_of
from luma_memory.providers.completion.extract.date_mention import Mention
from luma_memory.providers.completion.extract.dates import dates
from luma_memory.providers.completion.extract.document import Document, read
from luma_memory.providers.completion.extract.language import UNDETERMINED, identify, warm_up
from luma_memory.providers.completion.extract.question_times import named_days
from luma_memory.providers.completion.extract.vocabulary import vocabulary

# A question longer than this is a pasted text.
READ_CHARS = 2_000
# Up to this length a question is analyzed in the event loop; longer ones in a thread.
INLINE_CHARS = 200
SPANS_MAX = 8
EVENTS_MAX = 2
EVENT_CHARS_MAX = 120
# "What happened", "what did I do", "was war los": questions about a time and nothing else.
_GENERAL_WORDS = frozenset(
    """
    what's whats happen happens happened happening occur occurred do does did doing done go goes
    went going on was were up tell me about show list give summarize recap remember know anything
    everything something things thing all note notes noted memory memories write wrote written say
    said talk talked discuss discussed day please
    was ist war los passiert geschehen gemacht machte mache tun tat getan habe hatte ging gesagt
    fait faire fis passé passe arrivé dit est-ce ce ai j'ai noté
    hice hizo hicimos pasó pasa ocurrió sucedió dije dijo hecho
    fatto successo accaduto detto facevo
    gedaan gebeurde gebeurd deed zei
    fiz fez fizemos aconteceu disse feito
    """.split()  # noqa: SIM905 (a list of words)
)

ArgumentsT = ParamSpec("ArgumentsT")
ResultT = TypeVar("ResultT")


class LocalQuestionReader:
    """Stateless except for the word lists, which are loaded once per process, in a thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._warm = False
        self._is_warming = False

    @property
    def is_warming(self) -> bool:
        """Whether `warm` is still running: a question has to wait for it."""
        return self._is_warming

    def warm(self) -> None:
        """Load the word lists in the background, so that no question waits for them."""
        self._is_warming = True
        Thread(target=self._load, name="warm-question-reader", daemon=True).start()

    async def times(
        self, question: str, as_of: datetime | None, *, time_zone: str = "UTC"
    ) -> Sequence[TimeSpan]:
        """See the port."""
        await self._loaded()
        now, zone = as_of or self._clock.now(), zone_of(time_zone)
        return await _in_bounded_time(_times, question, now, zone)

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
            load_language_data()
            self._warm = True
        finally:
            self._is_warming = False


async def _in_bounded_time(
    read_question: Callable[Concatenate[str, ArgumentsT], ResultT],
    question: str,
    *arguments: ArgumentsT.args,
    **named: ArgumentsT.kwargs,
) -> ResultT:
    """A usual question takes less than the hand-over to a thread.

    A pasted text takes long, and so does a short one in a language that dateparser reads.
    """
    if len(question) <= INLINE_CHARS and _has_grammar(question):
        return read_question(question, *arguments, **named)
    return await asyncio.to_thread(read_question, question, *arguments, **named)


def _has_grammar(question: str) -> bool:
    return vocabulary(identify(question).assumed).dates is not None


def load_language_data() -> None:
    """Load what the first question needs (about a second, once per process)."""
    warm_up()
    _times("Was it yesterday?", datetime(2020, 1, 1, tzinfo=UTC))


def _times(question: str, now: datetime, zone: tzinfo = UTC) -> list[TimeSpan]:
    text = question[:READ_CHARS]
    document = read(text, identify(text).assumed)
    today = _in_zone(now, zone)
    mentions = dates(document, today, is_question=True)
    found = named_days(document, mentions, today.date())
    is_whole_question = not _other_words(document, [*mentions, *(days.mention for days in found)])
    names: dict[tuple[date, date], list[str]] = {}
    for days in found:
        names.setdefault((days.first, days.last), []).append(days.mention.name)
    return [
        TimeSpan(
            _midnight(first, zone),
            _midnight(_day_after(last), zone),
            is_whole_question,
            named_by=" ".join(by),
        )
        for (first, last), by in names.items()
    ][:SPANS_MAX]


def _in_zone(now: datetime, zone: tzinfo) -> datetime:
    """Near the years 1 and 9999, the local time may be out of range."""
    try:
        return now.astimezone(zone)
    except OverflowError:
        return now


def _other_words(document: Document, mentions: Sequence[Mention]) -> set[str]:
    """The subject of the question besides its times: the words beyond "what happened"."""
    known = document.vocabulary
    return {
        word.base
        for word in document.words
        if len(word.base) > 1
        and word.base not in known.stop
        and word.base not in _GENERAL_WORDS
        and not any(mention.start <= word.start < mention.end for mention in mentions)
    }


def _events(question: str) -> list[NamedEvent]:
    text = question[:READ_CHARS]
    language = identify(text).assumed
    pattern = _event_pattern(language)
    if pattern is None:
        return []
    dated = dates(read(text, language), datetime(2020, 1, 1, tzinfo=UTC), is_question=True)
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


def _day_after(day: date) -> date:
    return day if day == date.max else day + timedelta(days=1)


def _midnight(day: date, zone: tzinfo) -> datetime:
    try:
        return datetime.combine(day, time(), zone).astimezone(UTC)
    except OverflowError:
        return datetime.combine(day, time(), UTC)

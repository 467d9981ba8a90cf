"""The times a question names, as instants."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime

import pytest

from luma_memory.domain.clock import SystemClock
from luma_memory.providers.completion.extract import question as question_module
from luma_memory.providers.completion.extract.question import (
    EVENT_CHARS_MAX,
    EVENTS_MAX,
    SPANS_MAX,
    LocalQuestionReader,
)

NOW = datetime(2024, 3, 14, 15, 9, tzinfo=UTC)  # a Thursday


async def spans(question: str, now: datetime = NOW) -> list[tuple[str, str]]:
    found = await LocalQuestionReader(SystemClock()).times(question, now)
    return [(span.start.date().isoformat(), span.stop.date().isoformat()) for span in found]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Where did she go in May 2023?", ("2023-05-01", "2023-06-01")),
        ("What did Ada buy on 31 December 2023?", ("2023-12-31", "2024-01-01")),
        ("What did we eat yesterday?", ("2024-03-13", "2024-03-14")),
        ("Who came to see me last week?", ("2024-03-04", "2024-03-11")),
        ("What happened in 2022?", ("2022-01-01", "2023-01-01")),
        ("Was haben wir gestern gegessen?", ("2024-03-13", "2024-03-14")),
    ],
)
async def test_a_time_is_a_span_of_whole_days(question: str, expected: tuple[str, str]) -> None:
    assert expected in await spans(question)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What happened from 24 to 26 July 2023?", ("2023-07-24", "2023-07-27")),
        ("What did we do 2023-07-25/26?", ("2023-07-25", "2023-07-27")),
        ("What did we decide in Q3 2023?", ("2023-07-01", "2023-10-01")),
        ("What did I get for Christmas?", ("2023-12-25", "2023-12-26")),
    ],
)
async def test_a_range_is_one_span(question: str, expected: tuple[str, str]) -> None:
    assert await spans(question) == [expected]


@pytest.mark.parametrize(
    ("time_zone", "start"),
    [
        ("UTC", "2024-03-13T00:00:00+00:00"),
        ("Asia/Tokyo", "2024-03-13T15:00:00+00:00"),  # it is the 15th there
        ("America/New_York", "2024-03-13T04:00:00+00:00"),
    ],
)
async def test_the_users_zone_decides_what_yesterday_is(time_zone: str, start: str) -> None:
    now = datetime(2024, 3, 14, 16, tzinfo=UTC)
    reader = LocalQuestionReader(SystemClock())
    (span,) = await reader.times("What did I do yesterday?", now, time_zone=time_zone)
    assert span.start.isoformat() == start


@pytest.mark.parametrize(
    ("question", "is_whole"),
    [
        ("What did I do yesterday?", True),
        ("What happened last week?", True),
        ("Was habe ich gestern gemacht?", True),
        ("Qu'est-ce que j'ai fait hier ?", True),
        ("¿Qué hice ayer?", True),
        ("What was dinner yesterday?", False),
        ("Who called me yesterday?", False),
        ("Wo war das Auto gestern?", False),
    ],
)
async def test_a_question_about_a_time_and_nothing_else(question: str, is_whole: bool) -> None:
    (span,) = await LocalQuestionReader(SystemClock()).times(question, NOW)
    assert span.is_whole_question is is_whole


@pytest.mark.parametrize("year", [1, 2, 9998, 9999])
@pytest.mark.parametrize("time_zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_the_ends_of_time_are_no_error_in_any_zone(year: int, time_zone: str) -> None:
    reader = LocalQuestionReader(SystemClock())
    for day in (datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, 23, 59, tzinfo=UTC)):
        for question in (
            "What did I do yesterday, last year and tomorrow?",
            "100,000 years ago in 10 billion years, on 0001-01-01 and 9999-12-31",
            "the week before last, a week from Monday, on the 31st, at Christmas",
        ):
            for span in await reader.times(question, day, time_zone=time_zone):
                assert span.start <= span.stop


@pytest.mark.parametrize(
    ("question", "side", "event"),
    [
        ("Where did I work before the move?", "before", "the move"),
        ("After I moved to Lisbon, who did I live with?", "after", "I moved to Lisbon"),
        ("Wo wohnte ich vor dem Umzug nach Lissabon?", "before", "Umzug nach Lissabon"),
        ("Où travaillais-je avant l'accident de voiture ?", "before", "accident de voiture"),
        ("¿Qué hice después de la boda?", "after", "la boda"),
        ("Cosa facevo prima del trasloco?", "before", "trasloco"),
        ("Wat deed ik voor de verhuizing?", "before", "verhuizing"),
        ("O que eu fazia antes da mudança?", "before", "mudança"),
    ],
)
async def test_an_event_stands_for_a_time(question: str, side: str, event: str) -> None:
    (found,) = await LocalQuestionReader(SystemClock()).events(question)
    assert (found.side, found.text) == (side, event)


@pytest.mark.parametrize(
    "question",
    [
        "Have I worked on triangles before?",
        "What did Maria do before April 10, 2023?",
        "Who came before 2019?",
        "Wo war ich vor drei Tagen?",
        "",
    ],
)
async def test_a_date_or_nothing_is_no_event(question: str) -> None:
    assert await LocalQuestionReader(SystemClock()).events(question) == []


async def test_a_page_of_events_is_read_in_bounded_time_and_names_few() -> None:
    found = await LocalQuestionReader(SystemClock()).events("before the move " * 5_000)
    assert 0 < len(found) <= EVENTS_MAX
    assert all(len(event.text) <= EVENT_CHARS_MAX for event in found)


async def test_most_questions_name_none() -> None:
    assert await spans("Where does Ada live?") == []
    assert await spans("") == []


async def test_the_ends_of_time_and_a_page_of_dates_are_no_error() -> None:
    assert (
        await spans("What was on 9999-12-31?", datetime(9999, 12, 31, 23, tzinfo=UTC)) is not None
    )
    many = " ".join(f"2023-05-{day:02}" for day in range(1, 32)) * 50
    assert len(await spans(many)) <= SPANS_MAX


async def test_a_concurrent_warm_up_changes_no_result() -> None:
    reader = LocalQuestionReader(SystemClock())
    reader.warm()
    first, second = [await reader.times("Was it in May 2023?", NOW) for _ in range(2)]
    assert first == second
    assert len(first) == 1


async def test_the_end_of_warming_up_is_reported() -> None:
    reader = LocalQuestionReader(SystemClock())
    assert not reader.is_warming
    reader.warm()
    assert await reader.language("What did she say about the weather in the mountains?") == "en"
    async with asyncio.timeout(60):
        while reader.is_warming:  # noqa: ASYNC110 - a thread, no signal
            await asyncio.sleep(0.01)


async def test_who_cannot_load_does_not_stay_unready_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise MemoryError

    monkeypatch.setattr(question_module, "load_language_data", broken)
    reader = LocalQuestionReader(SystemClock())
    with pytest.raises(MemoryError):
        await reader.language("What?")
    assert not reader.is_warming


@pytest.mark.parametrize(
    ("question", "is_inline"),
    [
        ("What did we eat yesterday?", True),
        ("Was haben wir gestern gegessen?", True),
        ("昨日は何を食べましたか？", False),
        ("Что мы ели вчера на ужин?", False),
        ("What did we eat yesterday? " * 20, False),
    ],
)
async def test_what_takes_long_is_read_in_a_thread(
    question: str, is_inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def record(*_arguments: object) -> list[object]:
        threads.append(threading.current_thread())
        return []

    reader = LocalQuestionReader(SystemClock())
    await reader.times("Was it yesterday?", NOW)
    monkeypatch.setattr(question_module, "_times", record)
    await reader.times(question, NOW)
    assert [thread is threading.main_thread() for thread in threads] == [is_inline]

"""The times a question names, as instants."""

from __future__ import annotations

import asyncio
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


async def test_warming_up_beside_changes_no_answer() -> None:
    reader = LocalQuestionReader(SystemClock())
    reader.warm()
    first, second = [await reader.times("Was it in May 2023?", NOW) for _ in range(2)]
    assert first == second
    assert len(first) == 1


async def test_who_is_warmed_says_when_that_is_done() -> None:
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

    monkeypatch.setattr(question_module, "_warm_up", broken)
    reader = LocalQuestionReader(SystemClock())
    with pytest.raises(MemoryError):
        await reader.language("What?")
    assert not reader.is_warming

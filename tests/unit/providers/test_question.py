"""The times a question names, as instants."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from luma_memory.domain.clock import SystemClock
from luma_memory.providers.completion.extract.question import SPANS_MAX, LocalQuestionReader

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

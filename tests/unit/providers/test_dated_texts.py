"""Dates of many texts, written on a Wednesday and read as a block is.

`dated_texts.tsv` holds a text and the values that are right: "-" for none; "?" behind a value says
that no value is right as well, because the text does not prove it.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from luma_memory.domain.clock import SystemClock
from luma_memory.providers.completion.extract.dates import dates
from luma_memory.providers.completion.extract.document import read
from luma_memory.providers.completion.extract.language import identify
from luma_memory.providers.completion.extract.question import LocalQuestionReader

WRITTEN = datetime(2026, 3, 11, 13, 56, tzinfo=UTC)
TEXTS = Path(__file__).parent / "dated_texts.tsv"


def _rows() -> list[tuple[str, str]]:
    with TEXTS.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(text, expected) for text, expected in rows]


@pytest.mark.parametrize(("text", "expected"), _rows())
def test_a_text_has_the_dates_that_it_proves(text: str, expected: str) -> None:
    mentions = dates(read(text, identify(text).assumed), WRITTEN)
    found = [mention.value for mention in mentions if mention.value is not None]
    values = [] if expected == "-" else expected.split(",")
    if any(value.endswith("?") for value in values):
        assert found in ([], *([value.rstrip("?")] for value in values))
    else:
        assert found == values


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What did I do from 3 to 5 March?", "2026-03-03:2026-03-06"),
        ("Cosa ho fatto dal 3 all'8 marzo?", "2026-03-03:2026-03-09"),
        ("Cosa ho fatto dal 3 al 9 marzo?", "2026-03-03:2026-03-10"),
        ("Who is Wednesday Addams?", "-"),
        ("What did Sunday Oliseh say?", "-"),
        ("Qui est Mercredi Addams ?", "-"),
        ("Was hat Herr Freitag gesagt?", "-"),
        ("What did I note the day after Christmas?", "-"),
        ("What did I do on Tuesday of last week?", "2026-03-03:2026-03-04"),
        ("What is planned for Friday?", "2026-03-13:2026-03-14"),
        ("Which book did I read on a Tuesday?", "-"),
        ("What is in Version 2026.3.1?", "-"),
        ("What did I eat between Monday and today?", "2026-03-09:2026-03-12"),
        ("What happened 2026-03-01 to 2026-03-05?", "2026-03-01:2026-03-06"),
        ("Was war vom 3. bis 5. März?", "2026-03-03:2026-03-06"),
        ("Was habe ich vom 03.03. bis 05.03.2026 gemacht?", "2026-03-03:2026-03-06"),
        ("Qu'ai-je fait du 3 au 5 mars ?", "2026-03-03:2026-03-06"),
        ("¿Qué hice del 3 al 5 de marzo?", "2026-03-03:2026-03-06"),
        ("O que fiz de 3 a 5 de março?", "2026-03-03:2026-03-06"),
        ("Что я делал вчера?", "2026-03-10:2026-03-11"),
        ("Что я делал на прошлой неделе?", "2026-03-02:2026-03-09"),
        ("昨日は何をした？", "2026-03-10:2026-03-11"),
        ("어제 뭐 했어?", "2026-03-10:2026-03-11"),
        ("昨天我做了什么？", "2026-03-10:2026-03-11"),
        ("от 3 до 5 ноября", "-"),
        ("What did I eat between 2026-03-03 and 2026-03-05?", "2026-03-03:2026-03-06"),
        ("What did I eat from 3/3/2026 to 3/5/2026?", "2026-03-03:2026-03-06"),
        ("What did I do since Monday?", "2026-03-09:2026-03-12"),
        ("What did I do after 5 March?", "2026-03-06:2026-03-12"),
        ("What did I do before 5 March?", "-"),
        ("What do I have after Friday?", "-"),
        ("Was habe ich vor drei Tagen gemacht?", "2026-03-08:2026-03-09"),
        ("Was war vor einem halben Jahr?", "2025-09-01:2025-10-01"),
        ("Was war vor Weihnachten?", "-"),
        ("¿Qué hice antes de ayer?", "2026-03-09:2026-03-10"),
        ("Que fiz anteontem?", "2026-03-09:2026-03-10"),
        ("What did I do since Christmas?", "2025-12-25:2026-03-12"),
        ("What happened in the last two weeks?", "2026-02-25:2026-03-12"),
        ("What happened in the past 3 days?", "2026-03-08:2026-03-12"),
        ("Was war in den letzten drei Tagen?", "2026-03-08:2026-03-12"),
        ("Was habe ich seit Montag gemacht?", "2026-03-09:2026-03-12"),
        ("Qu'ai-je fait ces trois derniers jours ?", "2026-03-08:2026-03-12"),
        ("¿Qué hice en los últimos tres días?", "2026-03-08:2026-03-12"),
        ("What did I do on Friday, March 6?", "2026-03-06:2026-03-07"),
        ("What do I have on Friday?", "2026-03-13:2026-03-14"),
        ("What did I do on Friday?", "2026-03-06:2026-03-07"),
        ("When is my appointment on Monday?", "2026-03-16:2026-03-17"),
        ("What is due next week?", "2026-03-16:2026-03-23"),
        ("Was steht am Freitag an?", "2026-03-13:2026-03-14"),
        ("Was habe ich am Freitag gemacht?", "2026-03-06:2026-03-07"),
        ("What did we decide in Q4 2025?", "2025-10-01:2026-01-01"),
        ("What did we do in the first half of 2025?", "2025-01-01:2025-07-01"),
        ("What did I do at Easter?", "2025-04-20:2025-04-21"),
        ("What runs on 10.12.20.25?", "-"),
        ("What is new in 1.2.26?", "-"),
        ("Who has the number 0176-12-05-1990?", "-"),
        ("What was dinner the day before yesterday?", "2026-03-09:2026-03-10"),
        ("What did I do two days ago?", "2026-03-09:2026-03-10"),
        ("What did I do last weekend?", "2026-03-07:2026-03-09"),
        ("Which bills are due by Friday?", "2026-03-13:2026-03-14"),
        ("What happened on the 5th?", "2026-03-05:2026-03-06"),
        ("What did I do from Monday to Wednesday?", "2026-03-09:2026-03-12"),
        ("Where was I in March '24?", "2024-03-01:2024-04-01"),
    ],
)
async def test_a_question_means_the_days_that_it_names(question: str, expected: str) -> None:
    found = await LocalQuestionReader(SystemClock()).times(question, WRITTEN)
    spans = [f"{span.start.date()}:{span.stop.date()}" for span in found]
    assert ",".join(spans) == expected.strip("-")

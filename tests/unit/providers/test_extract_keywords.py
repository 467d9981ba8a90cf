"""Tags."""

from __future__ import annotations

import base64
import random

import pytest

from luma_memory.providers.completion.extract.document import quieted, read
from luma_memory.providers.completion.extract.keywords import keywords
from luma_memory.providers.completion.extract.text import readable


def tags(text: str, language: str = "en") -> list[str]:
    return keywords(read(readable(text), language))


@pytest.mark.parametrize(
    "text",
    [
        "It was so good to see you again, we had a really great time!",
        "Thanks, that's awesome! Wow, haha, yeah. Yesss!",
        "I'm glad you're doing well and I'll let you know.",
        "12 34 … !!",
        "",
    ],
)
def test_small_talk_has_no_subject(text: str) -> None:
    assert tags(text) == []


def test_subjects_come_before_common_words() -> None:
    found = tags(
        "My beekeeping lessons are here, the school sent the timetable for the apiary visits."
    )
    assert found[0] in {"beekeeping lessons", "apiary visits"}
    assert {"beekeeping lessons", "apiary visits", "timetable"} <= set(found)
    assert "school" not in found[:2]


def test_words_of_one_stem_are_one_tag() -> None:
    found = tags("Sculptures everywhere! One sculpture was huge. Sculptures, sculptures.")
    assert [tag for tag in found if "sculptur" in tag] == ["sculptures"]


@pytest.mark.parametrize(
    ("language", "text", "tag"),
    [
        ("de", "Unsere Imkerei bekommt neue Bienenstöcke.", "imkerei"),
        ("es", "La apicultura me parece fascinante.", "apicultura"),
        ("fr", "J'adore l'apiculture et la menuiserie.", "apiculture"),
        ("it", "L'apicoltura richiede pazienza.", "apicoltura"),
        ("pt", "A apicultura exige paciência.", "apicultura"),
        ("nl", "De imkerij vraagt geduld.", "imkerij"),
        ("zh", "今天天气很好", "天气"),
    ],
)
def test_languages(language: str, text: str, tag: str) -> None:
    assert tag in " ".join(tags(text, language)).split()


def test_a_long_text_has_ten_at_most_and_its_repeated_subject_first() -> None:
    body = " ".join(
        f"The glacier lost ice near station {n} although winters were cold." for n in range(40)
    )
    found = tags(body)
    assert len(found) <= 10
    assert "glacier" in found[0]


def test_quieted_words_are_no_tags() -> None:
    document = read("The beekeeper sold honey.", "en")
    assert any("beekeeper" in tag for tag in keywords(document))
    assert not any("beekeeper" in tag for tag in keywords(quieted(document, {"beekeeper"})))


TOKEN_PARTS = (
    "eyJhbGciOiJIUzI1NiJ9",
    "eyJzdWIiOiIxMjM0NTY3ODkwIn0",
    "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0T",
)
IMAGE = base64.b64encode(random.Random(7).randbytes(4_000)).decode()
LINES = "\n".join(IMAGE[start : start + 76] for start in range(0, len(IMAGE), 76))


@pytest.mark.parametrize(
    "data",
    [
        f"data:image/png;base64,{IMAGE}",
        f"![photo](data:image/jpeg;base64,{IMAGE})",
        f'<img src="data:image/gif;base64,{IMAGE}">',
        f'{{"image_url": "data:image/webp;base64,{IMAGE}"}}',
        IMAGE,
        LINES,
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        ".".join(TOKEN_PARTS),
    ],
)
def test_data_in_text_form_makes_no_tags(data: str) -> None:
    known = {"photo", "image_url", "url", "img", "src", "sha256", "bicycle", "red"}
    found = tags(f"The red bicycle.\n{data}\nThe red bicycle again.")
    assert "bicycle" in found
    assert set(found) <= known


def test_long_names_and_paths_stay_readable() -> None:
    text = "src/luma_memory/pipeline/recall/scope_layout.py and NSURLSessionConfiguration crash."
    assert readable(text) == text

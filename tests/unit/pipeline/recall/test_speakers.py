"""A question means the speaker it names, or else the user."""

from __future__ import annotations

import numpy as np
import pytest

from luma_memory.pipeline.recall.speakers import meant, names_in, own_names


def key(whole: int, first: int) -> int:
    """As memory_speaker_key packs two 32-bit hashes."""
    return (whole << 32) | (first & 0xFFFFFFFF)


ADA, ADA_L, BOB, USER, NO_SPEAKER = key(1, 1), key(-2, 1), key(3, 3), key(-9, -9), 0


def found(speakers: list[int], *, named: list[int], own: list[int]) -> list[bool]:
    is_meant = meant(np.array(speakers, dtype=np.int64), named=named, own=own)
    return [bool(value) for value in is_meant]


def test_who_is_named_is_meant_by_the_whole_name_or_the_first() -> None:
    speakers = [ADA, ADA_L, BOB, USER, NO_SPEAKER]
    assert found(speakers, named=[1], own=[-9]) == [True, True, False, False, False]
    assert found(speakers, named=[-2], own=[-9]) == [False, True, False, False, False]
    assert found(speakers, named=[3, 1], own=[]) == [True, True, True, False, False]


def test_without_a_name_the_user_is_meant() -> None:
    assert found([ADA, USER, NO_SPEAKER], named=[77], own=[-9, 55]) == [False, True, False]
    assert found([ADA, BOB, NO_SPEAKER], named=[], own=[-9]) == [False, False, False]
    assert found([], named=[1], own=[2]) == []


def test_rows_without_a_speaker_are_nobodys() -> None:
    assert found([NO_SPEAKER], named=[0], own=[0]) == [False]


@pytest.mark.parametrize(
    ("question", "some", "never"),
    [
        ("What is Caroline's favourite book?", {"Caroline"}, {"caroline's", "favourite", "book"}),
        ("what did caroline say?", {"caroline"}, set()),
        ("Where did Mary Ann Smith go?", {"Mary Ann Smith", "Mary", "Ann"}, {"did"}),
        ("What will the assistant do?", {"assistant"}, {"will"}),
        ("Did Jean-Luc call O'Neil?", {"Jean-Luc", "O'Neil"}, {"call"}),
        ("", set(), set()),
        ("¿?…", set(), set()),
    ],
)
def test_names_begin_with_a_capital_where_there_are_any(
    question: str, some: set[str], never: set[str]
) -> None:
    names = set(names_in(question))
    assert some <= names
    assert not never & names


@pytest.mark.parametrize(
    ("question", "names_it"),
    [
        ("What did you recommend for my app?", True),
        ("How had you previously explained recursion?", True),
        ("have you mentioned a book?", True),
        ("Did you know that I moved?", False),
        ("What did Ada recommend?", False),
        ("Can you list what I wrote?", False),
    ],
)
def test_questions_about_your_own_words_name_the_assistant(question: str, names_it: bool) -> None:
    assert ("assistant" in names_in(question)) == names_it


def test_names_are_bounded() -> None:
    assert len(names_in("Word " * 10_000)) < 200


def test_the_user_speaks_by_role_or_by_their_own_id() -> None:
    assert {"user", "ada"} <= set(own_names("ada"))

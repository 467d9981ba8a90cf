"""The speaker's name in place of "I", and the texts in which "I" stays."""

import pytest

from luma_memory.pipeline.text.first_person import is_name, with_name


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("I went to my group.", "Caroline went to Caroline's group."),
        ("I'm happy, and I’ve a dog.", "Caroline is happy, and Caroline has a dog."),
        ("I'd go, but I'll wait.", "Caroline would go, but Caroline will wait."),
        ("When I am home, I have time.", "When Caroline is home, Caroline has time."),
        ("But I don't know.", "But Caroline doesn't know."),
        ("Melanie and I, so am I!", "Melanie and Caroline, so am Caroline!"),
        ("Yesterday I ran. On Friday I rest.", "Yesterday Caroline ran. On Friday Caroline rest."),
        ("yes i am, i'm sure", "yes Caroline is, Caroline is sure"),
        ("The part I was reading", "The part Caroline was reading"),
        ("My knee hurts, and that is it.", "Caroline's knee hurts, and that is it."),
        ("I was there [image: the I that was", "Caroline was there [image: the I that was"),
        ('I said "I love you" to them', 'Caroline said "I love you" to them'),
        ("I ran `my_job I`; it was fine", "Caroline ran `my_job I`; it was fine"),
        ("Did I tell you?\n> I sold it", "Did Caroline tell you?\n> I sold it"),
    ],
)
def test_the_name_replaces_the_pronoun(text: str, named: str) -> None:
    assert with_name(text, "Caroline") == named


@pytest.mark.parametrize(
    "text",
    [
        "World War I was the first of them.",
        "Elizabeth I was queen when they arrived.",
        "The type I diabetes of the dog",
        "The I/O of this disk is slow, and the I-95 was closed.",
        "I. The first item\nII. The second item",
        "(I) the first, I) the first, I: the first",
        "Option I is the best of them, and the class I failed",
        "for i in range(3): print(i)  # the loop of this file",
        "“I was there”, they said to me",
        "She wrote 'I was there' to you",
        "```\nthe log: I was started\n```",
        "I ragazzi sono andati in citta",
        "My jsme doma a ty tu nejsi",
        "The island was closed to them.",
        "Melanie I think so, and the rest of you",
        "",
    ],
)
def test_other_meanings_stay(text: str) -> None:
    assert with_name(text, "Caroline") == text


@pytest.mark.parametrize(
    ("speaker", "is_one"),
    [
        ("Caroline", True),
        ("Dr. Ada O'Neil-Smith", True),
        ("Jörg", True),
        ("user", False),
        ("Assistant", False),
        ("support agent", False),
        ("user-123", False),
        ("ada@example.org", False),
        ("0198c2f4", False),
        ("one two three four", False),
        ("", False),
        (None, False),
    ],
)
def test_a_name_is_no_role_and_no_id(speaker: str | None, is_one: bool) -> None:
    assert is_name(speaker) == is_one
    assert (with_name("I went to the group", speaker) != "I went to the group") == is_one

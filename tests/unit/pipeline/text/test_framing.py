"""Words about the conversation are not searched for; those about the subject are."""

from __future__ import annotations

import pytest

from luma_memory.pipeline.text.framing import without_framing


@pytest.mark.parametrize(
    ("question", "searched"),
    [
        ("What profession did I mention I work in?", "What profession I work in?"),
        (
            "Can you list the order in which we discussed the oak tree, in order? Name two items.",
            "the oak tree?",
        ),
        ("Could you please tell me the name of my dog?", "the name of my dog?"),
        ("Which bus line did we talk about in our chat?", "Which bus line?"),
        ("Where is the hotel that I've mentioned?", "Where is the hotel that?"),
        ("How tall is the oak? Answer in one sentence.", "How tall is the oak?"),
    ],
)
def test_words_about_the_conversation_are_left_out(question: str, searched: str) -> None:
    assert without_framing(question) == searched


@pytest.mark.parametrize(
    "question",
    [
        "What did Caroline mention about the tent?",
        "What did you recommend for the kitchen?",
        "What did I do in order to fix the tap?",
        "Which spare parts are in order for the boat?",
        "What did my coach say in our conversation with Ada?",
        "What did I buy in our shop?",
        "Did I mention it?",
        "Can you list them?",
        "the order of the books",
        "",
        "Did I mention the tent? " * 30,
    ],
)
def test_other_questions_stay_as_they_are(question: str) -> None:
    assert without_framing(question) == question

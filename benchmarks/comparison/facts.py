"""Texts for both sides: chat turns, and among them facts with a question that has one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from benchmarks.chat import turns

# None of them is in the chat turns.
_NAMES: Final = (
    *("Ragnhild", "Osvald", "Bertil", "Ximena", "Thandi", "Casimir"),
    *("Petronella", "Ignatius", "Leocadia", "Wendelin", "Yolanda", "Zebedee"),
)
_FACTS: Final = (
    ("{} keeps the spare house key under the third flower pot.", "Where is {}'s house key?"),
    ("{} is allergic to hazelnuts and always carries a pen.", "What is {} allergic to?"),
    ("{} was born in a lighthouse on the coast of Brittany.", "Where was {} born?"),
    ("{} drives a green van that is older than the driver.", "What does {} drive?"),
    (
        "{} plays the bassoon in the orchestra of the fire brigade.",
        "Which instrument does {} play?",
    ),
)


@dataclass(frozen=True, slots=True)
class Fact:
    text: str
    question: str


FACTS: Final[Sequence[Fact]] = tuple(
    Fact(text.format(name), question.format(name))
    for (text, question), name in product(_FACTS, _NAMES)
)


def texts(count: int, *, seed: int) -> Sequence[str]:
    """So many texts, the facts spread evenly among chat turns."""
    found = [turn.content for turn in turns(count - len(FACTS), seed=seed)]
    step = count // len(FACTS)
    for number, fact in enumerate(FACTS):
        found.insert(number * step, fact.text)
    return found

"""How much a block is worth remembering, from 0 to 1, as a sum of parts that can be explained.

    0.15                             every block
  + up to 0.30   substance           weight of its informative words, saturating: 1 - exp(-sum / 18)
  + up to 0.21   facts               0.07 for each of: a name, a date, a number or link
  + 0.10         first person        "I", "my", "we"
  + 0.12         a life event        married, moved, hired, bought …
  + 0.12         commitment          remember, deadline, allergic, always …
  - 0.12         only questions      asks, states nothing
and 0.05 where no word has weight (greetings, thanks).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from luma_memory.domain.enrichment import Entity
from luma_memory.providers.completion.extract.document import Document

BASE = 0.15
SUBSTANCE = 0.30
SUBSTANCE_SCALE = 18.0
FACT = 0.07
SELF = 0.10
EVENT = 0.12
KEPT = 0.12
QUESTION = 0.12
SMALL_TALK = 0.05
# A long text contains nearly any word somewhere; its subject is named at the beginning.
CUE_WORDS = 80

_FACT_GROUPS = (
    frozenset({"person", "place", "organization", "event", "product"}),
    frozenset({"date"}),
    frozenset({"number", "link"}),
)


def importance(document: Document, entities: Sequence[Entity]) -> float:
    """Rounded to two decimals: more would suggest a precision it does not have."""
    weight = sum([word.weight for word in document.words])
    if weight == 0.0 and not entities:
        return SMALL_TALK
    value = BASE + SUBSTANCE * (1.0 - math.exp(-weight / SUBSTANCE_SCALE))
    value += FACT * _fact_groups(entities)
    value += _cue_parts(document)
    if _has_only_questions(document):
        value -= QUESTION
    return round(min(max(value, 0.0), 1.0), 2)


def _fact_groups(entities: Sequence[Entity]) -> int:
    kinds = {entity.kind for entity in entities}
    return sum(not group.isdisjoint(kinds) for group in _FACT_GROUPS)


def _cue_parts(document: Document) -> float:
    cues = document.vocabulary.importance
    words = {word.base for word in document.words[:CUE_WORDS]}
    return (
        SELF * (not cues.self.isdisjoint(words))
        + EVENT * (not cues.events.isdisjoint(words))
        + KEPT * (not cues.commitments.isdisjoint(words))
    )


def _has_only_questions(document: Document) -> bool:
    """Every sentence with informative words is a question."""
    has_question = False
    for sentence in document.sentences:
        words = document.words[sentence.first : sentence.last]
        if any(word.weight > 0.0 for word in words):
            if document.text[sentence.end - 1] not in "?？":
                return False
            has_question = True
    return has_question

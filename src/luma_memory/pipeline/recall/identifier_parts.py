"""Terms of a question that a block has only inside an identifier.

The parts of a joined word are searchable, so that "payments" finds "payments-api:2.3.1". In a token
such as "aB3_xY-9" they are no words: a block with this token is not about "X". The same holds for a
single letter or digit of any joined word ("C" in "C++", "A" in "A/B test").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from luma_memory.pipeline.text.marked import is_opaque
from luma_memory.pipeline.text.terms import QueryTerm
from luma_memory.pipeline.text.words import ANALYZER

# The remaining factor of the relevance of a block that has the question's words only like this, as
# for identifiers that no block has.
INSIDE_FACTOR: Final = 0.4
# Of a longer text only the beginning is read: the rest costs more than a wrong flag is worth.
_CHARACTERS_MAX: Final = 8_000
# Longer questions have other words that decide.
_TERMS_MAX: Final = 12
# Shorter joined words ("c#") occur by chance.
_WHOLE_LENGTH_MIN: Final = 6


def has_only_inside_identifiers(text: str, terms: Sequence[QueryTerm]) -> bool:
    """Whether the text has terms of the question, and each of them only inside an identifier."""
    text = text[:_CHARACTERS_MAX]
    requested = {term.term for term in terms if term.is_direct}
    if not 0 < len(requested) <= _TERMS_MAX or not _may_hide(text, requested):
        return False
    lowered = text.lower()
    whole = {term.term for term in terms if not term.is_direct}
    if any(term in lowered for term in whole if len(term) >= _WHOLE_LENGTH_MIN):
        return False  # also inside a longer one, such as an address
    is_inside = False
    for raw, word in ANALYZER.tokens(text):
        if word.whole in whole or word.whole in requested:
            return False
        found = requested.intersection(word.parts)
        if not found:
            continue
        if word.whole is None or not (is_opaque(raw) or all(len(part) == 1 for part in found)):
            return False
        is_inside = True
    return is_inside


def _may_hide(text: str, requested: set[str]) -> bool:
    """Cheap: false for nearly all blocks."""
    singles = {term for term in requested if len(term) == 1}
    return (bool(singles) and not singles.isdisjoint(text.lower())) or any(
        is_opaque(raw) and any(term in raw.lower() for term in requested) for raw in text.split()
    )

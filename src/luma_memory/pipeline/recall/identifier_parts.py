"""Terms of a question that a block has only inside an identifier.

The parts of a joined word are searchable, so that "payments" finds "payments-api:2.3.1". In a token
such as "aB3_xY-9" they are no words: a block with this token is not about "X". The same holds for a
single letter or digit of any joined word ("C" in "C++", "A" in "A/B test").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from luma_memory.pipeline.text.terms import QueryTerm
from luma_memory.pipeline.text.words import ANALYZER

# The remaining factor of the relevance of a block that has the question's words only like this, as
# for identifiers that no block has.
INSIDE_FACTOR: Final = 0.4
# Of a longer text only the beginning is read: the rest costs more than a wrong flag is worth.
_CHARACTERS_MAX: Final = 20_000
# Longer questions have other words that decide.
_TERMS_MAX: Final = 6
_MIXED: Final = re.compile(r"[a-z\d][A-Z]")
_RUN: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
# A run of so many letters is a word ("getUser2").
_WORD_LETTERS_MIN: Final = 4


def has_only_inside_identifiers(text: str, terms: Sequence[QueryTerm]) -> bool:
    """Whether the text has terms of the question, and each of them only inside an identifier."""
    text = text[:_CHARACTERS_MAX]
    requested = {term.term for term in terms if term.is_direct}
    if not 0 < len(requested) <= _TERMS_MAX or not _may_hide(text, requested):
        return False
    known = requested | {term.term for term in terms}
    is_inside = False
    for raw, word in ANALYZER.tokens(text):
        if word.whole in known:
            return False
        found = requested.intersection(word.parts)
        if not found:
            continue
        if word.whole is None or not all(_is_hidden(part, raw) for part in found):
            return False
        is_inside = True
    return is_inside


def _may_hide(text: str, requested: set[str]) -> bool:
    """Cheap: false for nearly all blocks."""
    return any(len(term) == 1 for term in requested) or _MIXED.search(text) is not None


def _is_hidden(part: str, raw: str) -> bool:
    if len(part) == 1:
        return True
    is_mixed = any(map(str.isdigit, part)) and any(map(str.isalpha, part))
    return (len(part) < _WORD_LETTERS_MIN or is_mixed) and _is_opaque(raw)


def _is_opaque(raw: str) -> bool:
    """Whether a joined word is a token of digits and letters in mixed case, without words."""
    if _MIXED.search(raw) is None or not any(map(str.isdigit, raw)):
        return False
    lengths = [len(run) for run in _RUN.findall(raw)]
    return 2 * sum(length for length in lengths if length >= _WORD_LETTERS_MIN) < sum(lengths)

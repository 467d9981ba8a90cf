"""Text to stemmed terms, and terms to the sparse vectors whose inner product is BM25.

A block's vector is computed once, when it is accepted; a query's vector is computed when the
document frequencies of its terms in the scope are known. Then

    inner product = sum over terms of  idf(df, N) * query_frequency
                    * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average_length))

which is BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009) with one
liberty: `average_length` is a constant, because a vector already stored cannot follow a moving one.

Terms are hashed into 1..TERM_SPACE, so no process needs a vocabulary.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final, Literal

from luma_memory.pipeline.text.stems import stems
from luma_memory.pipeline.text.words import ANALYZER, DEFAULT_LANGUAGE, TERM_SPACE, term_index

__all__ = [
    "DEFAULT_LANGUAGE",
    "MAX_ELEMENTS",
    "TERM_SPACE",
    "WEIGHTING",
    "QueryTerm",
    "TermVector",
    "TermWeighting",
    "date_words",
    "document_terms",
    "idf",
    "query_vector",
    "term_index",
]

MAX_ELEMENTS: Final = 16_000  # the maximum number of non-zero elements of a sparsevec

# Not strftime's names: they depend on the locale of the process, and stored terms must not.
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@dataclass(frozen=True, slots=True)
class TermWeighting:
    """BM25's constants.

    Measured on chats of short turns and of long messages: quality is flat for k1 0.4-0.9 and b
    0.2-0.4, and falls with b 0.75. The average length lies between the two kinds (14 and 65).
    """

    k1: float = 0.6  # how slowly the weight of a repeated term saturates; > 0
    b: float = 0.3  # how much length lowers the weight of terms; 0..1
    average_length: float = 30.0  # terms without stop words; > 0


WEIGHTING: Final = TermWeighting()


@dataclass(frozen=True, slots=True)
class TermVector:
    """A sparsevec of TERM_SPACE dimensions."""

    indices: Sequence[int]  # 1..TERM_SPACE, ascending, unique, at most MAX_ELEMENTS
    weights: Sequence[float]  # > 0, one per index

    def to_text(self) -> str:
        """pgvector's text form, for `$1::text::sparsevec`; indices count from 1."""
        pairs = ",".join(f"{i}:{w:.7g}" for i, w in zip(self.indices, self.weights, strict=True))
        return f"{{{pairs}}}/{TERM_SPACE}"

    def to_binary(self) -> bytes:
        """pgvector's send/receive form: big-endian, with indices from 0."""
        head = array("i", (TERM_SPACE, len(self.indices), 0))
        zero_based = array("i", [index - 1 for index in self.indices])
        values = array("f", self.weights)
        return _big_endian(head) + _big_endian(zero_based) + _big_endian(values)

    def inner_product(self, other: TermVector) -> float:
        """The inner product, as PostgreSQL computes it (`<#>` returns its negative)."""
        mine = dict(zip(self.indices, self.weights, strict=True))
        return math.fsum(
            weight * mine[index]
            for index, weight in zip(other.indices, other.weights, strict=True)
            if index in mine
        )


# Digits of an account, an order, a telephone: no passage is about one that it does not have.
_REQUIRED_DIGITS: Final = 5

TermKind = Literal["word", "name", "code", "label"]


@dataclass(frozen=True, slots=True)
class QueryTerm:
    """One distinct term of a question."""

    term: str  # the stem, for display
    index: int  # 1..TERM_SPACE
    frequency: int  # how often the question has it; >= 1
    # Terms of one word are forms of the same thing (its stems in other languages): the best of
    # them counts. 0, 1, … in the order of the words.
    word: int = 0
    # A passage that has this term has all of these words too: "api:2.3.1" covers "api" and "2.3.1".
    covers: frozenset[int] = frozenset()
    # Whether it counts toward coverage. False: a derived form, which only affects ranking.
    is_direct: bool = True
    # If no passage has this code, number or name, the question is about something not stored. A
    # label is too short or common to be looked for like this ("bus 43", the letters of "xyz-123"):
    # a block without it is about something else.
    kind: TermKind = "word"
    # Whether only the word itself shows that a passage is about it: in a question whose language
    # has its function words removed, and may be unknown to the embedding model.
    is_literal: bool = False

    @property
    def is_identifier(self) -> bool:
        return self.kind in ("name", "code")

    @property
    def is_required(self) -> bool:
        """Whether a block without it is about something else: a label, or a long number."""
        if self.kind == "label":
            return True
        digits = sum(character.isdigit() for character in self.term)
        return self.kind == "code" and digits >= _REQUIRED_DIGITS


def document_terms(
    text: str,
    *,
    context: Sequence[str] = (),
    language: str = DEFAULT_LANGUAGE,
    weighting: TermWeighting = WEIGHTING,
) -> TermVector:
    """The term vector of one passage.

    context: further words by which the passage is found (speaker, day). Those already in the text
    change nothing; the others count once and do not add to the passage's length. language: ISO
    639-1; adds the stems of that language, which do not add to it either. If the text has only stop
    words, they are kept, so that every block is found by its own text. Beyond MAX_ELEMENTS distinct
    terms the heaviest stay.
    """
    frequencies, length = ANALYZER.count(text)
    for words in context:
        for index in _context_indices(words):
            frequencies.setdefault(index, 1)
    for stem in stems(text, language):
        index = term_index(stem)
        frequencies[index] = frequencies.get(index, 0) + 1
    return _weigh(frequencies, length, weighting)


def query_vector(
    terms: Sequence[QueryTerm], document_frequencies: Sequence[int], *, passage_count: int
) -> TermVector:
    """The vector whose inner product with a passage's vector is that passage's BM25 score.

    document_frequencies: passages of the scope that have the term, one per term; terms that none
    has are left out.
    """
    weights = {
        term.index: term.frequency * idf(frequency, passage_count)
        for term, frequency in zip(terms, document_frequencies, strict=True)
        if frequency > 0
    }
    indices = sorted(weights)
    return TermVector(indices, [weights[index] for index in indices])


def date_words(day: date) -> str:
    """A day as people name it in a question: "Sunday 7 May 2023"; meant for `context`."""
    return f"{WEEKDAYS[day.weekday()]} {day.day} {MONTHS[day.month - 1]} {day.year}"


def idf(document_frequency: int, passage_count: int) -> float:
    """The information in a term: ln(1 + (N - df + 0.5) / (df + 0.5)), never negative.

    df is clamped to 0..N: two statements count them, and a block may be added between them.
    """
    df = min(max(document_frequency, 0), passage_count)
    return math.log1p((passage_count - df + 0.5) / (df + 0.5))


@lru_cache(maxsize=1024)
def _context_indices(words: str) -> Sequence[int]:
    """Cached, since speakers and days repeat: their terms took a third of the time."""
    return tuple(ANALYZER.count(words)[0])


def _weigh(frequencies: Mapping[int, int], length: int, weighting: TermWeighting) -> TermVector:
    """The document side of BM25. The weight of frequency 1, the most common, is computed once."""
    numerator = weighting.k1 + 1.0
    norm = weighting.k1 * (1.0 - weighting.b + weighting.b * length / weighting.average_length)
    once = numerator / (1.0 + norm)
    indices = sorted(frequencies)
    if len(indices) > MAX_ELEMENTS:
        heaviest = sorted(indices, key=lambda index: (-frequencies[index], index))
        indices = sorted(heaviest[:MAX_ELEMENTS])
    weights = [
        once if (tf := frequencies[index]) == 1 else tf * numerator / (tf + norm)
        for index in indices
    ]
    return TermVector(indices, weights)


def _big_endian(values: array[int] | array[float]) -> bytes:
    if sys.byteorder == "little":
        values.byteswap()
    return values.tobytes()

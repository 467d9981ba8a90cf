"""A text as the extractors see it: sentences and weighted words with their places."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from luma_memory.providers.completion.extract.rarity import unknown_weight, weights
from luma_memory.providers.completion.extract.vocabulary import Vocabulary, vocabulary

MAX_SENTENCES = 200
MAX_WORD_CHARS = 60

_WORD = re.compile(r"\b[^\W\d_]\w*(?:['’\-]\w+)*")
# The first mark of a sequence: tried at each one, a page of dots would take quadratic time.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+[」』”]?|\n+")
# "Dr. Vega", "z. B.", "J. Smith": the dot does not end a sentence.
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|jr|sr|sra|vs|etc|approx|no|nr|bzw|ca|usw|inkl|sig|mme|dhr|mevr|bijv|"
    r"e\.g|i\.e|jan|feb|mar|mär|apr|jun|jul|aug|sept?|oct|okt|nov|dec|dez)|\b[^\W\d_]|\b\d{1,2})\.$",
    re.IGNORECASE,
)
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_CONTRACTED = ("n't", "'re", "'ve", "'ll", "'m", "'d")
# A named tuple's own constructor costs another Python call for every word.
_new_word = tuple.__new__
# Cached words per language: a few MB at most.
_LOOKED_UP_MAX = 20_000
_LOOKED_UP_CHARS_MAX = 24
_DRAWN_OUT = re.compile(r"(.)\1\1")


class Word(NamedTuple):
    """A word and its place; `base` is its lookup form, `weight` its information content."""

    text: str
    base: str
    start: int
    end: int
    sentence: int
    weight: float


class Sentence(NamedTuple):
    """A stretch of the text without the white space around it; words[first:last] are its words."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Document:
    """The parts of one text. Places are offsets into `text`."""

    text: str
    language: str  # the language it is read in: a best guess even if none is reported
    vocabulary: Vocabulary
    sentences: list[Sentence]
    words: list[Word]

    def sentence_at(self, place: int) -> Sentence:
        """The sentence that holds a place, or that ends before it; there is at least one."""
        index = bisect_right(self.sentences, place, key=lambda sentence: sentence.start) - 1
        return self.sentences[max(index, 0)]


def read(text: str, language: str) -> Document:
    """Split a readable text into sentences and words. Same input, same output."""
    words: list[Word] = []
    sentences: list[Sentence] = []
    words_of = vocabulary(language)
    for start, end in _sentence_spans(text)[:MAX_SENTENCES]:
        first = len(words)
        words.extend(_words(text, start, end, len(sentences), words_of))
        sentences.append(Sentence(start, end, first, len(words)))
    return Document(text, language, words_of, sentences, words)


def quieted(document: Document, bases: Set[str]) -> Document:
    """The same document with the weight of these words set to 0."""
    if not bases:
        return document
    words = [word._replace(weight=0.0) if word.base in bases else word for word in document.words]
    return Document(
        document.text, document.language, document.vocabulary, document.sentences, words
    )


def _sentence_spans(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        if match[0] == "." and _ABBREVIATION.search(text, max(start, end - 12), end):
            continue
        _append(spans, text, start, end)
        start = end
    _append(spans, text, start, len(text))
    return spans


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    stripped = piece.strip()
    if stripped:
        left = start + len(piece) - len(piece.lstrip())
        spans.append((left, left + len(stripped)))


def _words(text: str, start: int, end: int, sentence: int, words_of: Vocabulary) -> list[Word]:
    known = weights(words_of.language)
    looked_up = _looked_up(words_of.language)
    found: list[Word] = []
    is_spaced = text.isascii()
    for match in _WORD.finditer(text, start, end):
        token = match[0]
        if not is_spaced and _UNSPACED.match(token):
            found.extend(_segments(token, match.start(), sentence, known))
            continue
        entry = looked_up.get(token)
        if entry is None:
            entry = _look_up(token, words_of, known)
            if len(looked_up) < _LOOKED_UP_MAX and len(token) <= _LOOKED_UP_CHARS_MAX:
                looked_up[token] = entry
        base, weight = entry
        first, last = match.span()
        found.append(_new_word(Word, (token, base, first, last, sentence, weight)))
    return found


@cache
def _looked_up(_language: str) -> dict[str, tuple[str, float]]:
    """Cached base and weight of words: a few words make up most of a text."""
    return {}


def _look_up(token: str, words_of: Vocabulary, known: Mapping[str, float]) -> tuple[str, float]:
    base = token.lower()
    if "'" in base or "’" in base:
        base = _base(base, words_of)
    weight = 0.0 if len(base) < 2 or base.endswith(_CONTRACTED) else known.get(base)
    if weight is None:
        weight = _unknown_weight(base, unknown_weight(words_of.language), words_of)
    return base, weight


def _segments(token: str, start: int, sentence: int, known: Mapping[str, float]) -> Iterator[Word]:
    """Words of a script without spaces: the longest the frequency list knows from each place on.

    An unknown piece and every single character has weight 0.
    """
    place = 0
    while place < len(token):
        length = next((n for n in (4, 3, 2) if token[place : place + n] in known), 1)
        piece = token[place : place + length]
        weight = known[piece] if length > 1 and len(piece) == length else 0.0
        yield Word(piece, piece, start + place, start + place + length, sentence, weight)
        place += length


def _base(word: str, words_of: Vocabulary) -> str:
    """The word without an elided article ("l'année") or a possessive ("Maria's")."""
    word = word.replace("’", "'")
    head, _, tail = word.partition("'")
    if head in words_of.elision:
        return tail
    return word if word.endswith(_CONTRACTED) else head


def _unknown_weight(base: str, unknown: float, words_of: Vocabulary) -> float:
    """Laughter has weight 0; a compound has the weight of its rarest part."""
    if len(base) > MAX_WORD_CHARS or _DRAWN_OUT.search(base):
        return 0.0
    if "-" in base:
        known = weights(words_of.language)
        return max(known.get(part, unknown if len(part) > 3 else 0.0) for part in base.split("-"))
    return unknown

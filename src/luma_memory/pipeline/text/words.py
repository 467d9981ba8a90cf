"""Text to terms: word boundaries, the terms of a word, and their indices in a term vector.

Stored vectors contain the terms of these rules at the time of storing. A change may add terms to
texts, and a query must keep using the terms of older vectors: the whole of a joined word, and
the parts between its signs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Final, NamedTuple

import snowballstemmer

from luma_memory.pipeline.text import stop_words
from luma_memory.pipeline.text.marked import joined_digits, pictograms, stop_word_names, unmarked

TERM_SPACE: Final = 1_000_000_000  # the most dimensions a pgvector sparsevec has
DEFAULT_LANGUAGE: Final = "en"

# Per process and language; about 16 MB when full. Longer words are not cached: a few
# texts without spaces would fill the memory that the number of entries is meant to bound.
_CACHED_WORDS: Final = 32_768
_CACHED_QUESTION_WORDS: Final = 4_096
_CACHED_WORD_LENGTH_MAX: Final = 64
# No natural word is longer; a stemmer would only spend time on it.
_STEMMED_LENGTH_MAX: Final = 64

# Characters that belong to letters but do not match `\w`: combining accents, vowels and tones of
# Hebrew, Arabic, the Indic scripts, Thai, Lao, Burmese and Khmer.
MARKS: Final = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u0610-\u061a"
    "\u064b-\u065f\u0670\u06d6-\u06dc\u0900-\u0963\u0966-\u0dff\u0e00-\u0eff\u1000-\u103f"
    "\u1050-\u109f\u1780-\u17d3"
)
# Scripts written without spaces (Han, kana, Hangul for its particles, Thai, Lao, Burmese, Khmer).
_UNSPACED: Final = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17d3\U00020000-\U0003ffff"
)
_HAN: Final = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"

# A word and everything joined to it: mail@example.org, https://example.org/a?b=1, ABC-123, v1.2.3,
# snake_case, 1,000, don't, C++. A single sign joins, so that "well...then" stays two words.
_WORD: Final = re.compile(
    rf"[\w{MARKS}]+(?:(?:://|[.@:/'’&+#?=%~-]|(?<=\d),(?=\d))[\w{MARKS}]+)*(?:\+\+|#(?!\w))?"
)
_PART: Final = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}_])[\w{MARKS}'])+")
IS_UNSPACED: Final = re.compile(rf"[{_UNSPACED}]")
_IS_HAN: Final = re.compile(rf"[{_HAN}]")
_IS_PLAIN: Final = re.compile(r"[a-z]+(?:'[a-z]+)*|[A-Z]+|[A-Z][a-z]+(?:'[a-z]+)*|\d+")
_CAMEL_EDGE: Final = re.compile(r"(?<=[a-z\d])(?=[A-Z])")
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)+")
_THOUSANDS: Final = re.compile(r"\d{1,3}(?:,\d{3})+")
# A decimal or a version number inside a joined word, with the "v" before it: "api:2.3.1",
# "v2.3.1-beta", "12.5kg", "python3.11".
_INNER_NUMBER: Final = re.compile(r"(?:(?<![^\W_])[vV])?(\d+(?:[.,]\d+)+)")
_MEASURE: Final = re.compile(r"(\d+)(?!(?:st|nd|rd|th)\Z)([^\W\d_]{1,3})")
# A Korean noun of one syllable with a particle ("책을"): there is no pair to find it by.
_SYLLABLE_NOUN: Final = re.compile(
    "([\uac00-\ud7a3])(?:은|는|이|가|을|를|에|의|도|만|와|과|로|으로|에서|에게|에는|에도|까지|부터"
    "|처럼|보다|마다|하고|이나|나|랑|이랑|이다|입니다|이에요|예요|이야|야)"
)
# Each stands for a word or a phrase (U+FDFA for 18 letters): a sequence of them is not expanded.
_PHRASES: Final = re.compile("[\ufdf0-\ufdfb]{3}")
_ACCENTS: Final = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u064b-\u065f\u0670]")
# Letters with a stroke, which have no decomposition.
_STROKES: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d"}
)


def term_index(term: str) -> int:
    """The index of a term in the sparse vectors: 1..TERM_SPACE, identical on every machine.

    Two terms may share an index: among 10,000 distinct ones with a probability of 5 percent.
    """
    return _known_hash(term) if len(term) <= _CACHED_WORD_LENGTH_MAX else _hash(term)


def _hash(term: str) -> int:
    digest = blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % TERM_SPACE + 1


_known_hash: Final = lru_cache(maxsize=_CACHED_WORDS)(_hash)


@dataclass(frozen=True, slots=True)
class WordTerms:
    """The terms of one raw word."""

    parts: tuple[str, ...]  # each searchable by itself; never empty
    whole: str | None = None  # the whole joined word, in addition to its parts


class _Spelling(NamedTuple):
    text: str  # folded
    is_final: bool  # indexed unchanged, without stemming
    is_whole: bool = False


class Analyzer:
    """The rules of a language: raw word in, terms and their indices out, cached per word."""

    def __init__(self, stem: Callable[[str], str], stops: frozenset[str]) -> None:
        self._stem = stem
        self._stops = stops
        self._indices = lru_cache(maxsize=_CACHED_WORDS)(self._indices_of)
        # A question is read several times: for its terms, its names, and what it only refers by.
        self._known_words = lru_cache(maxsize=_CACHED_QUESTION_WORDS)(self._analyzed)

    def count(self, text: str) -> tuple[dict[int, int], int]:
        """Frequency of each index in the text, and how many words count for its length.

        Stop words count only if there is nothing else; emoji, numbers written in groups and stop
        words that are names are found, and do not add to the length.
        """
        text = unmarked(text)
        words = _WORD.findall(text)
        counts: dict[int, int] = {}
        known, unknown, longest = self._indices, self._indices_of, _CACHED_WORD_LENGTH_MAX
        for word in words:
            for index in known(word) if len(word) <= longest else unknown(word):
                counts[index] = counts.get(index, 0) + 1
        if words and not counts:
            for word in words:
                for term in self._terms(word, keep_stop_words=True):
                    index = term_index(term)
                    counts[index] = counts.get(index, 0) + 1
        length = sum(counts.values())
        for term in self._marked(text):
            index = term_index(term)
            counts[index] = counts.get(index, 0) + 1
        return counts, length

    def terms(self, text: str) -> list[str]:
        """The terms in order, with repetitions; stop words only if there is nothing else."""
        return [term for word in self.words(text) for term in _in_order(word)]

    def words(self, text: str) -> list[WordTerms]:
        """The words and their terms in a text; stop words only if there is nothing else."""
        raw = _WORD.findall(unmarked(text))
        found = self._each_once(raw)
        if not any(found):
            found = self._each_once(raw, keep_stop_words=True)
        return [word for word in found if word is not None]

    def tokens(self, text: str) -> Iterator[tuple[str, WordTerms]]:
        """Each word as written, with its terms; without stop words."""
        for raw in _WORD.findall(unmarked(text)):
            if (word := self._word(raw)) is not None:
                yield raw, word

    def names_of_stop_words(self, text: str) -> list[str]:
        """Terms of stop words that the text writes as names: "the IT department", "Section A"."""
        return list(stop_word_names(unmarked(text), self._stops))

    def _marked(self, text: str) -> Iterator[str]:
        yield from pictograms(text)
        yield from (number for _, number in joined_digits(text))
        yield from stop_word_names(text, self._stops)

    def _each_once(
        self, raw: Sequence[str], *, keep_stop_words: bool = False
    ) -> Sequence[WordTerms | None]:
        """The terms of each word; a repeated word is analyzed once."""
        distinct = {word: self._word(word, keep_stop_words=keep_stop_words) for word in set(raw)}
        return [distinct[word] for word in raw]

    def _word(self, word: str, *, keep_stop_words: bool = False) -> WordTerms | None:
        if len(word) > _CACHED_WORD_LENGTH_MAX:
            return self._analyzed(word, keep_stop_words)
        return self._known_words(word, keep_stop_words)

    def _analyzed(self, word: str, keep_stop_words: bool) -> WordTerms | None:
        whole: str | None = None
        parts: list[str] = []
        for spelling in self._kept(word, keep_stop_words=keep_stop_words):
            term = self._term(spelling)
            if spelling.is_whole:
                whole = term
            else:
                parts.append(term)
        if not parts:
            return None if whole is None else WordTerms((whole,))
        return WordTerms(tuple(parts), whole)

    def _kept(self, word: str, *, keep_stop_words: bool) -> Iterator[_Spelling]:
        for spelling in _spellings(word):
            if spelling.text and (keep_stop_words or spelling.text not in self._stops):
                yield spelling

    def _term(self, spelling: _Spelling) -> str:
        return spelling.text if spelling.is_final else self._stem(spelling.text)

    def _terms(self, word: str, *, keep_stop_words: bool = False) -> Iterator[str]:
        return map(self._term, self._kept(word, keep_stop_words=keep_stop_words))

    def _indices_of(self, word: str) -> tuple[int, ...]:
        return tuple(term_index(term) for term in self._terms(word))


def _in_order(word: WordTerms) -> Iterator[str]:
    if word.whole is not None:
        yield word.whole
    yield from word.parts


def _spellings(word: str) -> Iterator[_Spelling]:
    """The spellings by which a raw word is found.

    A plain word is stemmed. A joined one is indexed as a whole, unchanged, and by its
    parts, with decimals and version numbers in one piece; text in a script without spaces by
    its pairs of characters, its Han characters, and Korean nouns of one syllable.
    """
    if _IS_PLAIN.fullmatch(word):
        yield _Spelling(word.lower(), is_final=False)
        return
    if _PHRASES.search(word):
        yield _Spelling(word, is_final=True)
        return
    normal = unicodedata.normalize("NFKC", word)
    normal = normal.replace("’", "'").strip("_'")
    if _NUMBER.fullmatch(normal):
        yield _Spelling(_number(normal), is_final=True)
        return
    parts = list(_parts(_CAMEL_EDGE.sub(" ", normal)))
    if [normal] != parts and not IS_UNSPACED.search(normal):
        yield _Spelling(fold(normal), is_final=True, is_whole=True)
    for part in parts:
        yield from _spellings_of_part(part)


def _parts(text: str) -> Iterator[str]:
    """The parts of a joined word; numbers with points or commas stay in one piece."""
    start = 0
    for number in _INNER_NUMBER.finditer(text):
        yield from _plain_parts(text[start : number.start()])
        yield number[1]
        start = number.end()
    yield from _plain_parts(text[start:])


def _plain_parts(text: str) -> Iterator[str]:
    for part in _PART.findall(text):
        measure = _MEASURE.fullmatch(part)
        if measure is None:
            yield part
        else:
            yield from measure.groups()


def _number(text: str) -> str:
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def _spellings_of_part(part: str) -> Iterator[_Spelling]:
    if _NUMBER.fullmatch(part):
        yield _Spelling(_number(part), is_final=True)
        return
    folded = fold(part.strip("'"))
    if not IS_UNSPACED.match(part):
        yield _Spelling(folded, is_final=len(folded) > _STEMMED_LENGTH_MAX)
        return
    for first, second in pairwise(folded):
        yield _Spelling(first + second, is_final=True)
    for character in folded:
        if len(folded) == 1 or _IS_HAN.match(character):
            yield _Spelling(character, is_final=True)
    if noun := _SYLLABLE_NOUN.fullmatch(folded):
        yield _Spelling(noun[1], is_final=True)


def fold(text: str) -> str:
    """Remove case, accents and compatibility forms: "Café", "CAFE" and "cafe" are one word.

    The English stemmer fails on accented letters, hence the folding before stemming.
    """
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return unicodedata.normalize("NFC", _ACCENTS.sub("", decomposed)).translate(_STROKES)


# PyStemmer's C implementation where it is installed, the same algorithm in Python where not.
ANALYZER: Final = Analyzer(
    snowballstemmer.stemmer("english").stemWord, stop_words.ENGLISH | stop_words.KOREAN
)

"""Text to terms: what a word is, what it is found by, and where that stands in a term vector.

Everything here decides what stored term vectors mean: whoever changes it makes them all again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Final

import snowballstemmer

from luma_memory.pipeline.text import stop_words

TERM_SPACE: Final = 1_000_000_000  # the most dimensions a pgvector sparsevec has
DEFAULT_LANGUAGE: Final = "en"

# Per process and language; about 16 MB when full. Longer words are looked at anew each time, or a
# handful of texts without spaces would fill the memory that the count of entries promises to bound.
_CACHED_WORDS: Final = 32_768
_CACHED_WORD_LENGTH_MAX: Final = 64
# No natural word is longer; a stemmer would only spend time on it.
_STEMMED_LENGTH_MAX: Final = 64

# Signs that belong to letters but are none to `\w`: accents written apart, and the vowels and tones
# of Hebrew, Arabic, the Indic scripts, Thai, Lao, Burmese and Khmer.
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

# A word and whatever is glued to it: mail@example.org, https://example.org/a?b=1, ABC-123, v1.2.3,
# snake_case, 1,000, don't, C++. One sign joins, so that "well...then" stays two words.
_WORD: Final = re.compile(
    rf"[\w{MARKS}]+(?:(?:://|[.@:/'’&+#?=%~-]|(?<=\d),(?=\d))[\w{MARKS}]+)*(?:\+\+|#(?!\w))?"
)
_PART: Final = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}_])[\w{MARKS}'])+")
_IS_UNSPACED: Final = re.compile(rf"[{_UNSPACED}]")
_IS_HAN: Final = re.compile(rf"[{_HAN}]")
_IS_PLAIN: Final = re.compile(r"[a-z]+(?:'[a-z]+)*|[A-Z]+|[A-Z][a-z]+(?:'[a-z]+)*|\d+")
_CAMEL_EDGE: Final = re.compile(r"(?<=[a-z\d])(?=[A-Z])")
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)+")
_THOUSANDS: Final = re.compile(r"\d{1,3}(?:,\d{3})+")
_VERSION: Final = re.compile(r"v\d+(?:\.\d+)+")
_ACCENTS: Final = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u064b-\u065f\u0670]")
# Letters that carry their stroke inside and so have no decomposition.
_STROKES: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d"}
)


def term_index(term: str) -> int:
    """Where a term stands in the sparse vectors: 1..TERM_SPACE, the same on every machine for ever.

    Two terms may share an index: among 10,000 distinct ones with a probability of 5 percent.
    """
    return _known_hash(term) if len(term) <= _CACHED_WORD_LENGTH_MAX else _hash(term)


def _hash(term: str) -> int:
    digest = blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % TERM_SPACE + 1


_known_hash: Final = lru_cache(maxsize=_CACHED_WORDS)(_hash)


class Analyzer:
    """The rules of a language: raw word in, terms and their indices out, remembered per word."""

    def __init__(self, stem: Callable[[str], str], stops: frozenset[str]) -> None:
        self._stem = stem
        self._stops = stops
        self._indices = lru_cache(maxsize=_CACHED_WORDS)(self._indices_of)

    def count(self, text: str) -> dict[int, int]:
        """Frequency of each index in the text; of the stop words where there is nothing else."""
        words = _WORD.findall(text)
        counts: dict[int, int] = {}
        known, unknown, longest = self._indices, self._indices_of, _CACHED_WORD_LENGTH_MAX
        for word in words:
            for index in known(word) if len(word) <= longest else unknown(word):
                counts[index] = counts.get(index, 0) + 1
        if words and not counts:
            for term in self._terms(words, keep_stop_words=True):
                index = term_index(term)
                counts[index] = counts.get(index, 0) + 1
        return counts

    def terms(self, text: str) -> list[str]:
        """The terms of a text as they come, repeated; stop words where there is nothing else."""
        words = _WORD.findall(text)
        return list(self._terms(words)) or list(self._terms(words, keep_stop_words=True))

    def _terms(self, words: Iterable[str], *, keep_stop_words: bool = False) -> Iterator[str]:
        dropped = frozenset[str]() if keep_stop_words else self._stops
        for word in words:
            for spelling, is_whole in _spellings(word):
                if spelling and spelling not in dropped:
                    yield spelling if is_whole else self._stem(spelling)

    def _indices_of(self, word: str) -> tuple[int, ...]:
        return tuple(term_index(term) for term in self._terms((word,)))


def _spellings(word: str) -> Iterator[tuple[str, bool]]:
    """What a raw word is found by: (folded spelling, whether it is looked up as it stands).

    A plain word is itself, to be stemmed. A glued one is the whole of it as it stands, and its
    parts; text in a script without spaces is its pairs of characters, and its Han characters.
    """
    if _IS_PLAIN.fullmatch(word):
        yield word.lower(), False
        return
    normal = unicodedata.normalize("NFKC", word).replace("’", "'").strip("_'")
    if _NUMBER.fullmatch(normal):
        yield (normal.replace(",", "") if _THOUSANDS.fullmatch(normal) else normal), True
        return
    parts = _PART.findall(_CAMEL_EDGE.sub(" ", normal))
    if [normal] != parts and not _IS_UNSPACED.search(normal):
        yield fold(normal), True
    if _VERSION.fullmatch(normal):
        yield normal[1:], True
        return
    for part in parts:
        yield from _spellings_of_part(part)


def _spellings_of_part(part: str) -> Iterator[tuple[str, bool]]:
    folded = fold(part.strip("'"))
    if not _IS_UNSPACED.match(part):
        yield folded, len(folded) > _STEMMED_LENGTH_MAX
        return
    for first, second in pairwise(folded):
        yield first + second, True
    for character in folded:
        if len(folded) == 1 or _IS_HAN.match(character):
            yield character, True


def fold(text: str) -> str:
    """Without case, accents and compatibility forms: "Café", "CAFE" and "cafe" are one word.

    English stems come out wrong on accented letters, hence the folding before the stemming.
    """
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return unicodedata.normalize("NFC", _ACCENTS.sub("", decomposed)).translate(_STROKES)


# PyStemmer's C implementation where it is installed, the same algorithm in Python where not.
ANALYZER: Final = Analyzer(snowballstemmer.stemmer("english").stemWord, stop_words.ENGLISH)

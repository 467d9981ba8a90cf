"""Stems of words in languages other than English, indexed in addition to the words.

All languages share one index, and every text is in it by the rules of `words`: an exact word, a
number, a name or a code is found whatever the languages of question and block. A block whose
language is known also has the stems of that language, and a question searches for those of the
languages it may be in. Stems and words are distinct terms: a Finnish stem finds no English word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Final

import snowballstemmer

from luma_memory.pipeline.text.words import MARKS, fold

# ISO 639-1 to the Snowball project's algorithms; English is stemmed everywhere.
_ALGORITHMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ar": "arabic",
        "ca": "catalan",
        "cs": "czech",
        "da": "danish",
        "de": "german",
        "el": "greek",
        "es": "spanish",
        "et": "estonian",
        "eu": "basque",
        "fa": "persian",
        "fi": "finnish",
        "fr": "french",
        "hi": "hindi",
        "hu": "hungarian",
        "hy": "armenian",
        "id": "indonesian",
        "it": "italian",
        "lt": "lithuanian",
        "nl": "dutch",
        "no": "norwegian",
        "pl": "polish",
        "pt": "portuguese",
        "ro": "romanian",
        "ru": "russian",
        "sr": "serbian",
        "sv": "swedish",
        "ta": "tamil",
        "tr": "turkish",
    }
)
LANGUAGES: Final[Sequence[str]] = tuple(_ALGORITHMS)
# No word begins with it: stems never match words.
_MARK: Final = "~"
_LENGTH_MIN: Final = 3
_LENGTH_MAX: Final = 64
_CACHED_STEMS: Final = 16_384
_LETTERS: Final = re.compile(rf"(?:[^\W\d_]|[{MARKS}])+")


def stems(text: str, language: str) -> Iterator[str]:
    """The stems of a text's words, in order; none for English and languages without rules."""
    if language not in _ALGORITHMS:
        return
    for word in _LETTERS.findall(text):
        if _LENGTH_MIN <= len(word) <= _LENGTH_MAX:
            yield _stem(word, language)


@lru_cache(maxsize=_CACHED_STEMS)
def _stem(word: str, language: str) -> str:
    """Accents are folded after stemming: the stemmer needs them."""
    return _MARK + fold(_stemmer(language)(unicodedata.normalize("NFC", word).lower()))


@cache
def _stemmer(language: str) -> Callable[[str], str]:
    stem: Callable[[str], str] = snowballstemmer.stemmer(_ALGORITHMS[language]).stemWord
    return stem

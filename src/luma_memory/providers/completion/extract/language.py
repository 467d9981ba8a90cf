"""Language identification."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from threading import Lock

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from luma_memory.providers.completion.extract.vocabulary import LANGUAGES, vocabulary

UNDETERMINED = "und"
READ_CHARS = 240
# Below this the model's best guess is wrong too often to be reported.
MIN_CONFIDENCE = 0.5
MIN_LETTERS = 8
# Short lines of names and nouns look like a related language: "Dinner at 8" is not Norwegian.
SHORT_LETTERS = 30
MIN_CONFIDENCE_SHORT = 0.75
# Chinese and Japanese share characters: a name or a place is not more of one than of the other.
MIN_CONFIDENCE_FEW_HAN = 0.9
FEW_HAN = 8
DEFAULT_LANGUAGE = "en"

# Languages many people write in. Among all 140 of the model, short English lines come out as
# Malagasy or Breton.
_CANDIDATES = [
    *LANGUAGES, "sv", "da", "no", "fi", "is", "pl", "cs", "sk", "hu", "ro", "bg", "el", "ru", "uk",
    "sr", "hr", "sl", "mk", "lt", "lv", "et", "tr", "ar", "fa", "ur", "he", "hi", "bn", "ta", "te",
    "th", "vi", "id", "ms", "ja", "ko", "zh", "ca", "eu", "gl", "ka", "hy", "az", "kk", "sw", "af",
]  # fmt: skip
# The most common first.
CYRILLIC_LANGUAGES = ("ru", "uk", "bg", "sr", "mk", "kk")
_CYRILLIC = re.compile(r"[\u0400-\u052f]")
_KANA = re.compile(r"[\u3040-\u30ff]")
ENGLISH_WORDS_MIN = 2
# A letter alone is a word of too many languages ("a", "i") to identify one.
_ASCII_WORD = re.compile(r"[a-z]{2,}")
_DIGIT = re.compile(r"\d")
_LETTERS = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_load_lock = Lock()


@dataclass(frozen=True, slots=True)
class Identified:
    """`reported` is ISO 639-1 or "und"; `assumed` is the best guess, used to analyze it."""

    reported: str
    assumed: str


def identify(text: str) -> Identified:
    """The language of the text's beginning; "und" where it is too short or too mixed."""
    sample = text[:READ_CHARS]
    if _is_plainly_english(sample):
        return Identified("en", "en")
    letters = len(_LETTERS.findall(sample))
    if letters == 0:
        return Identified(UNDETERMINED, DEFAULT_LANGUAGE)
    language, confidence = _identifier().classify(sample)
    if letters < _min_letters(sample) or confidence < _min_confidence(language, letters, sample):
        return Identified(UNDETERMINED, _assumed_language(language, confidence, sample))
    if letters < SHORT_LETTERS and language in LANGUAGES and not _known(sample, language):
        return Identified(language, _by_words(sample, language))
    return Identified(language, language)


def warm_up() -> None:
    """Load the model (about a second, once per process) ahead of the first text."""
    _identifier()


def _is_plainly_english(sample: str) -> bool:
    """Enough words that are function words of English and of no other language known here.

    A few that another language claims do no harm: "me", "die" and "was" are words of several. Half
    as many do: "Ticket to the Moon gekauft, Album von ELO".

    Most blocks are identified by this, at a tenth of the model's cost. Only English, because other
    languages share their function words with related ones (Dutch with Afrikaans).
    """
    if not sample.isascii():
        return False
    words = set(_ASCII_WORD.findall(sample.lower()))
    english, foreign = _function_words()
    own = len(words & english)
    return own >= ENGLISH_WORDS_MIN and 2 * len(words & foreign) < own


@cache
def _function_words() -> tuple[frozenset[str], frozenset[str]]:
    """Function words of English alone, and of the other languages but not of English."""
    english = vocabulary("en").stop
    others = frozenset[str]().union(*(vocabulary(code).stop for code in LANGUAGES if code != "en"))
    return english - others, others - english


def _assumed_language(language: str, confidence: float, sample: str) -> str:
    """A few Cyrillic words are doubtful among neighbors, but certainly not English."""
    if 2 * len(_CYRILLIC.findall(sample)) > len(_LETTERS.findall(sample)):
        return language if language in CYRILLIC_LANGUAGES else CYRILLIC_LANGUAGES[0]
    if not _is_latin(sample):
        return language
    guess = language if language in LANGUAGES and confidence > 0.2 else DEFAULT_LANGUAGE
    return _by_words(sample, guess)


def _by_words(sample: str, guess: str) -> str:
    """The language whose times a short text names, if it knows more of the words than the guess.

    "Anfang Mai 2025", "a Natale": too few letters for the model, but the words of one language.
    """
    words = set(_WORD.findall(sample.lower()))
    known = {
        code: _known(sample, code)
        for code in LANGUAGES
        if _DIGIT.search(sample) or not words.isdisjoint(_time_words(code))
    }
    best = max(known, key=lambda code: known[code], default=guess)
    return best if _known(sample, best) > _known(sample, guess) else guess


def _known(sample: str, code: str) -> int:
    """How many of its distinct words are function words or times of a language."""
    words = set(_WORD.findall(sample.lower()))
    return len(words & (vocabulary(code).stop | _time_words(code)))


@cache
def _time_words(code: str) -> frozenset[str]:
    """The names of days, months and other times."""
    dates = vocabulary(code).dates
    if dates is None:
        return frozenset()
    names = " ".join([dates.triggers, *dates.months, *dates.weekdays])
    return frozenset(re.split(r"[ |]", names))


def _min_letters(sample: str) -> int:
    """Two characters identify a script that belongs to one language."""
    return MIN_LETTERS if _is_latin(sample) else 2


def _min_confidence(language: str, letters: int, sample: str) -> float:
    """Related languages share a script: Russian and Bulgarian, Arabic and Persian."""
    if language in ("zh", "ja") and letters < FEW_HAN and not _KANA.search(sample):
        return MIN_CONFIDENCE_FEW_HAN
    doubtful = language not in LANGUAGES and letters < SHORT_LETTERS
    return MIN_CONFIDENCE_SHORT if doubtful else MIN_CONFIDENCE


def _is_latin(sample: str) -> bool:
    return sample.isascii() or max(_LETTERS.findall(sample), default="") < "\u0370"


def _identifier() -> LanguageIdentifier:
    # The lock prevents two concurrent first texts from loading the model twice.
    with _load_lock:
        return _loaded()


@cache
def _loaded() -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(sorted(set(_CANDIDATES) & set(identifier.labels)))
    return identifier

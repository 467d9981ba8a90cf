"""The words and short phrases a text is about.

A word counts by its rarity in the language, by how often and how early it occurs in the text, and
by being written as a name. Adjacent words that both count make a phrase. Words of one stem
count as one and are shown as they are written most often. Rarity keeps "good time" out, which the
statistics of a single short text (YAKE) cannot.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import Stemmer

from luma_memory.providers.completion.extract.document import Document, Word

MAX_TAGS = 10
MAX_TAG_CHARS = 60
# A single common word ("school", "family") is not specific; with another one it is a subject.
MIN_WEIGHT = 1.2
MIN_PHRASE_WORDS = 2
MAX_PHRASE_WORDS = 3
_WORDS_PER_TAG = 4
_NAME_FACTOR = 1.25
_WEAK_FACTOR = 0.45
_PHRASE_FACTOR = 0.45

_stemmers = threading.local()  # a stemmer is not safe to share between threads


class Scored(NamedTuple):
    """A candidate as it will be shown, its stems and its score."""

    text: str
    stems: tuple[str, ...]
    score: float


def keywords(document: Document) -> list[str]:
    """Up to 10 tags in lower case, best first, no word's stem twice alone."""
    content = [word for word in document.words if word.weight > 0.0]
    if not content:
        return []
    limit = min(MAX_TAGS, 2 + len(content) // _WORDS_PER_TAG)
    stems = _stems(document.language, content)
    singles = _singles(document, content, stems)
    candidates = [*singles.values(), *_phrases(document, content, stems, singles)]
    return [candidate.text for candidate in _distinct(candidates, limit)]


def _singles(
    document: Document, content: Sequence[Word], stems: Sequence[str]
) -> dict[str, Scored]:
    """One candidate a stem."""
    forms: dict[str, dict[str, int]] = {}
    best: dict[str, float] = {}
    for word, stem in zip(content, stems, strict=True):
        count = forms.setdefault(stem, {})
        count[word.base] = count.get(word.base, 0) + 1
        score = _word_score(document, word)
        if score > best.get(stem, 0.0):
            best[stem] = score
    return {
        stem: Scored(
            max(count, key=count.__getitem__),  # the first of those written as often
            (stem,),
            best[stem] * (1.0 + math.log(sum(count.values()))),
        )
        for stem, count in forms.items()
    }


def _word_score(document: Document, word: Word) -> float:
    score = word.weight / (1.0 + 0.05 * word.sentence)
    if word.text[0].isupper() and word.start != document.sentences[word.sentence].start:
        score *= _NAME_FACTOR
    if word.base.endswith(document.vocabulary.weak_suffixes):
        score *= _WEAK_FACTOR
    return score


def _phrases(
    document: Document,
    content: Sequence[Word],
    stems: Sequence[str],
    singles: dict[str, Scored],
) -> Iterator[Scored]:
    """Runs of two or three words that count; frequent runs score higher."""
    counts: Counter[tuple[str, ...]] = Counter()
    shown: dict[tuple[str, ...], str] = {}
    for first, last in _runs(document, content):
        run = tuple(stems[first:last])
        counts[run] += 1
        shown.setdefault(run, " ".join(word.base for word in content[first:last]))
    for run, count in counts.items():
        scores = sorted((singles[stem].score for stem in run), reverse=True)
        score = scores[0] + _PHRASE_FACTOR * sum(scores[1:])
        yield Scored(shown[run], run, score * (1.0 + 0.5 * math.log(count)))


def _runs(document: Document, content: Sequence[Word]) -> Iterator[tuple[int, int]]:
    """[first, last) of adjacent words that count, with only a space between them."""
    first = 0
    for index in range(1, len(content) + 1):
        if index < len(content) and _adjacent(document, content[index - 1], content[index]):
            continue
        yield from _bounded(first, index)
        first = index


def _bounded(first: int, last: int) -> Iterator[tuple[int, int]]:
    """A long run is a list, or a name without function words around it: take its pairs."""
    length = last - first
    if MIN_PHRASE_WORDS <= length <= MAX_PHRASE_WORDS:
        yield first, last
    elif length > MAX_PHRASE_WORDS:
        yield from ((start, start + 2) for start in range(first, last - 1))


def _adjacent(document: Document, left: Word, right: Word) -> bool:
    if right.start - left.end != 1 or document.text[left.end] != " ":
        return False
    # A verb in -ed or an adverb in -ly neither starts nor continues a noun phrase.
    return not left.base.endswith(document.vocabulary.weak_suffixes)


def _distinct(candidates: Iterable[Scored], limit: int) -> list[Scored]:
    """Best first; no word is shown twice, alone or in phrases."""
    chosen: list[Scored] = []
    covered: set[str] = set()
    texts: set[str] = set()
    for candidate in sorted(candidates, key=lambda c: (-c.score, c.text)):
        if candidate.score < MIN_WEIGHT or len(candidate.text) > MAX_TAG_CHARS:
            continue
        if candidate.text in texts or not covered.isdisjoint(candidate.stems):
            continue
        chosen.append(candidate)
        covered.update(candidate.stems)
        texts.add(candidate.text)
        if len(chosen) == limit:
            break
    return chosen


def _stems(language: str, words: Sequence[Word]) -> list[str]:
    stemmer = _stemmer(language)
    bases = [word.base for word in words]
    if stemmer is None:
        return bases
    stems: list[str] = stemmer.stemWords(bases)
    return stems


def _stemmer(language: str) -> Any:
    known: dict[str, Any] = _stemmers.__dict__.setdefault("by_language", {})
    if language not in known:
        try:
            known[language] = Stemmer.Stemmer(language)
        except KeyError:
            known[language] = None
    return known[language]

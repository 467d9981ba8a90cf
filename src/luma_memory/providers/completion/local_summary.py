"""Weekly summaries without a model: the most important sentences of the week, with their sources.

In the language of the blocks: the summary quotes them, and lists new and continued topics.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from luma_memory.domain.summary import Draft, Item, MarkedSentence, SummaryRequest

NAME: Final = "local-weekly/1"
_HIGHLIGHTS_MAX: Final = 8
_TEXT_SENTENCES_MAX: Final = 5
_SENTENCE_CHARACTERS_MAX: Final = 300
_TOPICS_MAX: Final = 5
# A sentence that shares more of its words than this with a chosen one is a repetition.
_SAME_SHARE: Final = 0.6
_SENTENCE: Final = re.compile(r".+?(?:[.!?…。！？]+(?=\s|$)|$)", re.DOTALL)
_WORD: Final = re.compile(r"\w{2,}")


class LocalSummarizer:
    """`ports.models.Summarizer`. Pure, runs in a thread, never fails."""

    @property
    def name(self) -> str:
        return NAME

    async def summarize(self, request: SummaryRequest) -> Draft:
        return await asyncio.to_thread(draft, request)

    async def close(self) -> None:
        """Holds no resources."""


def draft(request: SummaryRequest) -> Draft:
    """Deterministic for a request."""
    sentences = [_lead(item) for item in request.items]
    words = [frozenset(_WORD.findall(sentence.casefold())) for sentence in sentences]
    spread = Counter(word for some in words for word in some)
    order = sorted(
        range(len(sentences)), key=lambda n: (-_weight(request.items[n], words[n], spread), n)
    )
    chosen: list[int] = []
    sources: dict[int, list[int]] = {}
    for number in order:
        if not sentences[number]:
            continue
        same = next((kept for kept in chosen if _is_same(words[number], words[kept])), None)
        if same is not None:
            sources[same].append(number + 1)
        elif len(chosen) < _HIGHLIGHTS_MAX:
            chosen.append(number)
            sources[number] = [number + 1]
    highlights = [
        MarkedSentence(_attributed(request.items[n], sentences[n]), sources[n]) for n in chosen
    ]
    first = sorted(chosen[:_TEXT_SENTENCES_MAX])
    text = "\n".join(_attributed(request.items[n], sentences[n]) for n in first)
    return Draft(text, highlights, _comparison(request))


def _lead(item: Item) -> str:
    """The first sentence of at least three words, on one line."""
    for match in _SENTENCE.finditer(item.text[:4_000]):
        line = " ".join(match[0].split())
        if len(_WORD.findall(line)) >= 3:
            return line[:_SENTENCE_CHARACTERS_MAX]
    return " ".join(item.text[:_SENTENCE_CHARACTERS_MAX].split())


def _attributed(item: Item, sentence: str) -> str:
    return f"{item.speaker}: {sentence}" if item.speaker else sentence


def _weight(item: Item, words: frozenset[str], spread: Counter[str]) -> float:
    """Importance, raised for recurring topics of the week."""
    if not words:
        return 0.0
    returns = sum(min(spread[word] - 1, 4) for word in words) / len(words)
    return item.importance + 0.05 * returns


def _is_same(one: frozenset[str], other: frozenset[str]) -> bool:
    smaller = min(len(one), len(other))
    return bool(smaller) and len(one & other) / smaller > _SAME_SHARE


def _comparison(request: SummaryRequest) -> str | None:
    """Topics that the week before did not mention: +, and those that both mention: =."""
    if request.before is None:
        return None
    topics = Counter(tag for item in request.items for tag in item.tags)
    before = request.before.casefold()
    names = [name for name, _ in topics.most_common(4 * _TOPICS_MAX)]
    new = [name for name in names if name.casefold() not in before][:_TOPICS_MAX]
    continued = [name for name in names if name.casefold() in before][:_TOPICS_MAX]
    return _signed("+", new, _signed("=", continued, "")) or None


def _signed(sign: str, names: Sequence[str], rest: str) -> str:
    own = f"{sign} {', '.join(names)}" if names else ""
    return "; ".join(part for part in (own, rest) if part)

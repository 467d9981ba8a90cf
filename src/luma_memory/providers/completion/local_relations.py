"""Relations without a model: repetitions, next turns, shared names, updates in closed forms.

An update is a later statement of the same speaker that proves that an earlier one no longer holds
(`local_updates`). It removes a block from recall, so both blocks must be one plain
sentence each: nothing else is lost with the earlier one, and nothing takes the later one back.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Final

from luma_memory.domain.relation import (
    Candidate,
    Finding,
    Findings,
    RelationBlock,
    RelationRequest,
    RelationType,
)
from luma_memory.providers.completion.extract.dates import dates
from luma_memory.providers.completion.extract.document import read
from luma_memory.providers.completion.extract.foreign_tense import tense
from luma_memory.providers.completion.extract.language import identify
from luma_memory.providers.completion.local_statements import (
    is_about_a_pronoun,
    normalized,
    statement,
)
from luma_memory.providers.completion.local_updates import Update, update
from luma_memory.providers.completion.relation_forms import relation_forms

NAME: Final = "local-rules/2"
_TEXT_CHARACTERS_MAX: Final = 4_000
_RELATED_SIMILARITY: Final = 0.45
_RELATED_MAX: Final = 3
# Below the confidence from which a contradiction takes the earlier block out of recall.
_CONTRADICTS_CONFIDENCE: Final = 0.65
_SUPERSEDES_CONFIDENCE: Final = 0.85
# A short reply means something different for each question; Chinese has no spaces to count words
# by.
_REPEATED_WORDS_MIN: Final = 3
_REPEATED_LETTERS_MIN: Final = 6
_WORD: Final = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_SHORT_REPLIES: Final = frozenset(
    ["yes", "no", "yeah", "nope", "ok", "okay", "sure", "ja", "nein", "oui", "non", "si", "sí"]
)
# In a password or a key every character counts, including the last one.
_SECRET: Final = re.compile(
    r"pass(?:word|wort|phrase)|passwort|mot de passe|contraseña|\b(?:pin|code|key|token|secret)\b",
    re.IGNORECASE,
)
# Languages that short texts of another one are taken for.
_RELATED_LANGUAGES: Final = {"uk": "ru", "bg": "ru"}
_FINAL_MARK: Final = re.compile(r"(?<=[^\W\d_])(?:\.|!|。)$")


class LocalRelator:
    """`ports.models.Relator`. Pure; never fails. The rules run in a thread: the first text loads
    word lists."""

    @property
    def name(self) -> str:
        return NAME

    async def relate(self, request: RelationRequest) -> Findings:
        return Findings(await asyncio.to_thread(lambda: list(find(request))))

    async def close(self) -> None:
        """No resources to free."""


def find(request: RelationRequest) -> Iterator[Finding]:
    """At most one relation per candidate."""
    related = 0
    for number, candidate in enumerate(request.candidates, 1):
        finding = _between(request.block, candidate, number)
        if finding is None:
            continue
        related += finding.type == "related"
        if finding.type != "related" or related <= _RELATED_MAX:
            yield finding


def _between(block: RelationBlock, candidate: Candidate, number: int) -> Finding | None:
    other = candidate.block
    if block.speaker == other.speaker:
        if _is_repeated(block, other):
            return _finding(number, "duplicates", 0.95, _head(block), _head(other))
        if (found := _updated(block, other)) is not None:
            confidence = (
                _SUPERSEDES_CONFIDENCE if found == "supersedes" else _CONTRADICTS_CONFIDENCE
            )
            return _finding(number, found, confidence, _head(block), _head(other))
    if candidate.is_previous:
        return _finding(number, "follows", 0.6, _head(block), _head(other))
    name = _shared_name(block, other)
    if name is not None and (candidate.similarity or 0.0) >= _RELATED_SIMILARITY:
        confidence = min(0.9, 0.4 + (candidate.similarity or 0.0) / 2)
        return _finding(number, "related", confidence, *name)
    return None


def _finding(
    number: int, kind: RelationType, confidence: float, block_quote: str, candidate_quote: str
) -> Finding:
    return Finding(number, kind, True, confidence, block_quote, candidate_quote)


def _is_repeated(block: RelationBlock, other: RelationBlock) -> bool:
    """Whether both are equal: the same characters, about the same days."""
    text = _plain(block)
    if text != _plain(other):
        return False
    words = [word.casefold() for word in _WORD.findall(text)]
    letters = sum(len(word) for word in words)
    is_spaced = " " in text
    if letters < _REPEATED_LETTERS_MIN or (is_spaced and len(words) < _REPEATED_WORDS_MIN):
        return False
    is_one_session = block.session_id is not None and block.session_id == other.session_id
    if not is_one_session and (is_about_a_pronoun(words) or words[0] in _SHORT_REPLIES):
        return False
    return _means_the_same_days(block, other)


def _plain(block: RelationBlock) -> str:
    text = normalized(block.content, block.speaker)
    if _SECRET.search(text[:_TEXT_CHARACTERS_MAX]) is None:
        text = _FINAL_MARK.sub("", text)
    return text[:1].lower() + text[1:]


def _means_the_same_days(block: RelationBlock, other: RelationBlock) -> bool:
    """ "Lunch with Sam today", said on two days, means two lunches, and "Ran 5 km" two runs."""
    if block.occurred_at == other.occurred_at:
        return True
    text = normalized(block.content, block.speaker)[:_TEXT_CHARACTERS_MAX]
    is_deictic = _is_deictic(text)
    is_one_day = block.occurred_at.date() == other.occurred_at.date()
    if is_deictic or is_one_day:
        return is_one_day and (is_deictic or _is_lasting(text))
    document = read(text, identify(text).assumed)
    one, two = (dates(document, at) for at in (block.occurred_at, other.occurred_at))
    if one != two or not all(mention.value is not None for mention in one):
        return False
    return bool(one) or _is_lasting(text)


def _is_lasting(text: str) -> bool:
    """Whether the text describes a lasting state, and not an event or a passing condition."""
    forms = relation_forms()
    language = identify(text).assumed
    language = _RELATED_LANGUAGES.get(language, language)
    lasting, event = forms.lasting.get(language), forms.events.get(language)
    if lasting is None or lasting.search(text) is None or tense(text, language) == "past":
        return False
    if event is not None and event.search(text) is not None:
        return False
    return forms.momentary.isdisjoint(word.casefold() for word in _WORD.findall(text))


def _is_deictic(text: str) -> bool:
    """Whether the text depends on the time it is written ("in two hours", "the other day")."""
    forms = relation_forms()
    words = {part for word in _WORD.findall(text.casefold()) for part in (word, *word.split("'"))}
    return not forms.deictic.isdisjoint(words) or any(part in text for part in forms.deictic_parts)


def _updated(block: RelationBlock, other: RelationBlock) -> Update | None:
    older, newer = sorted((block, other), key=lambda one: one.place)
    before, after = (statement(one.content, one.speaker) for one in (older, newer))
    if before is None or after is None:
        return None
    return update(
        after, before, newer_day=newer.occurred_at.date(), older_day=older.occurred_at.date()
    )


def _shared_name(one: RelationBlock, other: RelationBlock) -> tuple[str, str] | None:
    names = {
        entity.name.casefold(): entity.name
        for entity in other.entities
        if entity.kind not in ("date", "number", "link")
    }
    for entity in one.entities:
        if entity.name.casefold() in names:
            return entity.name, names[entity.name.casefold()]
    return None


def _head(block: RelationBlock) -> str:
    return block.content[:160]

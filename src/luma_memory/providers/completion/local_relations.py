"""Relations without a model: repetitions, next turns, shared subjects, plain updates in English.

An update is a later statement of the same speaker about the same thing, with words that say that
something changed ("moved", "no longer", "now", "quit") or about something there is one of (where
somebody lives, works; "my favourite …"). Rules rather miss one than make one up: what they find
takes a block out of recall.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from luma_memory.domain.relation import (
    Candidate,
    Finding,
    Findings,
    RelationBlock,
    RelationRequest,
    RelationType,
)

NAME: Final = "local-rules/1"
_TEXT_CHARACTERS_MAX: Final = 4_000
_SAME_SIMILARITY: Final = 0.93
_RELATED_SIMILARITY: Final = 0.45
_RELATED_MAX: Final = 3
_SHARED_WORDS: Final = 0.5

# A name or a thing: up to where the clause goes on.
_ON: Final = (
    r"and |but |because |with |for |since |now\b|in |at |last |this |so |where |which |to |from "
    r"|as |on |after |before |anymore|any more|these "
)
_VALUE: Final = rf"(?P<value>(?:the |an? )?[\w'’.&-]+(?: (?!{_ON})[\w'’.&-]+){{0,3}})"
_I: Final = (
    r"\b(?:i|we)(?:'m| am|'ve| have|'re| are)?"
    r"(?: just| recently| finally| now| currently| still| already| also)?"
)


@dataclass(frozen=True, slots=True)
class _Statement:
    """Somebody's one `subject` is `value`, or (ended) is no longer."""

    subject: str
    value: str
    changed: bool  # in words that say that something changed
    ended: bool
    quote: str


_NOT: Final = r"(?:no longer|don't|do not|not)"
_NOW: Final = r"(?: now| currently)?"
_FROM: Final = r"(?: back)?(?: from [\w'’ -]{2,40}?)?"
_START: Final = r"start(?:ed|ing)(?: a new job| to work| work(?:ing)?)? (?:at|for)"
# What it is about, whether it says that something changed, whether it says that something is over.
_PATTERNS: Final[Sequence[tuple[str, bool, bool, re.Pattern[str]]]] = [
    (subject, changed, ended, re.compile(rf"{_I} {words} {_VALUE}", re.IGNORECASE))
    for subject, changed, ended, words in (
        ("home", False, False, rf"(?:liv(?:e|ing)|resid(?:e|ing)|based|settled){_NOW} in"),
        ("home", True, False, rf"(?:moved|moving|relocated|relocating){_FROM} to"),
        ("home", True, True, rf"{_NOT} liv(?:e|ing) in"),
        ("home", True, True, r"(?:moved|moving) (?:away from|out of)"),
        ("work", False, False, rf"(?:work(?:ing)?|employed){_NOW} (?:at|for|by)"),
        ("work", True, False, rf"(?:joined|joining|{_START})"),
        ("work", True, True, rf"{_NOT} work(?:ing)? (?:at|for)"),
        ("work", True, True, r"(?:quit|left) my (?:job|position) at"),
    )
]
_OWN: Final = re.compile(
    r"\bmy (?P<subject>(?:favou?rite )?[\w'’-]+(?: (?!is\b|was\b|are\b)[\w'’-]+){0,2}?) "
    r"(?P<verb>is(?: now| no longer)?|changed(?: from [\w'’ -]{1,40}?)? to) " + _VALUE,
    re.IGNORECASE,
)
# There is one of it, so a second one takes its place without saying so.
_SINGLE: Final = re.compile(
    r"^(?:favou?rite .+|(?:phone|mobile) number|e-?mail(?: address)?|address|name|surname|job|"
    r"(?:new )?home|hometown|employer|boss|password|birthday|diet|budget|wife|husband|partner)$",
    re.IGNORECASE,
)
_ENDED: Final = re.compile(
    r"\b(?:no longer|not? (?:\w+ ){0,4}any ?more|stopped|gave up|given up|quit|cancel(?:l?ed)?"
    r"|(?:don't|doesn't|do not|does not|can't|won't) (?:\w+ ){1,5}any ?more|used to)\b",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[^\W\d_]{3,}|\d+")
_STOP: Final = frozenset(
    re.findall(
        r"[\w']+",
        """the and for are was were has have had that this with from but not you your she her him
        his they them our its i'm i've anymore any more longer now stopped gave given quit used
        don't doesn't does did will would can could just really very about into then than there
        here my""",
    )
)


class LocalRelator:
    """`ports.models.Relator`. Pure; never fails."""

    @property
    def name(self) -> str:
        return NAME

    async def relate(self, request: RelationRequest) -> Findings:
        return Findings(list(find(request)))

    async def close(self) -> None:
        """Nothing is held."""


def find(request: RelationRequest) -> Iterator[Finding]:
    """At most one relation a candidate."""
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
    same_speaker = block.speaker == other.speaker
    if same_speaker and _is_same(candidate, block):
        return _finding(number, "duplicates", 0.95, _head(block), _head(other))
    if same_speaker and (quotes := _update(block, other)) is not None:
        return _finding(number, "supersedes", 0.85, *quotes)
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


def _is_same(candidate: Candidate, block: RelationBlock) -> bool:
    one, other = _plain(block.content), _plain(candidate.block.content)
    if one == other:
        return True
    # Vectors of two statements that differ in one name or number are near: the words decide.
    if (candidate.similarity or 0.0) < _SAME_SIMILARITY:
        return False
    return _words(block.content) == _words(candidate.block.content)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _words(text: str) -> frozenset[str]:
    words = frozenset(_WORD.findall(text[:_TEXT_CHARACTERS_MAX].casefold().replace("’", "'")))
    return frozenset(_stem(word) for word in words - _STOP)


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _update(one: RelationBlock, other: RelationBlock) -> tuple[str, str] | None:
    """Words of `one` and of `other` that show that the later of the two is true now."""
    older, newer = sorted((one, other), key=lambda block: block.place)
    found = _changed_statement(newer.content, older.content) or _ended(newer, older)
    if found is None:
        return None
    new_words, old_words = found
    return (new_words, old_words) if newer is one else (old_words, new_words)


def _changed_statement(newer: str, older: str) -> tuple[str, str] | None:
    before = list(_statements(older))
    for after in _statements(newer):
        for was in before:
            if was.subject != after.subject or was.ended:
                continue
            same = was.value.casefold() == after.value.casefold()
            single = was.subject in ("home", "work") or _SINGLE.match(was.subject) is not None
            if (after.ended and same) or (
                not after.ended and not same and (after.changed or single)
            ):
                return after.quote, was.quote
    return None


def _statements(text: str) -> Iterator[_Statement]:
    plain = text[:_TEXT_CHARACTERS_MAX].replace("’", "'")
    for subject, changed, ended, pattern in _PATTERNS:
        for match in pattern.finditer(plain):
            # Places and employers are names: "moved to the next question" is about neither.
            if _value(match)[:1].isupper() and not _is_asked(plain, match):
                yield _Statement(subject, _value(match), changed, ended, _quote(text, match))
    for match in _OWN.finditer(plain):
        if _is_asked(plain, match):
            continue
        verb = match["verb"].casefold()
        yield _Statement(
            re.sub("favour", "favor", match["subject"].casefold()),
            _value(match),
            "now" in verb or "changed" in verb,
            "no longer" in verb,
            _quote(text, match),
        )


def _value(match: re.Match[str]) -> str:
    return re.sub(r"^(?:the|an?) ", "", match["value"].rstrip(".'’-"), flags=re.IGNORECASE)


def _is_asked(text: str, match: re.Match[str]) -> bool:
    """A question, a wish or a condition states nothing."""
    sentence_start = max(text.rfind(sign, 0, match.start()) for sign in ".!?\n") + 1
    lead = text[sentence_start : match.start()].casefold()
    end = re.search(r"[.!?\n]", text[match.end() :])
    asked = end is not None and end[0] == "?"
    return asked or bool(re.search(r"\b(?:if|when|wish|maybe|might|could|would|should)\b", lead))


def _quote(text: str, match: re.Match[str]) -> str:
    return text[match.start() : match.end()]


def _ended(newer: RelationBlock, older: RelationBlock) -> tuple[str, str] | None:
    """Something the older block says is no longer so: its words, nearly all of them, and an end."""
    end = _ENDED.search(newer.content[:_TEXT_CHARACTERS_MAX].replace("’", "'"))
    if end is None or _ENDED.search(older.content[:_TEXT_CHARACTERS_MAX].replace("’", "'")):
        return None
    was, now = _words(older.content), _words(newer.content)
    if not 2 <= len(was) <= 12 or not 2 <= len(now) <= 20 or older.content.rstrip().endswith("?"):
        return None
    if newer.content.rstrip().endswith("?") or len(was & now) < max(2, _SHARED_WORDS * len(was)):
        return None
    return newer.content[end.start() : end.end()], _head(older)


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

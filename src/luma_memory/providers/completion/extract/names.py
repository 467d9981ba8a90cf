"""People, places, organizations and other names, recognized by capitals and the words around."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import pytz

from luma_memory.domain.enrichment import EntityKind
from luma_memory.providers.completion.extract.date_grammar import grammar
from luma_memory.providers.completion.extract.document import Document, Word
from luma_memory.providers.completion.extract.vocabulary import NameCues

MAX_NAME_WORDS = 5
# German writes every noun with a capital, so there a lone capital proves nothing.
_CAPITALIZED_NOUNS = frozenset({"de", "lb"})
# "SO GOOD" is emphasis, "NASA" a name: frequent words are no acronyms.
_MAX_ACRONYM_CHARS = 6
_RARE_WEIGHT = 3.0
_COMMON_WEIGHT = 1.8
_NOUN_NAME_WEIGHT = 1.9
_MAX_TALK_WORDS = 120
_MAX_OPENING_WORDS = 40
_PRODUCT = re.compile(
    r"[A-Z][a-z]+[A-Z]{2,}|[A-Za-z][a-z]*[A-Z][A-Za-z]*[a-z]\w*|[A-Z][A-Za-z]*-?\d+(?:\.\d+)?\w*"
)
# Spoken to as people are; some are people's names as well.
_ASSISTANTS = frozenset(
    {"siri", "alexa", "cortana", "bixby", "copilot", "chatgpt", "gemini", "claude", "grok"}
)
# Words before a person's name, and before an assistant's: "I asked Alexa", "Danke, Alexa".
_ALSO_OF_ASSISTANTS = frozenset(
    "asked met invited thank named called namens heißt hallo hey hi danke liebe lieber".split()  # noqa: SIM905
)
_APOSTROPHES = frozenset({"'", "’", ""})  # what may follow a lone letter
_VOCATIVE_END = re.compile(r"\s*(?:[.!?,…]|$)")
_JOINERS = frozenset({"of", "de", "del", "della", "di", "da", "do", "von", "van", "der", "la", "&"})
_TITLE_CASE_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Name:
    """A name as written, at [start, end) of the text."""

    text: str
    start: int
    end: int
    kind: EntityKind
    addressed: bool  # addressed, not mentioned: "Thanks, Noor!"


class _Span(NamedTuple):
    words: Sequence[Word]
    first: int  # index of words[0] among the document's words
    last: int
    opens: bool  # words[0] opens its sentence, where everything has a capital


def names(document: Document) -> list[Name]:
    """Names in order of appearance; one name has one kind throughout the text."""
    lower = {word.text for word in document.words if word.text.islower()}
    spans = [span for span in _spans(document) if _is_name(document, span, lower)]
    inner = {word.base for span in spans for word in span.words}
    spans += [
        span
        for span in _opening_spans(document)
        if span.words[0].base in inner or span.words[0].base in _places()
    ]
    kinds = _kinds(document, spans)
    return [
        Name(
            _text(document, span),
            span.words[0].start,
            _end(span),
            kinds[_key(span)],
            addressed=_is_addressed(document, span),
        )
        for span in sorted(spans, key=lambda span: span.first)
    ]


def _spans(document: Document) -> Iterator[_Span]:
    """Runs of capitalized words that do not merely open a sentence."""
    for sentence in document.sentences:
        words = document.words[sentence.first : sentence.last]
        capitals = [index for index, word in enumerate(words) if word.text[0].isupper()]
        ended = document.text[sentence.end - 1] in ".!?"
        if _is_title_case(len(words), len(capitals), ended=ended):
            continue
        past = 0
        for index in capitals:
            length = _run_length(document, words, index) if index >= past else 0
            if length:
                past = index + length
                first = sentence.first + index
                opens = (
                    index == 0 or ":" in document.text[words[index - 1].end : words[index].start]
                )
                if not (opens and _is_label(document, first + length)):
                    yield from _trimmed(document, first, first + length, opens=opens)


def _trimmed(document: Document, first: int, last: int, *, opens: bool) -> Iterator[_Span]:
    """Drop the words of a run that are capitalized only because they open the sentence."""
    if document.language in _CAPITALIZED_NOUNS:
        past = _past_common_nouns(document, first, last)
        opens = opens and past == first
        first = past
    while (
        opens
        and first < last
        and document.words[first].weight < _RARE_WEIGHT
        and not _is_title(document, first)
    ):
        first += 1
        opens = False
    if first < last and not (opens and last - first == 1):
        yield _Span(document.words[first:last], first, last, opens)


def _past_common_nouns(document: Document, first: int, last: int) -> int:
    """ "Schwester Anna" is Anna; "Frau Berger" stays."""
    cues = document.vocabulary.names
    while first < last - 1 and not _is_title(document, first):
        word = document.words[first]
        if word.weight >= _RARE_WEIGHT and word.base not in cues.kin:
            break
        first += 1
    return first


def _is_label(document: Document, last: int) -> bool:
    """ "Error Handling: …" at the front of a line."""
    end = document.words[last - 1].end
    return document.text[end : end + 1] == ":"


def _is_title(document: Document, index: int) -> bool:
    return document.words[index].base in document.vocabulary.names.titles


def _run_length(document: Document, words: Sequence[Word], index: int) -> int:
    """How many words from here on make one name; 0 if none starts here."""
    if not _is_capitalized(words[index]):
        return 0
    length = 1
    while index + length < len(words) and length < MAX_NAME_WORDS:
        step = _next_part(document, words, index + length)
        if not step:
            break
        length += step
    return length


def _next_part(document: Document, words: Sequence[Word], index: int) -> int:
    """1 or 2 further words of the name: "New York", "University of Porto"; 0 where it ends."""
    left, right = words[index - 1], words[index]
    gap = document.text[left.end : right.start]
    if left.text.endswith(("'s", "’s")) or gap not in (" ", ". ", "-", " & "):
        return 0
    if gap == ". " and not (len(left.text) == 1 or left.base in document.vocabulary.names.titles):
        return 0
    if _is_capitalized(right):
        return 1
    follows = index + 1 < len(words) and _is_capitalized(words[index + 1])
    return 2 if right.text in _JOINERS and follows and gap == " " else 0


def _is_capitalized(word: Word) -> bool:
    """ "I", "I'm" and a lone "A" or "O" have their capital for other reasons."""
    text = word.text
    return text[0].isupper() and not (text[0] in "IAO" and text[1:2] in _APOSTROPHES)


def _is_title_case(words: int, capitals: int, *, ended: bool) -> bool:
    """Headings and all caps: there, capitals carry no information. A heading has no period."""
    return words >= (4 if ended else 2) and capitals > _TITLE_CASE_SHARE * words


def _is_name(document: Document, span: _Span, lower: Set[str]) -> bool:
    """`lower`: words the text also writes in lower case: "User" next to "user" is not a name."""
    cues = document.vocabulary.names
    word = span.words[0]
    if all(w.base in lower for w in span.words):
        return False
    if all(
        w.base in cues.never or w.base in _calendar_words(document.language) for w in span.words
    ):
        return False
    if len(span.words) > 1:
        return document.language not in _CAPITALIZED_NOUNS or _is_rare_run(span)
    if word.text.isupper() and len(word.text) > 1:
        return len(word.text) <= _MAX_ACRONYM_CHARS and word.weight >= _RARE_WEIGHT
    if word.weight == 0.0 or _is_numbered(document, span):
        return False
    if document.language in _CAPITALIZED_NOUNS:
        return _has_cue(document, span) or word.base in _places()
    known = word.weight >= _COMMON_WEIGHT or _kind(document, span) != "other"
    return len(word.text) > 1 and known


def _is_numbered(document: Document, span: _Span) -> bool:
    """ "Bay 12", "Step 3" """
    return document.text[_end(span) : _end(span) + 2].strip().isdecimal()


def _is_rare_run(span: _Span) -> bool:
    return all(word.weight >= _RARE_WEIGHT - 0.6 or len(word.text) == 1 for word in span.words)


def _has_cue(document: Document, span: _Span) -> bool:
    """In German: a preceding word that requires a name, and a word rare enough to be one."""
    before = _before(document, span)
    cues = document.vocabulary.names
    named = before in cues.titles or before in cues.kin or before in cues.company
    placed = before in cues.place_before and _is_place(document, span)
    return span.words[0].weight >= _NOUN_NAME_WEIGHT and (named or placed)


def _opening_spans(document: Document) -> Iterator[_Span]:
    for sentence in document.sentences:
        if sentence.first < sentence.last:
            word = document.words[sentence.first]
            if not _is_capitalized(word) or word.weight == 0.0:
                continue
            # Not the first of a longer name: "Paris Hilton", "Mrs Jones", "Georgia O'Keeffe".
            if not _is_followed_by_a_capital(document, word):
                yield _Span([word], sentence.first, sentence.first + 1, opens=True)


def _is_followed_by_a_capital(document: Document, word: Word) -> bool:
    rest = document.text[word.end : word.end + 3]
    if word.base in document.vocabulary.names.titles:
        rest = rest.removeprefix(".")
    return rest[:1] in (" ", "-") and rest[1:2].isupper()


def _kinds(document: Document, spans: Sequence[_Span]) -> dict[str, EntityKind]:
    """The kind most often found for each name; "other" only if none was found."""
    votes: dict[str, dict[EntityKind, int]] = {}
    for span in spans:
        counts, kind = votes.setdefault(_key(span), {}), _kind(document, span)
        counts[kind] = counts.get(kind, 0) + 1
    for counts in votes.values():
        if len(counts) > 1:
            counts.pop("other", None)
    return {key: max(counts, key=counts.__getitem__) for key, counts in votes.items()}


def _kind(document: Document, span: _Span) -> EntityKind:
    cues = document.vocabulary.names
    by_form = _kind_by_form(cues, span)
    if by_form:
        return by_form
    before = _before(document, span)
    if span.words[0].text.isupper() and before not in cues.organization_before:
        return "other"
    if before in cues.organization_before and _works_there(document, span):
        return "organization"
    if _is_assistant(document, span):
        return "other"
    if before in cues.titles or before in cues.kin or _is_addressed(document, span):
        return "person"
    if _after(document, span) in cues.person_after and len(span.words) <= 2:
        return "person"
    return _kind_by_weak_cue(document, span)


def _kind_by_weak_cue(document: Document, span: _Span) -> EntityKind:
    """ "With" and "in" indicate people and places in conversation, not in a manual."""
    cues = document.vocabulary.names
    before = _before(document, span)
    kind: EntityKind
    if before in cues.company:
        kind = "person"
    elif before in cues.place_before and _is_place(document, span):
        kind = "place"
    else:
        return "other"
    is_talk = len(document.words) <= _MAX_TALK_WORDS and not _is_technical(document)
    return kind if is_talk else "other"


def _is_place(document: Document, span: _Span) -> bool:
    """Whether the sentence is about living or traveling somewhere.

    "In" and its translations precede languages, moods and times as well: "in Rust".
    """
    cues = document.vocabulary.names
    if span.words[-1].base.endswith(tuple(cues.place_never)):
        return False
    sentence = document.sentences[span.words[0].sentence]
    words = document.words[sentence.first : sentence.last]
    return any(word.base in cues.place_verbs for word in words)


def _is_assistant(document: Document, span: _Span) -> bool:
    """A program that is addressed by a name; "my sister Alexa" is none."""
    before = _before(document, span)
    cues = document.vocabulary.names
    is_kin = before in cues.titles or (before in cues.kin and before not in _ALSO_OF_ASSISTANTS)
    return len(span.words) == 1 and span.words[0].base in _ASSISTANTS and not is_kin


def _is_technical(document: Document) -> bool:
    """A text with names spelled like "SQLite" or "API" has tools where another has people."""
    return any(
        _PRODUCT.fullmatch(word.text) or (word.text.isupper() and word.weight >= _RARE_WEIGHT)
        for word in document.words
    )


def _kind_by_form(cues: NameCues, span: _Span) -> EntityKind | None:
    """The kind by the name itself: its last word, its first, or its spelling."""
    ends = {span.words[-1].base, span.words[0].base} if len(span.words) > 1 else set()
    if " ".join(word.base for word in span.words) in _places():
        return "place"
    if ends & cues.organization_words:
        return "organization"
    if ends & cues.event_words:
        return "event"
    if ends & cues.place_words:
        return "place"
    if span.words[0].base in cues.titles:
        return "person"
    return "product" if any(_PRODUCT.fullmatch(word.text) for word in span.words) else None


def _works_there(document: Document, span: _Span) -> bool:
    start = max(span.first - 5, 0)
    verbs = document.vocabulary.names.organization_verbs
    near = document.words[start : span.first]
    return any(word.base in verbs for word in near) or any(
        word.base.startswith("join") for word in near[-1:]
    )


def _is_addressed(document: Document, span: _Span) -> bool:
    """Addressed: "Hey Noor!", "That is kind, Noor."."""
    if len(span.words) > 2 or span.words[0].text.isupper():
        return False
    before_text = document.text[max(0, span.words[0].start - 2) : span.words[0].start]
    sentence = document.sentences[span.words[0].sentence]
    ends = _VOCATIVE_END.match(document.text, _end(span)) is not None
    if before_text.startswith(",") and ends and _is_end(document, span):
        return not _is_listed(document, span)
    greeted = _before(document, span) in document.vocabulary.discourse
    return greeted and span.first - sentence.first <= 2


def _is_listed(document: Document, span: _Span) -> bool:
    """One of several ("Redis, Nginx, Docker."), or far into a text: not an address."""
    left = document.words[span.first - 1]
    return span.first > _MAX_OPENING_WORDS or (
        left.text[0].isupper() and left.start != document.sentences[left.sentence].start
    )


def _is_end(document: Document, span: _Span) -> bool:
    """The last word of its sentence, or one before a comma right after its opening words."""
    sentence = document.sentences[span.words[0].sentence]
    return span.last == sentence.last or span.first - sentence.first <= 3


def _before(document: Document, span: _Span) -> str:
    if span.first == 0 or document.words[span.first - 1].sentence != span.words[0].sentence:
        return ""
    left = document.words[span.first - 1]
    gap = document.text[left.end : span.words[0].start]
    return left.base if gap.strip(" .,!") == "" and len(gap) <= 2 else ""


def _after(document: Document, span: _Span) -> str:
    if span.last >= len(document.words):
        return ""
    right = document.words[span.last]
    return right.base if document.text[_end(span) : right.start] == " " else ""


def _text(document: Document, span: _Span) -> str:
    return document.text[span.words[0].start : _end(span)]


def _end(span: _Span) -> int:
    """The end of the name, without a possessive."""
    last = span.words[-1]
    return last.end - 2 if last.text.endswith(("'s", "’s")) else last.end


def _key(span: _Span) -> str:
    return " ".join(word.base for word in span.words)


@cache
def _places() -> frozenset[str]:
    """Countries and large cities, from the time zone database."""
    countries = {re.sub(r"\s*\(.*", "", name).lower() for name in pytz.country_names.values()}
    cities = {
        zone.rsplit("/", 1)[1].replace("_", " ").lower()
        for zone in pytz.common_timezones
        if zone.count("/") and not zone.startswith(("US/", "Canada/"))
    }
    return frozenset(countries | cities) - {"center", "easter", "mayotte"}


@cache
def _calendar_words(language: str) -> frozenset[str]:
    """Months and weekdays are dates, not names."""
    rules = grammar(language)
    return frozenset(rules.triggers) if rules else frozenset()

"""Extract the search terms of a question and classify them.

A question contains identifiers (a code, a version, an order number, a person's name) and ordinary
words. If no passage contains an identifier, the stored texts are about something else, however
similar the rest is. A passage without an ordinary word may simply phrase it differently.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from luma_memory.pipeline.text.function_words import PAIRED_LANGUAGES, function_terms
from luma_memory.pipeline.text.marked import joined_digits, pictograms, unmarked
from luma_memory.pipeline.text.scripts import is_mostly_latin
from luma_memory.pipeline.text.stems import LANGUAGES, stems
from luma_memory.pipeline.text.stop_words import ENGLISH
from luma_memory.pipeline.text.terms import MONTHS, WEEKDAYS, QueryTerm, TermKind
from luma_memory.pipeline.text.words import ANALYZER, DEFAULT_LANGUAGE, term_index

MAX_QUERY_TERMS: Final = 32  # each costs a count over the scope
# Up to this many words, a question of unknown language is stemmed in all languages.
_SHORT_TERMS: Final = 4
# Characters kept of each question in a long text, or else of its first and last line.
_ASKING_WORDS_MAX: Final = 40

_SENTENCE: Final = re.compile(r"[^.!?？؟\n]+(?:[.!](?=\S)[^.!?？؟\n]+)*[.!?？؟]*")
_ORDINAL: Final = re.compile(r"\d+(?:st|nd|rd|th)")
# From so many on, terms that differ in their digits only are a counter of lines.
_COUNTED_MIN: Final = 8
_DIGITS: Final = re.compile(r"\d+")
# "bus 43", "Section C": a number or a letter too short to be an identifier without the word before.
_LABELED: Final = re.compile(
    r"(?<!\w)(?i:bus|tram|line|room|gate|platform|section|chapter|page|part|plan|type|class|group"
    r"|level|floor|phase|vitamin|option|building|terminal|track|seat|row|table|route|exit|step"
    r"|question|exercise|appendix|annex|zone|sector|station|camera|server|node|number|no\.?|nr\.?"
    r"|linie|zimmer|raum|gleis|abschnitt|kapitel|seite|gruppe|klasse|stufe|halle|nummer|teil|typ"
    r"|ligne|salle|quai|chapitre|groupe|classe|numéro|línea|sala|capítulo|página|grupo|clase"
    r"|número|linea|stanza|binario|capitolo|pagina|gruppo|numero|linha|quarto|turma|lijn|kamer"
    r"|spoor|hoofdstuk|groep|deel) (?P<value>\d{1,2}|[A-Z])(?![\w’'-])(?!\.\d)"
)
# "xyz-123" is not found in "abc-123", though both have the number; "mid-2024" is a time.
_CODE: Final = re.compile(r"[^\W\d_]\w*(?:[^\w\s]\w+)*[^\w\s](?!(?:19|20)\d\d\Z)\d[\d.]*")
_CODE_DIGITS_MIN: Final = 3
_YEAR: Final = re.compile(r"(?:19|20)\d\d")
_INSIDE_SENTENCE: Final = re.compile(r"(?<=[\w,;] )[^\W\d_]+(?:['’-][^\W\d_]+)*")
_LATIN_WORD: Final = re.compile("[A-Za-z\u00c0-\u024f]{3,}")
_NAME_LENGTH_MIN: Final = 3
# Capitalized words that are no names: dates, and adjectives of countries ("Italian", "Spanish").
_CALENDAR: Final = frozenset(name.lower() for name in (*WEEKDAYS, *MONTHS))
_ADJECTIVES: Final = ("ish", "ese", "ian", "ean", "can")
# Languages that capitalize all nouns.
_CAPITALIZED_NOUNS: Final = frozenset({"de", "lb"})
_ENGLISH_WORDS_MIN: Final = 2


@dataclass(slots=True)
class _Entry:
    """One distinct term of the question being parsed."""

    frequency: int = 0
    is_direct: bool = False
    is_labeled: bool = False  # an identifier only by what it is beside
    parts: list[str] = field(default_factory=list)  # terms that it covers


def query_terms(
    text: str, *, language: str | None = DEFAULT_LANGUAGE, known: Collection[str] = ()
) -> Sequence[QueryTerm]:
    """The distinct terms of a question, in the order of their first appearance.

    language: ISO 639-1; adds the stems of the words. None: unknown; a short question is then
    stemmed in all languages. known: names that do not count as identifiers, such as the user's own.
    At most MAX_QUERY_TERMS: of a longer text the most selective ones, terms of its questions first.
    Stop words are kept if the question has no other words. Empty if the text has no letter, digit
    or emoji.
    """
    entries = _entries(text)
    chosen = list(entries)
    is_whole = len(chosen) <= MAX_QUERY_TERMS
    if not is_whole:
        chosen = _most_selective(entries, text)
    names = _names(text, language, known) if is_whole else frozenset()
    numbers = {term: number for number, term in enumerate(chosen)}
    found = [_query_term(term, entries[term], numbers, names) for term in chosen]
    found = _naming(found, function_terms(text, language), language)
    if not is_whole:  # a single code of a pasted log is no identifier
        found = [replace(term, kind="word") for term in found]
    return [*found, *_stems_of(text, found, language)][:MAX_QUERY_TERMS]


def _naming(
    found: list[QueryTerm], function_words: Collection[str], language: str | None
) -> list[QueryTerm]:
    """The terms, of which those that name nothing count no longer, if there are others.

    A pair of characters may lie across two words: that no passage has it says nothing.
    """
    by_pairs = language in PAIRED_LANGUAGES

    def names_nothing(term: QueryTerm) -> bool:
        return term.kind == "word" and term.term in function_words

    if not function_words or all(names_nothing(term) or not term.is_direct for term in found):
        return found
    return [
        replace(term, is_direct=False)
        if names_nothing(term)
        else replace(term, is_literal=term.kind == "word" and (not by_pairs or len(term.term) == 1))
        for term in found
    ]


def question_first(text: str) -> str:
    """Move the questions of a long text to its beginning: models read only the beginning."""
    asking = _asking(text)
    return f"{asking}\n{text}" if asking and not text.startswith(asking) else text


def _query_term(
    term: str, entry: _Entry, numbers: dict[str, int], names: Collection[str]
) -> QueryTerm:
    return QueryTerm(
        term,
        term_index(term),
        entry.frequency,
        numbers[term],
        covers=frozenset(numbers[part] for part in entry.parts if part in numbers),
        is_direct=entry.is_direct,
        kind=_kind(term, entry, names) if entry.is_direct else "word",
    )


def _kind(term: str, entry: _Entry, names: Collection[str]) -> TermKind:
    if _is_code(term):
        return "code"
    if term in names:
        return "name"
    return "label" if entry.is_labeled else "word"


def _entries(text: str) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}

    def add(term: str, *, is_direct: bool = True, parts: Sequence[str] = ()) -> None:
        entry = entries.setdefault(term, _Entry())
        entry.frequency += 1
        entry.is_direct = entry.is_direct or is_direct
        entry.parts += parts

    for word in ANALYZER.words(text):
        # "C++" is not "C": a joined word of single letters is searched as a whole.
        is_unit = word.whole is not None and all(len(part) == 1 for part in word.parts)
        if word.whole is not None:
            add(word.whole, is_direct=is_unit, parts=() if is_unit else word.parts)
        for part in word.parts:
            add(part, is_direct=not is_unit)
        if word.whole is not None and _CODE.fullmatch(word.whole) is not None:
            for part in word.parts:
                entries[part].is_labeled = True
    for match in _LABELED.finditer(text):
        for term in ANALYZER.terms(match["value"]):
            if term in entries:
                entries[term].is_labeled = True
    plain = unmarked(text)
    for written, digits in joined_digits(plain):
        groups = ANALYZER.terms(written)
        # "978-3-16-148410-0" without its last digit is another book; a country's code may be left
        # out.
        is_unit = len(groups) > 1 and any(
            len(group) < _CODE_DIGITS_MIN for group in re.findall(r"\d+", written)[1:]
        )
        add(digits, is_direct=is_unit, parts=groups)
        for group in groups if is_unit else ():
            entries[group].is_direct = False
    for pictogram in pictograms(plain):
        add(pictogram)
    labels = {f"^{match['value'].lower()}" for match in _LABELED.finditer(text)}
    for name in ANALYZER.names_of_stop_words(text):
        is_label = name in labels  # "Section A"
        # In capitals it is a name wherever a text has it; "Will" is one inside sentences only.
        is_acronym = re.search(rf"\b{name[1:].upper()}\b", text) is not None and len(name) > 2
        is_all = ENGLISH.issuperset(
            term for term in entries if not term.startswith("^")
        )  # "The Who"
        add(name, is_direct=is_label or is_acronym or is_all)
        entries[name].is_labeled = is_label
        if (is_acronym or is_all) and (same := entries.get(name[1:])) is not None:
            same.is_direct = False  # "IT", a question of this word alone
    return entries


def _is_code(term: str) -> bool:
    """Whether digits make a term an identifier: E0277, 2.3.1, 4711; not a year, 2nd or 30."""
    digits = sum(character.isdigit() for character in term)
    if digits == 0 or _ORDINAL.fullmatch(term) or _YEAR.fullmatch(term):
        return False
    if digits < len(term):
        return True
    return digits >= _CODE_DIGITS_MIN and not (digits > 3 and term.endswith("000"))


def _names(text: str, language: str | None, known: Collection[str]) -> frozenset[str]:
    """Terms of the names in a question.

    A capitalized word inside a sentence is a name, except in headings and in languages that
    capitalize all nouns; so is a Latin word in a question in another script.
    """
    if not is_mostly_latin(text):
        words = [word for word in _LATIN_WORD.findall(text) if word.lower() not in ENGLISH]
        words += [word for word in _INSIDE_SENTENCE.findall(text) if _is_name(word)]
    elif _capitals_are_names(text, language):
        words = [word for word in _INSIDE_SENTENCE.findall(text) if _is_name(word)]
    else:
        words = []
    own = {term for name in known for term in ANALYZER.terms(name)}
    bare = (re.sub(r"['’]s?$", "", word) for word in words)
    return frozenset(term for word in bare for term in ANALYZER.terms(word)) - own


def _is_name(word: str) -> bool:
    lower = word.lower()
    return (
        word[0].isupper()
        and not word.isupper()
        and len(word) >= _NAME_LENGTH_MIN
        and lower not in _CALENDAR
        and not lower.endswith(_ADJECTIVES)
    )


def _capitals_are_names(text: str, language: str | None) -> bool:
    if not any(word[0].islower() for word in re.findall(r"[^\W\d_]{2,}", text)):
        return False  # a heading
    if language is not None:
        return language not in _CAPITALIZED_NOUNS
    return sum(word in ENGLISH for word in text.lower().split()) >= _ENGLISH_WORDS_MIN


def _most_selective(entries: dict[str, _Entry], text: str) -> list[str]:
    """The terms of a long text to search for, in their order.

    Numbered counters ("worker17", "items/17") come last. Terms of its questions come first. Of the
    rest, words rather than bare numbers (times), and rare terms rather than those that each line
    repeats.
    """
    asking = set(_entries(_asking(text)))
    alike: Counter[str] = Counter()
    for term, entry in entries.items():
        alike[_DIGITS.sub("0", term)] += entry.frequency

    def rank(term: str) -> tuple[bool, bool, bool, int, int]:
        is_number = not any(character.isalpha() for character in term)
        frequency = alike[_DIGITS.sub("0", term)]
        is_counter = frequency > max(entries[term].frequency, _COUNTED_MIN)
        shown = min(entries[term].frequency, 4)
        return is_counter, term not in asking, is_number, shown, -min(len(term), 16)

    best = set(sorted(entries, key=rank)[:MAX_QUERY_TERMS])
    return [term for term in entries if term in best]


def _asking(text: str) -> str:
    """The sentences that end with a question mark; else the first and the last line."""
    sentences = [found.strip() for found in _SENTENCE.findall(text)]
    asking = [sentence for sentence in sentences if sentence.endswith(("?", "？", "؟"))]
    if asking:
        return " ".join(_last_words(sentence) for sentence in asking[-4:])
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        lines = sentences or lines
    edges = [lines[0], lines[-1]] if lines else []
    return " ".join(_last_words(edge) for edge in dict.fromkeys(edges))


def _last_words(text: str) -> str:
    return " ".join(text.split()[-_ASKING_WORDS_MAX:])


def _stems_of(text: str, words: Sequence[QueryTerm], language: str | None) -> Sequence[QueryTerm]:
    """The stems of the question's words, each linked to its word."""
    if language is None:
        languages = LANGUAGES if len(words) <= _SHORT_TERMS else ()
    else:
        languages = (language,)
    by_term = {word.term: word for word in words}
    found: dict[str, QueryTerm] = {}
    for raw, word in _single_terms(text, by_term):
        for one in languages:
            for stem in stems(raw, one):
                found.setdefault(stem, replace(word, term=stem, index=term_index(stem)))
    return list(found.values())


def _single_terms(text: str, by_term: dict[str, QueryTerm]) -> Iterator[tuple[str, QueryTerm]]:
    for raw in dict.fromkeys(text.split()):
        terms = ANALYZER.terms(raw)
        word = by_term.get(terms[0]) if len(terms) == 1 else None
        if word is not None:
            yield raw, word

"""The statement of a block that consists of one plain sentence in a closed list of forms.

The rules that use this remove blocks from recall, so any doubt means "no statement": a second
sentence (which could retract the first one, or contain a fact that would be lost with it), a
question, a quotation, a wish, a report of what another person said, a pronoun whose person may have
changed. Sentences are compared as they are written; only an accepted difference (the capital at
the beginning, the final mark, a contraction) is removed. So a different digit, name, sign, unit or
order of words always makes a different statement.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

from luma_memory.providers.completion.relation_forms import relation_forms

CHARACTERS_MAX: Final = 300

_QUOTES: Final = str.maketrans("’‘ʼ“”„«»−", '\'\'\'"""""-')
_SPACE: Final = re.compile(r"\s+")
# One sentence: no mark but the last, unless it is inside a word ("db1.example.com", "2.3.1").
_SENTENCE: Final = re.compile(r"(?P<body>(?:[^\n.!?…;\"()\[\]{}<>*]|\.(?=\S))+?)(?:\.|!{1,3}|。)?")
_LEAD: Final = re.compile(
    r"(?:update|correction|fyi|actually|by the way|news|"
    r"update|korrektur|übrigens|neuigkeit|"
    r"mise à jour|correction|au fait|"
    r"actualización|corrección|por cierto|"
    r"aggiornamento|correzione|a proposito)[:,] ",
    re.IGNORECASE,
)
_CONTRACTIONS: Final = (
    (re.compile(r"\b(?:can't|cannot)\b", re.IGNORECASE), "can not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\b([Ii])'m\b"), r"\1 am"),
    (re.compile(r"\b([Ii]|[Ww]e|[Yy]ou|[Tt]hey)'ve\b"), r"\1 have"),
    (re.compile(r"\b([Ww]e|[Yy]ou|[Tt]hey)'re\b"), r"\1 are"),
    (re.compile(r"\b([Jj])'"), r"\1e "),
)
_WORD: Final = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_ONLY: Final = r"(?!only |just |yet |nur |noch |solo |sólo |seulement |soltanto |solamente )"

# Maps a sentence that something has ended to the sentence that stated it.
_ANYMORE: Final = r" (?:anymore|any more|any longer)"
_HAVING: Final = ("habe", "hat", "haben", "brauche", "braucht", "gibt", "kostet", "verdient")
_NOT_AMOUNT: Final = "".join(rf"(?<!\b{verb})" for verb in _HAVING)
_ENDED: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(.+?) no longer (.+)", r"\1 \2"),
        (rf"(.+?) do not {_ONLY}(.+){_ANYMORE}", r"\1 \2"),
        (rf"(.+?) (am|is|are|can|have|has) not {_ONLY}(.+){_ANYMORE}", r"\1 \2 \3"),
        # "Ich habe nicht mehr Zeit" may be "not more time".
        (rf"(.+?){_NOT_AMOUNT} nicht mehr( .+)?", r"\1\2"),
        (r"(.+?) kein(e|en|em|er|) (.+?) mehr( .+)?", r"\1 ein\2 \3\4"),
        (r"(.+?) kein(?:e|en|em|er|) (.+?) mehr( .+)?", r"\1 \2\3"),
        (r"(.+?) (?:ne |n')(.+?) plus( (?!que |qu').+)?", r"\1 \2\3"),
        (r"(.+ )?ya no (.+)", r"\1\2"),
        (r"(.+ )?non (.+?) più( .+)?", r"\1\2\3"),
    )
)
_DENIED: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"(.+?) do not {_ONLY}(.+)", r"\1 \2"),
        (rf"(.+?) (am|is|are|can|have|has) not {_ONLY}(.+)", r"\1 \2 \3"),
        (rf"(.+?) nicht {_ONLY}(?!mehr)(.+)", r"\1 \2"),
        (r"(.+?) nicht", r"\1"),
        (r"(.+?) kein(e|en|em|er|) (.+)", r"\1 ein\2 \3"),
        (r"(.+?) kein(?:e|en|em|er|) (.+)", r"\1 \2"),
        (rf"(.+?) (?:ne |n')(.+?) pas( {_ONLY}.+)?", r"\1 \2\3"),
        (rf"(.+ )?(?<!ya )no {_ONLY}(.+)", r"\1\2"),
        (rf"(.+ )?non {_ONLY}(.+)", r"\1\2"),
    )
)
_DOES_NOT: Final = re.compile(r"(.+?) does not ([a-z]+)( .+?)?")
_DOES_NO_MORE: Final = re.compile(rf"(.+?) does not ([a-z]+)( .+?)?{_ANYMORE}")
_THIRD_PERSON: Final = {"have": "has", "do": "does", "go": "goes", "be": "is"}
# Spanish and Italian omit the subject: without one, only the first person is certain.
_FIRST_PERSON: Final = re.compile(r"(?:me |mi |yo |io )?(?:[^\W\d_]+o|soy|estoy|voy|ho|sto|do)\b")


def statement(text: str, speaker: str | None) -> str | None:
    """The one plain sentence a text consists of, normalized; None for anything else."""
    written = normalized(text, speaker)
    if len(written) > CHARACTERS_MAX:
        return None
    match = _SENTENCE.fullmatch(_LEAD.sub("", written, count=1))
    if match is None:
        return None
    sentence = match["body"]
    for pattern, expanded in _CONTRACTIONS:
        sentence = pattern.sub(expanded, sentence)
    words = [word.lower() for word in _WORD.findall(sentence)]
    if len(words) < 2 or is_about_a_pronoun(words) or _is_indefinite(sentence, words):
        return None
    if not relation_forms().doubt.isdisjoint(words):
        return None
    return _lower_first(sentence)


def normalized(text: str, speaker: str | None) -> str:
    """Uniform quotation marks, minus signs and spaces, without the speaker's label."""
    signs = unicodedata.normalize("NFC", text).translate(_QUOTES)
    plain = _SPACE.sub(" ", signs).strip()
    return plain.removeprefix(f"{speaker}:").strip() if speaker else plain


def is_about_a_pronoun(words: Sequence[str]) -> bool:
    """Whether the first of these words, in lower case, is ambiguous about who or what is meant.

    "Il" is French for "he" and an Italian article; "il mio" is certain.
    """
    return words[0] in relation_forms().pronouns and tuple(words[:2]) != ("il", "mio")


def _is_indefinite(sentence: str, words: Sequence[str]) -> bool:
    """Whether the subject may differ in another text: "a friend", "2 servers"."""
    return sentence[0].isdigit() or words[0] in relation_forms().indefinite


def was_before(sentence: str) -> Iterator[str]:
    """The sentences that this one declares to be over ("I no longer smoke": "i smoke")."""
    if (match := _DOES_NO_MORE.fullmatch(sentence)) is not None:
        yield f"{match[1]} {_third_person(match[2])}{match[3] or ''}"
    yield from _replaced(_ENDED, sentence)


def denied(sentence: str) -> Iterator[str]:
    """The sentences that this one denies ("port 8080 is not open": "port 8080 is open")."""
    if (match := _DOES_NOT.fullmatch(sentence)) is not None:
        yield f"{match[1]} {_third_person(match[2])}{match[3] or ''}"
    yield from _replaced(_DENIED, sentence)


def _replaced(forms: tuple[tuple[re.Pattern[str], str], ...], sentence: str) -> Iterator[str]:
    for pattern, replacement in forms:
        match = pattern.fullmatch(sentence)
        if match is None:
            continue
        if match.re.pattern.startswith("(.+ )?") and match[1] is None:
            # Nothing precedes the negation: the subject is in the verb.
            rest = match.expand(replacement)
            if _FIRST_PERSON.match(rest) is None:
                continue
        yield match.expand(replacement)


def _third_person(verb: str) -> str:
    if verb in _THIRD_PERSON:
        return _THIRD_PERSON[verb]
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return f"{verb}es"
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return f"{verb[:-1]}ies"
    return f"{verb}s"


def _lower_first(sentence: str) -> str:
    """ "Port" at the beginning is "port"; "USB" and "iPhone" stay."""
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]

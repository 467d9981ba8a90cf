"""Days' names that name something else or no day in particular: "Sunday Oliseh", "a Tuesday".

Applied to a weekday or a day ("tomorrow") with no other date beside it. Where a name is as likely
as a day, it is no day.
"""

from __future__ import annotations

import re
from typing import Final

from luma_memory.providers.completion.extract.document import Document
from luma_memory.providers.completion.extract.vocabulary import Vocabulary

_BEFORE_CHARS: Final = 40
_AFTER_CHARS: Final = 80
# In German every noun is capitalized: a capital proves no name.
_NOUNS_CAPITALIZED: Final = "de"
_WORD_BEFORE: Final = re.compile(r"(?P<word>[^\W\d_][\w'’-]*)(?P<dot>\.?) $")
_CAPITAL_AFTER: Final = re.compile(r" (?P<word>[^\W\d_][\w'’]*)")
_SENTENCE_START: Final = re.compile(r"(?:^|[.!?…:;\n\"'“”«»(\[*>-]\s*)$")
# "on a Tuesday", "one Saturday", "that Monday": of no week in particular.
_INDEFINITE: Final = {
    "en": frozenset({"a", "an", "any", "some", "one", "that", "those", "most", "many"}),
    "de": frozenset({"ein", "einem", "einen", "irgendeinem", "irgendeinen", "jenem", "jenen"}),
    "es": frozenset({"un", "algún", "aquel", "ese"}),
    "fr": frozenset({"un", "quelque"}),
    "it": frozenset({"un", "una", "qualche", "quel"}),
    "pt": frozenset({"um", "uma", "num", "numa", "algum", "alguma", "aquela", "naquela"}),
    "nl": frozenset({"een", "die"}),
}
_OF_ANOTHER_WEEK: Final = re.compile(
    r" (?:of (?:that|the|a|my|our|his|her|their)|jener Woche|de (?:esa|aquella)|di quella"
    r"|daquela|van die)\b",
    re.IGNORECASE,
)
# Words before a weekday that make it a day, whatever follows.
_PLACING: Final = frozenset(
    """
    on last next this by until till since from to before after past coming following of for through
    and or every each the day are is was be it's that's
    am den der zum vom bis ab seit nächsten letzten diesen kommenden
    el del al los este próximo pasado desde hasta para
    le ce du au dès jusqu'à jusqu'au de depuis
    il lo questo scorso prossimo dal al fino entro
    na no nesta neste até à desde próxima última
    op afgelopen komende tot sinds vanaf aanstaande
    """.split()  # noqa: SIM905 (a list of words)
)
# … but not a day with a name behind it: "The Sunday Times", "Who is Wednesday Addams?".
_BEFORE_NAMES: Final = frozenset({"the", "is", "are", "was", "be"})
# "Sunday morning", "Friday I left"; the rest of what may follow a day in capitals.
_NOT_A_NAME_AFTER: Final = frozenset(
    """
    i i'm i'll i've i'd i’m i’ll i’ve i’d morning afternoon evening night noon am pm
    """.split()  # noqa: SIM905 (a list of words)
)
# "Sunday is my uncle": a work, a person or a name, not something that takes place on a day.
_NAMED_THINGS: Final = re.compile(
    r" (?:is|was|es|era|est|était|è|ist|war|é|is een|was een)\b[^.!?\n]{0,60}?\b(?:"
    r"song|album|film|movie|book|novel|newspaper|magazine|band|group|series|show|sitcom|character"
    r"|surname|name|restaurant|company|brand|actor|actress|singer|writer|detective|cat|dog|horse"
    r"|canción|película|libro|novela|periódico|apellido|nombre|cantante|perro|gato|empresa"
    r"|chanson|livre|roman|journal|nom|prénom|chanteuse?|acteur|actrice|chien|chat|entreprise"
    r"|canzone|libro|romanzo|giornale|cognome|nome|cantante|cane|gatto|azienda"
    r"|canção|filme|livro|jornal|sobrenome|cantor|cantora|cachorro|empresa"
    r"|lied|buch|zeitung|nachname|vorname|sänger(?:in)?|hund|katze|firma"
    r"|liedje|boek|krant|achternaam|naam|zanger(?:es)?|hond|bedrijf"
    r")\b",
    re.IGNORECASE,
)
_BEING: Final = re.compile(
    r" (?:is|was|es|era|est|était|è|ist|war|é) (?:my|our|his|her|mi|mon|ma|mia|mio|mein|meine|meu"
    r"|minha|mijn|la mia|il mio|o meu|a minha) (?P<who>\w+)",
    re.IGNORECASE,
)
# "Yesterday by the Beatles", "Wednesday on Netflix", "Sunday roast", "Today show".
_WORK_AFTER: Final = re.compile(
    r" (?:(?-i:by (?:the )?[A-Z])|(?:on|auf|en|sur|su|no|na|op) (?:netflix|disney|prime|amazon"
    r"|hulu|hbo|youtube|spotify|apple)\b|(?:roast|school|best|papers?|league|blues|prayers|driver"
    r"|show)\b)",
    re.IGNORECASE,
)
_QUOTES: Final = ("\"'“‘«„", "\"'”’»“")


def is_name(document: Document, match: re.Match[str]) -> bool:
    """Whether the day alone that `match` found is rather a name, or as likely one, or any day of
    its kind.
    """
    text, (start, end) = document.text, match.span()
    found, after = match[0], text[end : end + _AFTER_CHARS]
    before = text[max(0, start - _BEFORE_CHARS) : start]
    if _is_quoted(before, after) or _WORK_AFTER.match(after) is not None:
        return True
    word_before = _WORD_BEFORE.search(before)
    if "weekday" in match.groupdict() and (
        _OF_ANOTHER_WEEK.match(after) is not None
        or (
            word_before is not None
            and word_before["word"].lower() in _INDEFINITE.get(document.language, ())
        )
    ):
        return True
    words = found.split()
    if found.isupper() or not words[-1][0].isupper():
        return False
    if len(words) > 1:  # "The Day After Tomorrow"
        return all(word[0].isupper() for word in words)
    if word_before is not None and _names_a_person(word_before["word"], document.vocabulary):
        return True
    if _is_a_work_or_person(after, document.vocabulary):
        return True
    if document.language == _NOUNS_CAPITALIZED:
        return False
    word = word_before["word"].lower() if word_before is not None else ""
    # "The Sunday Times" has an article and is no Sunday; "el lunes Ana" is one.
    is_placed = word in _PLACING and word not in _BEFORE_NAMES
    if "weekday" not in match.groupdict():
        # Written small within a sentence, unlike the weekdays of some languages.
        return word_before is not None and not _SENTENCE_START.search(before)
    return _follows_a_name(text, start, word_before, document.vocabulary) or (
        not is_placed and _precedes_a_name(after, document.vocabulary)
    )


def _is_quoted(before: str, after: str) -> bool:
    return before[-1:] in _QUOTES[0] and after[:1] in _QUOTES[1] if before and after else False


def _names_a_person(word: str, words: Vocabulary) -> bool:
    """ "Frau Sonntag", "my uncle Friday"."""
    lowered = word.lower().rstrip(".")
    return lowered in words.names.titles or lowered in words.names.kin


def _is_a_work_or_person(after: str, words: Vocabulary) -> bool:
    if _NAMED_THINGS.match(after) is not None:
        return True
    being = _BEING.match(after)
    return being is not None and _names_a_person(being["who"], words)


def _follows_a_name(text: str, start: int, before: re.Match[str] | None, words: Vocabulary) -> bool:
    """ "Joe Friday", "Freaky Friday", "Crusoe and Friday lived", but not "On Friday"."""
    if before is None or before["dot"]:
        return False
    word = before["word"]
    if word.lower() in ("and", "y", "e", "et", "en"):
        word_before = _WORD_BEFORE.search(
            text, max(0, start - _BEFORE_CHARS), start - len(word) - 1
        )
        return word_before is not None and _is_capitalized_name(word_before["word"], words)
    return _is_capitalized_name(word, words)


def _precedes_a_name(after: str, words: Vocabulary) -> bool:
    following = _CAPITAL_AFTER.match(after)
    return following is not None and _is_capitalized_name(following["word"], words)


def _is_capitalized_name(word: str, words: Vocabulary) -> bool:
    lowered = word.lower()
    if not word[0].isupper() or lowered in _PLACING or lowered in _NOT_A_NAME_AFTER:
        return False
    dates = words.dates
    return dates is None or not any(
        re.fullmatch(rf"(?:{pattern})", lowered)
        for pattern in (*dates.weekdays, "|".join(dates.triggers.split()))
    )

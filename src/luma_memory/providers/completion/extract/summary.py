"""A title line and a summary, both taken from the text itself."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from operator import itemgetter

from luma_memory.providers.completion.extract.document import Document, Sentence, Word
from luma_memory.providers.completion.extract.text import one_line, shorten

TITLE_CHARS = 80
# Up to this length a text is its own summary; a few sentences can hardly be shortened.
WHOLE_TEXT_CHARS = 320
SUMMARY_CHARS = 420
MAX_SUMMARY_CHARS = 600
# For a text without letters: a title must not be empty, and this mark belongs to no language.
BLANK = "…"

_MIN_CLAUSE_CHARS = 24
_SENTENCE_ENDS = '.!?…。！？"”»)'
_CLAUSE = re.compile(r"[,;:–—](?=\s)|\s[-–—]\s|[，；：、]")
_ORDINARY = re.compile(r"[^\W\d_A-Z]+(?:['’][^\W\d_A-Z]+)?[,.!?:;…]?(?:\s|$)")
_OPENING_EDGE = re.compile(r"[\s,;:.!?–—•*#>·…\-)\]]+")
_SENTENCES_READ = 60
_POSITION_DECAY = 0.12
_QUESTION_FACTOR = 0.75
_TITLE_WORDS = 14
_SELF_FACTOR = 1.25
_EVENT_FACTOR = 1.25
_ANAPHORA_FACTOR = 0.75
_FRAGMENT_FACTOR = 0.3


def title(document: Document, heading: str | None = None) -> str:
    """1..80 characters, one line: the heading, else the best line, without its greeting."""
    if heading:
        return shorten(heading, TITLE_CHARS)
    best = max(_title_lines(document), key=itemgetter(0), default=(0.0, ""))[1]
    line = best or one_line(document.text)
    return _capitalized(_cut_line(document, line)) or BLANK


def summary(document: Document, original: str) -> str:
    """1..600 characters: the text itself when short, else its most informative sentences in order.

    original: the block's text, cleaned, with its links and marks.
    """
    whole = one_line(original)
    if len(whole) <= WHOLE_TEXT_CHARS:
        return whole or BLANK
    chosen = _central(document)
    text = " ".join(one_line(document.text[s.start : s.end]) for s in chosen)
    return shorten(text or whole, MAX_SUMMARY_CHARS) or BLANK


def _title_lines(document: Document) -> list[tuple[float, str]]:
    """A score and a line for every informative sentence."""
    lines = []
    for index, sentence in enumerate(document.sentences[:_SENTENCES_READ]):
        words = document.words[sentence.first : sentence.last]
        opening = _opening_length(document, words)
        rest = words[opening:]
        mass = sum([word.weight for word in rest[:_TITLE_WORDS]])
        if mass <= 0.0:
            continue
        mass *= _specificity(document, rest)
        start = rest[0].start if opening else sentence.start
        line = one_line(document.text[start : sentence.end])
        lines.append((_title_score(mass, len(rest), index, line), line))
    return lines


def _specificity(document: Document, words: Sequence[Word]) -> float:
    """More for what the speaker did or plans, less for a comment on previous turns."""
    cues = document.vocabulary.importance
    bases = {word.base for word in words}
    factor = _SELF_FACTOR if not cues.self.isdisjoint(bases) else 1.0
    if not (cues.events.isdisjoint(bases) and cues.commitments.isdisjoint(bases)):
        factor *= _EVENT_FACTOR
    return factor * _ANAPHORA_FACTOR if words[0].base in document.vocabulary.anaphora else factor


def _title_score(mass: float, words: int, index: int, line: str) -> float:
    """Statements, not questions; early rather than late; whole lines rather than fragments."""
    score = mass / math.sqrt(min(max(words, 5), _TITLE_WORDS)) / (1.0 + _POSITION_DECAY * index)
    return score * _QUESTION_FACTOR if line.endswith(("?", "？")) else score


def _opening_length(document: Document, words: Sequence[Word]) -> int:
    """Words of greeting or assent at the front, with the name they address: "Hey Noor, so"."""
    discourse = document.vocabulary.discourse
    length = int(bool(words) and words[0].base in document.vocabulary.conjunctions)
    while length < len(words) and words[length].base in discourse and length < 5:
        if not _is_set_off(document, words, length):
            break
        length += 1
        if length < len(words) and _is_addressed(document, words, length):
            length += 1
    return length


def _is_set_off(document: Document, words: Sequence[Word], index: int) -> bool:
    """Before a comma, another greeting, a name or the end; "Good schools matter" stays whole."""
    if index + 1 >= len(words):
        return True
    gap = document.text[words[index].end : words[index + 1].start]
    follower = words[index + 1]
    greeting = follower.base in document.vocabulary.discourse or follower.text[0].isupper()
    return bool(gap.strip()) or greeting


def _is_addressed(document: Document, words: Sequence[Word], index: int) -> bool:
    """A capitalized word after a greeting, before a comma or the end: "Thanks Noor!"."""
    if not words[index].text[0].isupper() or words[index].text == "I":
        return False
    if index + 1 >= len(words):
        return True
    gap = document.text[words[index].end : words[index + 1].start]
    return bool(gap.strip()) and document.text[words[index - 1].end] in " ,!"


def _cut_line(document: Document, line: str) -> str:
    line = line[_skip(line) :].removeprefix("¡")
    if len(line) > TITLE_CHARS:
        line = _first_clauses(document, line)
    return line.rstrip(" \t,;:.!–—-。！，、") or line


def _skip(line: str) -> int:
    match = _OPENING_EDGE.match(line)
    return match.end() if match and match.end() < len(line) else 0


def _first_clauses(document: Document, line: str) -> str:
    """As many clauses as fit, if they fill a line; else words that fit, with an ellipsis."""
    ends = [m.start() for m in _CLAUSE.finditer(line, 0, TITLE_CHARS)]
    if ends and ends[-1] >= _MIN_CLAUSE_CHARS:
        return line[: ends[-1]]
    return _without_loose_end(document, shorten(line, TITLE_CHARS))


def _without_loose_end(document: Document, line: str) -> str:
    """No small words before the ellipsis: "can have such a…" ends as "can have…"."""
    words = line.removesuffix("…").split(" ")
    stop = document.vocabulary.stop
    while len(words) > 4 and (len(words[-1]) == 1 or words[-1].lower() in stop):
        words.pop()
    return " ".join(words).rstrip(" ,;:-–—") + "…"


def _capitalized(line: str) -> str:
    """First letter in upper case, unless the word is spelled its own way ("iPhone")."""
    upper = line[:1].upper()
    return upper + line[1:] if _ORDINARY.match(line) and len(upper) == 1 else line


def _central(document: Document) -> list[Sentence]:
    """The first informative sentence and those nearest to the whole, about 420 characters."""
    scores = _sentence_scores(document)
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    lead = next((i for i, score in enumerate(scores) if score > 0.0), 0)
    chosen: list[int] = []
    chars_left = SUMMARY_CHARS
    for index in [lead, *(i for i in order if i != lead)]:
        if index >= len(scores) or (chosen and scores[index] <= 0.0):
            break
        length = document.sentences[index].end - document.sentences[index].start
        if not chosen or length <= chars_left:
            chosen.append(index)
            chars_left -= length + 1
    return [document.sentences[i] for i in sorted(chosen)]


def _sentence_scores(document: Document) -> list[float]:
    """Scores by the text's own frequent and rare words in a sentence (Luhn, 1958)."""
    counts = Counter(word.base for word in document.words if word.weight > 0.0)
    scores = []
    for index, sentence in enumerate(document.sentences[:_SENTENCES_READ]):
        words = {
            word.base: word.weight
            for word in document.words[sentence.first : sentence.last]
            if word.weight > 0.0
        }
        mass = sum(weight * math.log1p(counts[base]) for base, weight in words.items())
        length = math.sqrt(max(sentence.last - sentence.first, 6))
        whole = _FRAGMENT_FACTOR if _is_fragment(document, sentence) else 1.0
        scores.append(whole * mass / length / (1.0 + 0.03 * index))
    return scores


def _is_fragment(document: Document, sentence: Sentence) -> bool:
    """A heading, a label or the introduction of a list: no sentence for a summary."""
    return document.text[sentence.end - 1] not in _SENTENCE_ENDS

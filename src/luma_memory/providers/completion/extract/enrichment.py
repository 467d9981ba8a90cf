"""One block's text in, one `Enrichment` out. Pure: same input, same output, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from luma_memory.domain.enrichment import Enrichment, EnrichmentRequest
from luma_memory.providers.completion.extract.amounts import amounts
from luma_memory.providers.completion.extract.date_mention import Mention
from luma_memory.providers.completion.extract.dates import dates
from luma_memory.providers.completion.extract.document import Document, quieted, read
from luma_memory.providers.completion.extract.entities import entities
from luma_memory.providers.completion.extract.importance import importance
from luma_memory.providers.completion.extract.keywords import keywords
from luma_memory.providers.completion.extract.language import identify
from luma_memory.providers.completion.extract.links import blanked, links
from luma_memory.providers.completion.extract.names import Name, names
from luma_memory.providers.completion.extract.summary import summary, title
from luma_memory.providers.completion.extract.text import (
    RAW_HEAD_CHARS,
    clean,
    heading,
    one_line,
    readable,
    shorten,
)

_MAX_SPEAKER_CHARS = 120

# For a block that contains only data.
_BEGINNING_CHARS = 120


def extract(request: EnrichmentRequest, *, model: str) -> Enrichment:
    """Derived facts of one block, for any text at all; never raises.

    Time is bounded: of a long text its head and tail are read (`text.readable`).
    """
    content = _without_speaker(request)
    text = readable(content)
    addresses = links(text)
    prose = blanked(text, addresses)
    language = identify(prose)
    document = read(prose, language.assumed)
    mentioned = dates(document, request.occurred_at)
    taken = [(mention.start, mention.end) for mention in mentioned]
    named = names(document)
    found = entities(named, mentioned, amounts(prose, taken), addresses)
    partners = _partners(named)
    document = quieted(document, partners | _words_of(document, mentioned))
    return Enrichment(
        title=title(document, heading(content) or _beginning(content, text)),
        summary=summary(document, clean(content[:RAW_HEAD_CHARS])),
        tags=tuple(keywords(document)),
        entities=tuple(found),
        importance=importance(document, [e for e in found if e.name.lower() not in partners]),
        language=language.reported,
        model=model,
    )


def _beginning(content: str, read: str) -> str | None:
    """The beginning of a block that contains only data; else None."""
    if not read.isspace() and read:
        return None
    return shorten(one_line(clean(content[:_BEGINNING_CHARS])), _BEGINNING_CHARS // 2) or None


def _partners(named: Sequence[Name]) -> frozenset[str]:
    """Names, in lower case, that are only addressed: a turn is not about its addressee."""
    spoken_of = {name.text.lower() for name in named if not name.addressed}
    return frozenset(name.text.lower() for name in named) - spoken_of


def _words_of(document: Document, mentioned: Sequence[Mention]) -> frozenset[str]:
    """Words of dates: they belong to an entity and are no subject."""
    return frozenset(
        word.base
        for mention in mentioned
        for word in document.words
        if mention.start <= word.start < mention.end
    )


def _without_speaker(request: EnrichmentRequest) -> str:
    """ "Noor: I moved" by Noor is "I moved"; clients often store the turn with its label."""
    speaker = request.speaker
    if not speaker or len(speaker) > _MAX_SPEAKER_CHARS:
        return request.content
    return request.content.removeprefix(f"{speaker}:").lstrip(" ") or request.content

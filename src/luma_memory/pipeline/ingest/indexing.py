"""A block's searchable passages, created identically by ingest and by the worker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from luma_memory.domain.block import PassageText
from luma_memory.domain.errors import SetupError
from luma_memory.pipeline.ingest.passages import split_passages
from luma_memory.pipeline.text.first_person import with_name
from luma_memory.pipeline.text.terms import DEFAULT_LANGUAGE, date_words, document_terms
from luma_memory.ports.models import Embedder


def index_passages(
    content: str,
    *,
    speaker: str | None,
    occurred_at: datetime,
    language: str = DEFAULT_LANGUAGE,
) -> Sequence[PassageText]:
    """The passages of a block with their term vectors; each includes speaker and date as terms.

    language: of the content, once enrichment has detected it.
    """
    context = [date_words(occurred_at.date()), *([speaker] if speaker else [])]
    return [
        PassageText(
            ordinal=ordinal,
            start=passage.start,
            stop=passage.stop,
            lexemes=document_terms(
                content[passage.start : passage.stop], context=context, language=language
            ).to_binary(),
        )
        for ordinal, passage in enumerate(split_passages(content))
    ]


def embedding_text(text: str, embedder: Embedder, *, speaker: str | None) -> str:
    """The text to embed for a passage's text. The speaker is part of its meaning."""
    if names_speakers(embedder):
        text = with_name(text, speaker)
    return spoken(text, speaker=speaker)


def names_speakers(embedder: Embedder) -> bool:
    """Whether its passages have the speaker's name in place of "I"."""
    try:
        return embedder.model.names_speakers
    except SetupError:  # a provider whose dimension is not known yet
        return False


def spoken(text: str, *, speaker: str | None) -> str:
    """The text, prefixed with its speaker."""
    return f"{speaker}: {text}" if speaker else text

"""A block's searchable passages, made the same way at the door and by the worker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from luma_memory.domain.block import PassagePlace, PassageText
from luma_memory.pipeline.ingest.passages import split_passages
from luma_memory.pipeline.text.terms import DEFAULT_LANGUAGE, date_words, document_terms


def index_passages(
    content: str,
    *,
    speaker: str | None,
    occurred_at: datetime,
    language: str = DEFAULT_LANGUAGE,
) -> Sequence[PassageText]:
    """The passages of a block with their term vectors; who spoke, and when, are words of each.

    language: the content's, once enrichment knows it.
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


def embedding_text(content: str, passage: PassagePlace, *, speaker: str | None) -> str:
    """What the embedding model reads of a passage: whose words they are belongs to the meaning."""
    return spoken(content[passage.start : passage.stop], speaker=speaker)


def spoken(text: str, *, speaker: str | None) -> str:
    """A text as somebody's words."""
    return f"{speaker}: {text}" if speaker else text

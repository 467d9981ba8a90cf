"""What models provide: embedding, reranking, enrichment, synthesis, summaries, relations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from luma_memory.domain.context import Synthesis, SynthesisRequest
from luma_memory.domain.enrichment import (
    Embedding,
    EmbeddingModel,
    Enrichment,
    EnrichmentKind,
    EnrichmentRequest,
)
from luma_memory.domain.relation import Findings, RelationRequest
from luma_memory.domain.search import NamedEvent, TimeSpan
from luma_memory.domain.summary import Draft, SummaryRequest


class Embedder(Protocol):
    """Texts in, unit vectors out. Documents and queries have separate doors: some models differ."""

    @property
    def model(self) -> EmbeddingModel: ...

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Embedding]:
        """One embedding a text, in the order of the texts; any number of texts, also none.

        Raises ProviderUnavailable, ProviderTimeout, RateLimited, ProviderRejected or
        ProviderResponseInvalid. Safe to cancel.
        """
        ...

    async def embed_query(self, text: str) -> Embedding:
        """Like `embed_documents`, for the text of a question."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


class Reranker(Protocol):
    """Reads a question and texts together, and says how well each answers it."""

    @property
    def name(self) -> str:
        """Whose scores these are."""
        ...

    async def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """A finite score a text, in the order of the texts; higher is better.

        Raises as `Embedder.embed_documents`. Safe to cancel.
        """
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


class Enricher(Protocol):
    """A block's text in, derived facts out."""

    @property
    def kind(self) -> EnrichmentKind:
        """What blocks enriched here are marked with."""
        ...

    @property
    def name(self) -> str:
        """Model or method and its version."""
        ...

    async def enrich(self, request: EnrichmentRequest) -> Enrichment:
        """Derived facts of one block. Raises as `Embedder.embed_documents`. Safe to cancel."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


class QuestionReader(Protocol):
    """What a question says beside its words."""

    async def times(
        self, question: str, asked_at: datetime | None, *, time_zone: str = "UTC"
    ) -> Sequence[TimeSpan]:
        """The times it names, "last week" being relative to `asked_at` (None: to now).

        A few at most, often none. Days are those of the time zone (a name of the IANA database).
        """
        ...

    async def events(self, question: str) -> Sequence[NamedEvent]:
        """What it names in place of a time, with the side of it that is meant; two at most."""
        ...

    async def language(self, question: str) -> str | None:
        """ISO 639-1; None where it cannot be told, as of most questions of a few words."""
        ...


class Synthesizer(Protocol):
    """Writes a short text from blocks."""

    @property
    def name(self) -> str:
        """Model and version of the prompt."""
        ...

    async def synthesize(self, request: SynthesisRequest) -> Synthesis:
        """Statements with the places they rest on. Raises as `Embedder.embed_documents`."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


class TokenCounter(Protocol):
    """How long texts are for a model."""

    @property
    def name(self) -> str:
        """Whose tokens these are."""
        ...

    async def count(self, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of each text. An estimate errs on the high side."""
        ...


class Summarizer(Protocol):
    """A week's items in, what they came to out."""

    @property
    def name(self) -> str:
        """Model or method and its version."""
        ...

    async def summarize(self, request: SummaryRequest) -> Draft:
        """Raises as `Embedder.embed_documents`. Safe to cancel."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


class Relator(Protocol):
    """One block and its candidates in, relations between them out."""

    @property
    def name(self) -> str:
        """Model or method and its version."""
        ...

    async def relate(self, request: RelationRequest) -> Findings:
        """Raises as `Embedder.embed_documents`. Safe to cancel."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...

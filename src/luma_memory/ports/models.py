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
    """Texts in, unit vectors out. Some models embed documents and queries differently."""

    @property
    def model(self) -> EmbeddingModel: ...

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Embedding]:
        """One embedding per text, in the order of the texts, which may be empty.

        Raises ProviderUnavailable, ProviderTimeout, RateLimited, ProviderRejected or
        ProviderResponseInvalid. Safe to cancel.
        """
        ...

    async def embed_query(self, text: str) -> Embedding:
        """Like `embed_documents`, for the text of a question."""
        ...

    async def close(self) -> None:
        """Free all resources. Idempotent."""
        ...


class Reranker(Protocol):
    """Scores how well each text answers a question, reading both together."""

    @property
    def name(self) -> str:
        """The model, with its version."""
        ...

    async def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """A finite score per text, in the order of the texts; higher is better.

        Raises as `Embedder.embed_documents`. Safe to cancel.
        """
        ...

    async def close(self) -> None:
        """Free all resources. Idempotent."""
        ...


class Enricher(Protocol):
    """A block's text in, derived facts out."""

    @property
    def kind(self) -> EnrichmentKind:
        """The value of `enrichment` for blocks enriched here."""
        ...

    @property
    def name(self) -> str:
        """Model or method and its version."""
        ...

    async def enrich(self, request: EnrichmentRequest) -> Enrichment:
        """Derived facts of one block. Raises as `Embedder.embed_documents`. Safe to cancel."""
        ...

    async def close(self) -> None:
        """Free all resources. Idempotent."""
        ...


class QuestionReader(Protocol):
    """Reads the times, events and language of a question."""

    async def times(
        self, question: str, as_of: datetime | None, *, time_zone: str = "UTC"
    ) -> Sequence[TimeSpan]:
        """The times the question names, "last week" being relative to `as_of` (None: to now).

        A few at most, often none. Days are those of the time zone (a name of the IANA database).
        """
        ...

    async def events(self, question: str) -> Sequence[NamedEvent]:
        """Events named in place of a time, each with before or after; two at most."""
        ...

    async def language(self, question: str) -> str | None:
        """ISO 639-1; None if undetermined, as for most questions of a few words."""
        ...


class Synthesizer(Protocol):
    """Writes a short text from blocks."""

    @property
    def name(self) -> str:
        """Model and version of the prompt."""
        ...

    async def synthesize(self, request: SynthesisRequest) -> Synthesis:
        """Statements with the blocks they cite. Raises as `Embedder.embed_documents`."""
        ...

    async def close(self) -> None:
        """Free all resources. Idempotent."""
        ...


class TokenCounter(Protocol):
    """Counts the tokens of texts."""

    @property
    def name(self) -> str:
        """The model whose tokens are counted."""
        ...

    async def count(self, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of each text. An estimate errs on the high side."""
        ...


class Summarizer(Protocol):
    """A week's items in, their summary out."""

    @property
    def name(self) -> str:
        """Model or method and its version."""
        ...

    async def summarize(self, request: SummaryRequest) -> Draft:
        """Raises as `Embedder.embed_documents`. Safe to cancel."""
        ...

    async def close(self) -> None:
        """Free all resources. Idempotent."""
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
        """Free all resources. Idempotent."""
        ...

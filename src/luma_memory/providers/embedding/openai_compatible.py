"""Embeddings of any service that speaks OpenAI's protocol."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field
from pydantic_core import to_json

from luma_memory.domain.cut_off import in_progress
from luma_memory.domain.enrichment import Embedding, EmbeddingModel, ModelCall, Vector
from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderRejected,
    ProviderResponseInvalid,
    SetupError,
)
from luma_memory.providers.api_key import ApiKey
from luma_memory.providers.embedding.outcomes import all_or_first_error
from luma_memory.providers.embedding.vector_checks import IndexedValues, checked_each
from luma_memory.providers.fault_translation import provider_faults
from luma_memory.providers.service_client import ServiceClient
from luma_memory.providers.tokens import cut_to_tokens
from luma_memory.telemetry import spans

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
# OpenAI's bounds of one call: 2,048 texts and 300,000 tokens, 8,191 of them in one text.
TEXTS_PER_CALL_MAX: Final = 2048
TOKENS_PER_CALL_MAX: Final = 300_000
TOKENS_PER_TEXT_MAX: Final = 8191
# One value written out in full; servers without base64 support send decimal text.
_BYTES_PER_VALUE: Final = 24
# Allowance for the rest of a response.
_BYTES_BESIDES: Final = 1024 * 1024
# Assumed for the first call of a model whose dimension is not known yet.
_DIMENSION_GUESS: Final = 4096

_NATIVE_DIMENSIONS: Final = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
_SHORTENABLE: Final = frozenset({"text-embedding-3-small", "text-embedding-3-large"})


class OpenAIEmbedder:
    """`ports.models.Embedder` over POST /embeddings.

    Sequential calls for a long list; callers that want concurrency make concurrent calls. Texts
    longer than the model's limit are cut by an estimate of their tokens, and marked as truncated.
    """

    def __init__(
        self,
        *,
        model: str,
        api_key: ApiKey,
        base_url: str | None = None,
        model_id: str | None = None,
        dimension: int | None = None,
        max_tokens: int = TOKENS_PER_TEXT_MAX,
        timeout_seconds: float = 20.0,
        texts_per_call_max: int = TEXTS_PER_CALL_MAX,
        tokens_per_call_max: int = TOKENS_PER_CALL_MAX,
    ) -> None:
        """Opens no connection yet.

        model_id: stored beside every vector; by default "openai/" and the model's name,
        with "@" and the dimension if that is shortened. Vectors of equal ids are compared, so
        another service's model of the same name needs its own id.
        dimension: None takes the known one of OpenAI's models, else that of the first response;
        from then on every other dimension is an error. OpenAI's third generation shortens to it on
        request.
        timeout_seconds: for one call, from the first byte sent to the last byte read.
        Raises SetupError for a key or an address that cannot be used.
        """
        native = _NATIVE_DIMENSIONS.get(model)
        self._name = model
        self._shortened = dimension if dimension != native and model in _SHORTENABLE else None
        self._id = model_id or _default_id(model, self._shortened)
        self._dimension = dimension or native
        self._max_tokens = max_tokens
        self._texts_per_call_max = texts_per_call_max
        self._tokens_per_call_max = max(tokens_per_call_max, max_tokens)
        self._span_values = {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": model,
        }
        self._client = ServiceClient(
            api_key=api_key,
            base_url=base_url,
            timeout_seconds=timeout_seconds,
            body_bytes_max=BODY_BYTES_MAX,
        )

    @property
    def model_id(self) -> str:
        """Stored beside every vector; known before the dimension is."""
        return self._id

    @property
    def model(self) -> EmbeddingModel:
        """Raises SetupError while the dimension is unknown: see `learn_dimension`."""
        if self._dimension is None:
            raise SetupError(
                f"The dimension of the embedding model {self._id} is not known; set it, "
                "or make one call."
            )
        return EmbeddingModel(id=self._id, dimension=self._dimension, max_tokens=self._max_tokens)

    async def learn_dimension(self) -> int:
        """The model's dimension, found by a call if it is not configured. Raises as
        `embed_documents`.
        """
        if self._dimension is None:
            await self.embed_query("dimension")
        return self.model.dimension

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Embedding]:
        for text in texts:
            if blank := _blank(text):
                raise blank
        return all_or_first_error(await self.embed_each(texts))

    async def embed_each(self, texts: Sequence[str]) -> Sequence[Embedding | LumaMemoryError]:
        """One outcome per text, in order: an invalid vector fails only its own text.

        Raises errors of the whole call.
        """
        outcomes: list[Embedding | LumaMemoryError | None] = [_blank(text) for text in texts]
        inputs = [
            self._input_of(text)
            for text, blank in zip(texts, outcomes, strict=True)
            if blank is None
        ]
        embedded: list[Embedding | LumaMemoryError] = []
        for batch in self._batches(inputs):
            embedded.extend(await self._embedded(batch))
        of_inputs = iter(embedded)
        return [next(of_inputs) if outcome is None else outcome for outcome in outcomes]

    async def embed_query(self, text: str) -> Embedding:
        (embedding,) = await self.embed_documents([text])
        return embedding

    async def close(self) -> None:
        await self._client.close()

    def _input_of(self, text: str) -> _Input:
        cut, tokens = cut_to_tokens(text, self._max_tokens)
        return _Input(text=cut, tokens=tokens, truncated=len(cut) < len(text))

    def _batches(self, inputs: Sequence[_Input]) -> Iterator[list[_Input]]:
        """Slices of the inputs within the bounds of one call; lazy, because the first call may set
        the dimension.
        """
        start = 0
        while start < len(inputs):
            stop, tokens = start, 0
            most = min(len(inputs), start + self._texts_that_fit())
            while stop < most and tokens + inputs[stop].tokens <= self._tokens_per_call_max:
                tokens += inputs[stop].tokens
                stop += 1
            yield list(inputs[start:stop])
            start = stop

    def _texts_that_fit(self) -> int:
        """The number of texts whose vectors fit into a body even as decimal text."""
        value_bytes = (self._dimension or _DIMENSION_GUESS) * _BYTES_PER_VALUE
        return max(1, min(self._texts_per_call_max, BODY_BYTES_MAX // value_bytes))

    async def _embedded(self, batch: Sequence[_Input]) -> list[Embedding | LumaMemoryError]:
        """An error carries the call: an unusable response costs as much as a usable one."""
        call = ModelCall(self._id)
        try:
            outcomes = await self._call(batch)
        except LumaMemoryError as error:
            error.calls = (call,)
            raise
        for outcome in outcomes:
            if isinstance(outcome, LumaMemoryError):
                outcome.calls = (call,)
        return outcomes

    async def _call(self, batch: Sequence[_Input]) -> list[Embedding | LumaMemoryError]:
        with (
            spans.span(f"embeddings {self._name}", kind="client", values=self._span_values) as span,
            provider_faults(),
        ):
            span.content(lambda: {"gen_ai.input.messages": [item.text for item in batch]})
            with in_progress(ModelCall(self._id)):
                response = await self._post([item.text for item in batch])
            span.set({"gen_ai.usage.input_tokens": response.tokens_read()})
            values = [
                IndexedValues(item.index, _values_of(item.embedding)) for item in response.data
            ]
        outcomes = checked_each(values, count=len(batch), dimension=self._dimension)
        if self._dimension is None:
            self._dimension = next(
                (len(outcome) for outcome in outcomes if not isinstance(outcome, Exception)), None
            )
        return _embeddings_of(batch, outcomes, response.tokens_read())

    async def _post(self, texts: Sequence[str]) -> _Response:
        request: dict[str, object] = {
            "model": self._name,
            "input": texts,
            "encoding_format": "base64",
        }
        if self._shortened is not None:
            request["dimensions"] = self._shortened
        # Many calls run at once; none may buffer more than its own vectors could take.
        values = len(texts) * (self._dimension or _DIMENSION_GUESS)
        most = _BYTES_BESIDES + 2 * values * _BYTES_PER_VALUE
        # Nothing but the parser refers to the body: an error keeps the variables of its frames.
        return _Response.model_validate_json(
            await self._client.post("embeddings", to_json(request), bytes_max=most)
        )


@dataclass(frozen=True, slots=True)
class _Input:
    """One text as it is sent."""

    text: str
    tokens: int  # estimated
    truncated: bool


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0, le=2**31)


class _Item(BaseModel):
    index: int
    embedding: object


class _Response(BaseModel):
    data: list[_Item]
    usage: object = None

    def tokens_read(self) -> int | None:
        """None if the service does not count, or its count is invalid."""
        try:
            return _Usage.model_validate(self.usage).prompt_tokens
        except ValueError:
            return None


def _default_id(model: str, shortened: int | None) -> str:
    return f"openai/{model}" if shortened is None else f"openai/{model}@{shortened}"


def _blank(text: str) -> LumaMemoryError | None:
    # The provider refuses the whole call because of one blank text, without identifying it.
    if text.strip():
        return None
    return ProviderRejected("A blank text has no embedding.", code="provider_input_empty")


def _values_of(embedding: object) -> npt.NDArray[np.float32]:
    """Base64 holds little-endian float32; a server without this format sends numbers.

    Anything else becomes an empty vector, which is rejected like any invalid one,
    for its own text only.
    """
    try:
        if isinstance(embedding, list):
            # A number beyond float32 becomes infinite here, and is rejected later.
            with np.errstate(over="ignore"):
                return np.asarray(embedding, dtype=np.float64).astype(np.float32)
        if isinstance(embedding, str):
            packed = base64.b64decode(embedding, validate=True)
            return np.frombuffer(packed, dtype="<f4").astype(np.float32)
    except (binascii.Error, ValueError, TypeError):
        pass
    return np.empty(0, np.float32)


def _embeddings_of(
    batch: Sequence[_Input],
    outcomes: Sequence[Vector | ProviderResponseInvalid],
    tokens_read: int | None,
) -> list[Embedding | LumaMemoryError]:
    """The provider counts tokens per call; they are distributed over the texts without loss."""
    estimated = sum(item.tokens for item in batch)
    total = estimated if tokens_read is None else tokens_read
    embeddings: list[Embedding | LumaMemoryError] = []
    seen, given = 0, 0
    for item, outcome in zip(batch, outcomes, strict=True):
        seen += item.tokens
        share = total * seen // estimated - given
        given += share
        embeddings.append(
            outcome
            if isinstance(outcome, ProviderResponseInvalid)
            else Embedding(outcome, token_count=share, truncated=item.truncated)
        )
    return embeddings

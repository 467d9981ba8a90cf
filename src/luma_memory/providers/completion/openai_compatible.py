"""Enrichment by a model: one structured call a block."""

from __future__ import annotations

import json
from typing import Final

from luma_memory.domain.enrichment import Enrichment, EnrichmentKind, EnrichmentRequest
from luma_memory.providers.completion.completion_model import completion_model
from luma_memory.providers.completion.enrichment_answer import EnrichmentAnswer, enrichment_of
from luma_memory.providers.completion.prompts import prompt_text
from luma_memory.providers.completion.structured_call import OutputMode, StructuredCall
from luma_memory.providers.openai_client import ApiKey

PROMPT: Final = "enrich_v1"
# About 15,000 tokens of English: every ordinary block whole, and the largest one affordable.
CHARACTERS_MAX: Final = 60_000
# An answer within its bounds has about 1,500; the rest is for models that think before they write.
OUTPUT_TOKENS_MAX: Final = 6000
_WEEKDAYS: Final = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip


class ModelEnricher:
    """`domain.ports.Enricher` over any service that speaks OpenAI's protocol, or another vendor's.

    One call, no retry: whether and when to try again is the queue's to decide.
    """

    def __init__(
        self,
        *,
        model: str,
        api_key: ApiKey,
        base_url: str | None = None,
        model_id: str | None = None,
        timeout_seconds: float = 25.0,
        output_mode: OutputMode = "native",
        characters_max: int = CHARACTERS_MAX,
        output_tokens_max: int = OUTPUT_TOKENS_MAX,
    ) -> None:
        """Opens no connection yet.

        model: see `completion_model`. model_id: how results name it; "openai/" and the model's name
        unless told otherwise. timeout_seconds: for the whole call.
        output_mode: see `StructuredCall`.
        Raises SetupError for a model, key or address that cannot be used.
        """
        completion = completion_model(
            model, api_key=api_key, base_url=base_url, timeout_seconds=timeout_seconds
        )
        self._close = completion.close
        self._model_id = model_id or completion.id
        self._name = f"{self._model_id}+{PROMPT}"
        self._characters_max = characters_max
        self._call = StructuredCall(
            completion,
            EnrichmentAnswer,
            instructions=prompt_text(PROMPT),
            output_mode=output_mode,
            output_tokens_max=output_tokens_max,
            timeout_seconds=timeout_seconds,
        )

    @property
    def model_id(self) -> str:
        """The model without the prompt."""
        return self._model_id

    @property
    def kind(self) -> EnrichmentKind:
        return "model"

    @property
    def name(self) -> str:
        return self._name

    async def enrich(self, request: EnrichmentRequest) -> Enrichment:
        answered = await self._call(user_message(request, characters_max=self._characters_max))
        return enrichment_of(
            answered.answer,
            request,
            model=self._name,
            call=answered.call,
        )

    async def close(self) -> None:
        await self._close()


def user_message(request: EnrichmentRequest, *, characters_max: int) -> str:
    """The block as one JSON object: no text can end the string it stands in and leave the data."""
    when = request.occurred_at
    return json.dumps(
        {
            "occurred_at": when.isoformat(timespec="seconds"),
            "weekday": _WEEKDAYS[when.weekday()],
            "speaker": request.speaker,
            "text": request.content[:characters_max],
            "text_is_cut": len(request.content) > characters_max,
        },
        ensure_ascii=False,
    )

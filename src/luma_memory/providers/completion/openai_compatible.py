"""Enrichment by a model: one structured call a block."""

from __future__ import annotations

import json
from typing import Final

from luma_memory.domain.enrichment import Enrichment, EnrichmentKind, EnrichmentRequest
from luma_memory.providers.completion.enrichment_answer import EnrichmentAnswer, enrichment_of
from luma_memory.providers.completion.prompted_model import PromptedModel

# About 15,000 tokens of English: every ordinary block whole, and the largest one affordable.
CHARACTERS_MAX: Final = 60_000
_WEEKDAYS: Final = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip


class ModelEnricher(PromptedModel[EnrichmentAnswer]):
    """`ports.models.Enricher`: one call a block."""

    prompt = "enrich_v1"
    answer = EnrichmentAnswer

    @property
    def kind(self) -> EnrichmentKind:
        return "model"

    async def enrich(self, request: EnrichmentRequest) -> Enrichment:
        answered = await self._call(user_message(request))
        return enrichment_of(
            answered.answer,
            request,
            model=self.name,
            call=answered.call,
        )


def user_message(request: EnrichmentRequest) -> str:
    """The block as one JSON object: no text can end the string it stands in and leave the data."""
    when = request.occurred_at
    return json.dumps(
        {
            "occurred_at": when.isoformat(timespec="seconds"),
            "weekday": _WEEKDAYS[when.weekday()],
            "speaker": request.speaker,
            "text": request.content[:CHARACTERS_MAX],
            "text_is_cut": len(request.content) > CHARACTERS_MAX,
        },
        ensure_ascii=False,
    )

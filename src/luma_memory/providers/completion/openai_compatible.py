"""Enrichment by a model: one structured call per block."""

from __future__ import annotations

import json
from typing import Final

from luma_memory.domain.enrichment import Enrichment, EnrichmentKind, EnrichmentRequest
from luma_memory.providers.completion.enrichment_output import EnrichmentOutput, enrichment_of
from luma_memory.providers.completion.prompted_model import PromptedModel

# About 15,000 tokens of English: ordinary blocks are sent whole, and the cost of the largest is
# bounded.
CHARACTERS_MAX: Final = 60_000


class ModelEnricher(PromptedModel[EnrichmentOutput]):
    """`ports.models.Enricher`: one call per block."""

    prompt = "enrich_v1"
    output = EnrichmentOutput

    @property
    def kind(self) -> EnrichmentKind:
        return "model"

    async def enrich(self, request: EnrichmentRequest) -> Enrichment:
        return await self._call(
            user_message(request),
            lambda parsed: enrichment_of(
                parsed.output,
                request,
                model=self.name_of(parsed.model_id),
                calls=parsed.calls,
            ),
        )


def user_message(request: EnrichmentRequest) -> str:
    """The block as one JSON object: no text can break out of its string."""
    when = request.occurred_at
    return json.dumps(
        {
            "occurred_at": when.isoformat(timespec="seconds"),
            "weekday": when.strftime("%A"),
            "speaker": request.speaker,
            "text": request.content[:CHARACTERS_MAX],
            "text_is_cut": len(request.content) > CHARACTERS_MAX,
        },
        ensure_ascii=False,
    )

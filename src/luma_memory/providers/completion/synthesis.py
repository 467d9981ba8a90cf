"""Synthesis by a model: one structured call a context."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.context import Statement, Synthesis, SynthesisRequest
from luma_memory.providers.completion.prompted_model import PromptedModel


class StatementAnswer(BaseModel):
    """One statement and what it rests on."""

    model_config = ConfigDict(extra="forbid")

    text: str
    blocks: list[int] = Field(description="Numbers of the blocks it rests on.")


class SynthesisAnswer(BaseModel):
    """A context, statement by statement."""

    model_config = ConfigDict(extra="forbid")

    statements: list[StatementAnswer]


class ModelSynthesizer(PromptedModel[SynthesisAnswer]):
    """`ports.models.Synthesizer`: one call a context; the template stands behind it."""

    prompt = "synthesize_v1"
    answer = SynthesisAnswer

    async def synthesize(self, request: SynthesisRequest) -> Synthesis:
        answered = await self._call(user_message(request))
        return Synthesis(
            [Statement(said.text, said.blocks) for said in answered.answer.statements],
            calls=[answered.call],
        )


def user_message(request: SynthesisRequest) -> str:
    """Question and blocks as one JSON object: no text can end the string it stands in."""
    return json.dumps(
        {
            "question": request.query,
            "tokens_max": request.tokens_max,
            "blocks": [
                {
                    "n": number,
                    "said_at": block.occurred_at.isoformat(timespec="minutes"),
                    "weekday": block.occurred_at.strftime("%A"),
                    "speaker": block.speaker,
                    "source": block.source,
                    "text": block.content,
                }
                for number, block in enumerate(request.blocks, 1)
            ],
        },
        ensure_ascii=False,
    )

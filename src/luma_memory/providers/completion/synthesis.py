"""Synthesis by a model: one structured call per context."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.context import Statement, Synthesis, SynthesisRequest
from luma_memory.providers.completion.prompted_model import PromptedModel
from luma_memory.providers.completion.structured_call import ParsedResponse


class StatementOutput(BaseModel):
    """One statement and the blocks it rests on."""

    model_config = ConfigDict(extra="forbid")

    text: str
    blocks: list[int] = Field(description="Numbers of the blocks it rests on.")


class SynthesisOutput(BaseModel):
    """A context, statement by statement."""

    model_config = ConfigDict(extra="forbid")

    statements: list[StatementOutput]


class ModelSynthesizer(PromptedModel[SynthesisOutput]):
    """`ports.models.Synthesizer`: one call per context; the template is its fallback."""

    prompt = "synthesize_v1"
    output = SynthesisOutput

    async def synthesize(self, request: SynthesisRequest) -> Synthesis:
        return await self._call(user_message(request), _synthesis)


def _synthesis(parsed: ParsedResponse[SynthesisOutput]) -> Synthesis:
    statements = parsed.output.statements
    return Synthesis(
        [Statement(statement.text, statement.blocks) for statement in statements],
        calls=parsed.calls,
    )


def user_message(request: SynthesisRequest) -> str:
    """Question and blocks as one JSON object: no text can break out of its string."""
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

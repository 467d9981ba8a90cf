"""Synthesis by a model: one structured call a context."""

from __future__ import annotations

import json
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.context import Statement, Synthesis, SynthesisRequest
from luma_memory.providers.completion.completion_model import completion_model
from luma_memory.providers.completion.prompts import prompt_text
from luma_memory.providers.completion.structured_call import OutputMode, StructuredCall
from luma_memory.providers.openai_client import ApiKey

PROMPT: Final = "synthesize_v1"
# Twice the largest budget, plus thinking aloud, would cost more than it is worth.
OUTPUT_TOKENS_MAX: Final = 6_000


class StatementAnswer(BaseModel):
    """One statement and what it rests on."""

    model_config = ConfigDict(extra="forbid")

    text: str
    blocks: list[int] = Field(description="Numbers of the blocks it rests on.")


class SynthesisAnswer(BaseModel):
    """A context, statement by statement."""

    model_config = ConfigDict(extra="forbid")

    statements: list[StatementAnswer]


class ModelSynthesizer:
    """`domain.ports.Synthesizer` over any service that speaks OpenAI's protocol, or another
    vendor's.

    One call, no retry: somebody waits, and the template stands behind it.
    """

    def __init__(
        self,
        *,
        model: str,
        api_key: ApiKey,
        base_url: str | None = None,
        timeout_seconds: float,
        output_mode: OutputMode = "native",
    ) -> None:
        """Opens no connection yet. See `ModelEnricher`; raises SetupError."""
        completion = completion_model(
            model, api_key=api_key, base_url=base_url, timeout_seconds=timeout_seconds
        )
        self._close = completion.close
        self._model_id = completion.id
        self._name = f"{completion.id}+{PROMPT}"
        self._call = StructuredCall(
            completion,
            SynthesisAnswer,
            instructions=prompt_text(PROMPT),
            output_mode=output_mode,
            output_tokens_max=OUTPUT_TOKENS_MAX,
            timeout_seconds=timeout_seconds,
        )

    @property
    def model_id(self) -> str:
        """The model without the prompt."""
        return self._model_id

    @property
    def name(self) -> str:
        return self._name

    async def synthesize(self, request: SynthesisRequest) -> Synthesis:
        answered = await self._call(user_message(request))
        return Synthesis(
            [Statement(said.text, said.blocks) for said in answered.answer.statements],
            calls=[answered.call],
        )

    async def close(self) -> None:
        await self._close()


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

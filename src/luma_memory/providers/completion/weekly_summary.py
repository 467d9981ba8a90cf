"""Weekly summaries by a model: one structured call a part of a week."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.summary import Draft, SummaryRequest, Told
from luma_memory.domain.weeks import zone_of
from luma_memory.providers.completion.completion_model import completion_model
from luma_memory.providers.completion.prompts import prompt_text
from luma_memory.providers.completion.structured_call import OutputMode, StructuredCall
from luma_memory.providers.openai_client import ApiKey

PROMPT: Final = "summarize_v1"
OUTPUT_TOKENS_MAX: Final = 6_000


class HighlightAnswer(BaseModel):
    """One thing of the week and what it rests on."""

    model_config = ConfigDict(extra="forbid")

    text: str
    items: list[int] = Field(description="Numbers of the items it rests on.")


class SummaryAnswer(BaseModel):
    """The summary of one week."""

    model_config = ConfigDict(extra="forbid")

    text: str
    highlights: list[HighlightAnswer]
    comparison: str | None


class ModelSummarizer:
    """`domain.ports.Summarizer` over any service that speaks OpenAI's protocol, or another
    vendor's.

    One call, no retry: whether and when to try again is the queue's to decide.
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
        self.model_id: Final = completion.id
        self._name = f"{completion.id}+{PROMPT}"
        self._call = StructuredCall(
            completion,
            SummaryAnswer,
            instructions=prompt_text(PROMPT),
            output_mode=output_mode,
            output_tokens_max=OUTPUT_TOKENS_MAX,
            timeout_seconds=timeout_seconds,
        )

    @property
    def name(self) -> str:
        return self._name

    async def summarize(self, request: SummaryRequest) -> Draft:
        answered = await self._call(user_message(request))
        answer = answered.answer
        return Draft(
            answer.text,
            [Told(said.text, said.items) for said in answer.highlights],
            answer.comparison if request.before is not None else None,
            (answered.call,),
        )

    async def close(self) -> None:
        await self._close()


def user_message(request: SummaryRequest) -> str:
    """The week as one JSON object: no text can end the string it stands in."""
    week = request.week
    zone = zone_of(week.time_zone)
    items = []
    for number, item in enumerate(request.items, 1):
        local = item.occurred_at.astimezone(zone)
        items.append(
            {
                "n": number,
                "at": local.isoformat(timespec="minutes"),
                "weekday": local.strftime("%A"),
                "speaker": item.speaker,
                "text": item.text,
            }
        )
    last = week.start + timedelta(days=6)
    return json.dumps(
        {
            "week": [week.start.isoformat(), last.isoformat()],
            "time_zone": week.time_zone,
            "items": items,
            "week_before": request.before,
        },
        ensure_ascii=False,
    )

"""Weekly summaries by a model: one structured call per part of a week."""

from __future__ import annotations

import json
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.summary import Draft, MarkedSentence, SummaryRequest
from luma_memory.domain.weeks import zone_of
from luma_memory.providers.completion.prompted_model import PromptedModel
from luma_memory.providers.completion.structured_call import ParsedResponse


class HighlightOutput(BaseModel):
    """One highlight of the week and the items that support it."""

    model_config = ConfigDict(extra="forbid")

    text: str
    items: list[int] = Field(description="Numbers of the items it rests on.")


class SummaryOutput(BaseModel):
    """The summary of one week."""

    model_config = ConfigDict(extra="forbid")

    text: str
    highlights: list[HighlightOutput]
    comparison: str | None


class ModelSummarizer(PromptedModel[SummaryOutput]):
    """`ports.models.Summarizer`: one call per part of a week."""

    prompt = "summarize_v1"
    output = SummaryOutput

    async def summarize(self, request: SummaryRequest) -> Draft:
        def draft(parsed: ParsedResponse[SummaryOutput]) -> Draft:
            output = parsed.output
            return Draft(
                output.text,
                [
                    MarkedSentence(highlight.text, highlight.items)
                    for highlight in output.highlights
                ],
                output.comparison if request.before is not None else None,
                parsed.calls,
                self.name_of(parsed.model_id),
            )

        return await self._call(user_message(request), draft)


def user_message(request: SummaryRequest) -> str:
    """The week as one JSON object: no text can break out of its string."""
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

"""The strict form of a schema is the one pydantic-ai makes, which knows the vendor's rules."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from pydantic_ai.profiles.openai import OpenAIJsonSchemaTransformer

from luma_memory.providers.completion.enrichment_answer import EnrichmentAnswer
from luma_memory.providers.completion.relations import RelationsAnswer
from luma_memory.providers.completion.strict_schema import strict_schema
from luma_memory.providers.completion.synthesis import SynthesisAnswer
from luma_memory.providers.completion.weekly_summary import SummaryAnswer


class OddlyNamed(BaseModel):
    title: str = "a default"
    default: int | None = None


@pytest.mark.parametrize(
    "answer", [EnrichmentAnswer, RelationsAnswer, SynthesisAnswer, SummaryAnswer, OddlyNamed]
)
def test_strict_schemas(answer: type[BaseModel]) -> None:
    expected = OpenAIJsonSchemaTransformer(answer.model_json_schema(), strict=True).walk()
    assert strict_schema(answer) == expected

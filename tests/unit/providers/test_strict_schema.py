"""The strict form of a schema is the one pydantic-ai makes, which knows the vendor's rules."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from pydantic_ai.profiles.openai import OpenAIJsonSchemaTransformer

from luma_memory.providers.completion.enrichment_output import EnrichmentOutput
from luma_memory.providers.completion.relations import RelationsOutput
from luma_memory.providers.completion.strict_schema import strict_schema
from luma_memory.providers.completion.synthesis import SynthesisOutput
from luma_memory.providers.completion.weekly_summary import SummaryOutput


class OddlyNamed(BaseModel):
    title: str = "a default"
    default: int | None = None


@pytest.mark.parametrize(
    "model", [EnrichmentOutput, RelationsOutput, SynthesisOutput, SummaryOutput, OddlyNamed]
)
def test_strict_schemas(model: type[BaseModel]) -> None:
    expected = OpenAIJsonSchemaTransformer(model.model_json_schema(), strict=True).walk()
    assert strict_schema(model) == expected

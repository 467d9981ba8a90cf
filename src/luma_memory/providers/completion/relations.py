"""Relations by a model: one structured call per block, for all of its candidates."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from luma_memory.domain.relation import (
    Finding,
    Findings,
    RelationBlock,
    RelationRequest,
    RelationType,
)
from luma_memory.providers.completion.prompted_model import PromptedModel
from luma_memory.providers.completion.structured_call import ParsedResponse

# Of the block, and of each candidate: twenty of them stay below 10,000 tokens of English.
BLOCK_CHARACTERS_MAX: Final = 6_000
CANDIDATE_CHARACTERS_MAX: Final = 1_500
_TYPES: Final = frozenset(get_args(RelationType))


def _known_type(value: object) -> object:
    return value if value in _TYPES else "related"


class RelationOutput(BaseModel):
    """One relation between the block and one candidate."""

    model_config = ConfigDict(extra="forbid")

    candidate: int = Field(description="The candidate's number.")
    type: Annotated[RelationType, BeforeValidator(_known_type)]
    from_block: bool
    confidence: float = Field(description="From 0 to 1.")
    block_quote: str = Field(description="Exact text from the block.")
    candidate_quote: str = Field(description="Exact text from the candidate.")


class RelationsOutput(BaseModel):
    """Every relation of the block."""

    model_config = ConfigDict(extra="forbid")

    relations: list[RelationOutput]


class ModelRelator(PromptedModel[RelationsOutput]):
    """`ports.models.Relator`: one call per block, for all of its candidates."""

    prompt = "relate_v1"
    output = RelationsOutput

    async def relate(self, request: RelationRequest) -> Findings:
        return await self._call(user_message(request), self._findings)

    def _findings(self, parsed: ParsedResponse[RelationsOutput]) -> Findings:
        return Findings(
            [Finding(**relation.model_dump()) for relation in parsed.output.relations],
            parsed.calls,
            self.name_of(parsed.model_id),
        )


def user_message(request: RelationRequest) -> str:
    """Block and candidates as one JSON object: no text can break out of its string.

    Candidates are numbered, so the model cannot invent an id and learns none.
    """
    return json.dumps(
        {
            "block": _shown(request.block, BLOCK_CHARACTERS_MAX),
            "candidates": [
                {"n": number, **_shown(candidate.block, CANDIDATE_CHARACTERS_MAX)}
                for number, candidate in enumerate(request.candidates, 1)
            ],
        },
        ensure_ascii=False,
    )


def _shown(block: RelationBlock, characters_max: int) -> dict[str, Any]:
    return {
        "at": block.occurred_at.isoformat(timespec="minutes"),
        "speaker": block.speaker,
        "text": block.content[:characters_max],
    }

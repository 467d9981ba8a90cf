"""Relations by a model: one structured call a block, for all of its candidates."""

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

# Of the block, and of each candidate: twenty of them stay below 10,000 tokens of English.
BLOCK_CHARACTERS_MAX: Final = 6_000
CANDIDATE_CHARACTERS_MAX: Final = 1_500
_TYPES: Final = frozenset(get_args(RelationType))


def _known_type(said: object) -> object:
    return said if said in _TYPES else "related"


class RelationAnswer(BaseModel):
    """One relation between the block and one candidate."""

    model_config = ConfigDict(extra="forbid")

    candidate: int = Field(description="The candidate's number.")
    type: Annotated[RelationType, BeforeValidator(_known_type)]
    from_block: bool
    confidence: float = Field(description="From 0 to 1.")
    block_quote: str = Field(description="Words of the block, exactly.")
    candidate_quote: str = Field(description="Words of the candidate, exactly.")


class RelationsAnswer(BaseModel):
    """Every relation of the block."""

    model_config = ConfigDict(extra="forbid")

    relations: list[RelationAnswer]


class ModelRelator(PromptedModel[RelationsAnswer]):
    """`ports.models.Relator`: one call a block, for all of its candidates."""

    prompt = "relate_v1"
    answer = RelationsAnswer

    async def relate(self, request: RelationRequest) -> Findings:
        answered = await self._call(user_message(request))
        return Findings(
            [Finding(**said.model_dump()) for said in answered.answer.relations],
            (answered.call,),
            self.name,
        )


def user_message(request: RelationRequest) -> str:
    """Block and candidates as one JSON object: no text can end the string it stands in.

    Candidates go by number: there is no id to be invented, and none to be given away.
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

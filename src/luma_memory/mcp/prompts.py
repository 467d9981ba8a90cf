"""The prompt `recall`: what is remembered about a topic, for a user to insert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    GetPromptResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    TextContent,
)
from pydantic import ValidationError

from luma_memory.mcp.arguments import RecallArguments
from luma_memory.mcp.memory import Memory
from luma_memory.mcp.results import NOTICE, Bounds

RECALL: Final = Prompt(
    name="recall",
    title="Recall",
    description="What is remembered about a topic, to continue from there.",
    arguments=[
        PromptArgument(name="topic", description="Question or topic.", required=True),
        PromptArgument(name="user_id", description="Only for another user's memory."),
    ],
)


async def recall(
    memory: Memory, arguments: Mapping[str, str] | None, bounds: Bounds
) -> GetPromptResult:
    """The prompt's messages. Raises MCPError for invalid arguments, LumaMemoryError."""
    try:
        call = RecallArguments.model_validate(dict(arguments or {}))
    except ValidationError as error:
        names = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors()}))
        raise MCPError(INVALID_PARAMS, f"Invalid arguments: {names}") from None
    response = await memory.context(
        memory.user(call.user_id), call.topic, token_budget=None, token_budget_max=bounds.tokens
    )
    text = f"{NOTICE}\n{response.text}" if response.text else "Nothing is remembered about this."
    message = PromptMessage(role="user", content=TextContent(type="text", text=text))
    return GetPromptResult(description=RECALL.description, messages=[message])

"""Memories as resources: one block, or a user's context."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    ReadResourceResult,
    ResourceTemplate,
    TextResourceContents,
)
from pydantic import TypeAdapter, ValidationError

from luma_memory.domain.quoted_text import quoted
from luma_memory.mcp.memory import Memory
from luma_memory.mcp.results import MIME_TYPE, NOTICE, Bounds, instant_text
from luma_memory.protocol.blocks import BlockBody
from luma_memory.protocol.validation import Name

# A block changes when it is enriched or edited; a context with every write.
BLOCK_TTL_MS: Final = 60_000
CONTEXT_TTL_MS: Final = 0
# The query for a user's context.
_ABOUT_USER: Final = "What is known about the user: facts, preferences, current work"
_BLOCK: Final = re.compile(r"/([0-9a-fA-F-]{36})")
_CONTEXT: Final = re.compile(r"/([^/]+)/context")
_NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)

TEMPLATES: Final[Sequence[ResourceTemplate]] = (
    ResourceTemplate(
        name="memory",
        uri_template="memory://blocks/{id}{?user_id}",
        description="One memory with its whole text.",
        mime_type=MIME_TYPE,
    ),
    ResourceTemplate(
        name="context",
        uri_template="memory://users/{id}/context",
        description="What is remembered about a user, within a token budget.",
        mime_type=MIME_TYPE,
    ),
)


async def read_resource(memory: Memory, uri: str, bounds: Bounds) -> ReadResourceResult:
    """The resource of a URI. Raises MCPError for an unknown one, LumaMemoryError."""
    parts = urlsplit(uri)
    place = f"{parts.scheme}://{parts.netloc}"
    if place == "memory://blocks" and (match := _BLOCK.fullmatch(parts.path)):
        user_id = memory.user(_user(parse_qs(parts.query), uri))
        block = await memory.get(user_id, _uuid(match[1], uri))
        return _text(uri, _block_text(block), ttl_ms=BLOCK_TTL_MS)
    if place == "memory://users" and (match := _CONTEXT.fullmatch(parts.path)):
        user_id = memory.user(_checked_name(unquote(match[1]), uri))
        response = await memory.context(
            user_id, _ABOUT_USER, token_budget=None, token_budget_max=bounds.tokens
        )
        return _text(uri, f"{NOTICE}\n{response.text}", ttl_ms=CONTEXT_TTL_MS)
    raise not_found(uri)


def not_found(uri: str) -> MCPError:
    """As the protocol asks for: invalid parameters that name the URI."""
    return MCPError(INVALID_PARAMS, "Resource not found", {"uri": uri[:1_000]})


def _text(uri: str, text: str, *, ttl_ms: int) -> ReadResourceResult:
    contents = TextResourceContents(uri=uri, mime_type=MIME_TYPE, text=text)
    return ReadResourceResult(contents=[contents], ttl_ms=ttl_ms, cache_scope="private")


def _block_text(block: BlockBody) -> str:
    record = {
        "occurred_at": instant_text(block.occurred_at),
        "speaker": block.speaker,
        "source": block.source,
        "text": block.content,
    }
    return f"{NOTICE}\n{quoted({name: value for name, value in record.items() if value})}"


def _user(query: Mapping[str, list[str]], uri: str) -> str | None:
    named = query.get("user_id")
    return None if not named else _checked_name(named[0], uri)


def _checked_name(name: str, uri: str) -> str:
    try:
        return _NAME.validate_python(name)
    except ValidationError:
        raise not_found(uri) from None


def _uuid(text: str, uri: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise not_found(uri) from None

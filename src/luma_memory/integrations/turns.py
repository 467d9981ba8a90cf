"""Turns of a conversation as blocks, and what an agent is given of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from luma_memory.client import AsyncMemoryClient
from luma_memory.protocol.blocks import BATCH_BLOCKS_MAX

_NAME_CHARACTERS_MAX: Final = 256


async def store(client: AsyncMemoryClient, blocks: Sequence[Mapping[str, Any]]) -> None:
    """Store blocks, up to 1,000 in a request; blank ones are left out.

    Raises ValueError for the first that the service rejects; the others are stored.
    """
    filled = [block for block in blocks if str(block["content"]).strip()]
    for start in range(0, len(filled), BATCH_BLOCKS_MAX):
        response = await client.ingest_batch_async(filled[start : start + BATCH_BLOCKS_MAX])
        for result in response.results:
            if result.error is not None:
                raise ValueError(f"{result.error.detail} ({result.error.code})")


def name_of(*parts: str) -> str:
    """One name of at most 256 characters; long ones are hashed."""
    name = "/".join(parts)
    if len(name) <= _NAME_CHARACTERS_MAX:
        return name
    return hashlib.sha256(name.encode()).hexdigest()

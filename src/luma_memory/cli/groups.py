"""Store groups of blocks so that one bad block fails alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luma_memory.cli.service import ServiceClient
from luma_memory.domain.errors import Invalid, RejectedError
from luma_memory.protocol.blocks import BatchItem, BatchItemError


async def store_group(
    client: ServiceClient, blocks: Sequence[Mapping[str, Any]]
) -> Sequence[BatchItem]:
    """The outcome of each block, in order; `index` is its position here.

    A group that is refused as a whole is halved until the block to blame is found. Raises
    LumaMemoryError for what concerns any block, such as a wrong key.
    """
    try:
        response = await client.ingest_batch_async(blocks)
    except (Invalid, RejectedError) as error:
        if len(blocks) == 1:
            refusal = BatchItemError(code=error.code, detail=str(error))
            return [BatchItem(index=0, error=refusal)]
        middle = len(blocks) // 2
        first = await store_group(client, blocks[:middle])
        second = await store_group(client, blocks[middle:])
        moved = [item.model_copy(update={"index": item.index + middle}) for item in second]
        return [*first, *moved]
    return response.results

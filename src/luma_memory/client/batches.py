"""Cuts any number of blocks into requests of a bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from luma_memory.client.calls import encoded, plain
from luma_memory.protocol.blocks import NewBlockBody

# Enough that the request's own cost disappears, few enough that its answer comes in some tenths of
# a second and is sent again cheaply.
BLOCKS_MAX: Final = 200
BYTES_MAX: Final = 4_000_000


def in_batches(
    blocks: Iterable[NewBlockBody | Mapping[str, Any]],
) -> Iterator[list[Mapping[str, Any]]]:
    """Lists of 1 to 200 blocks, of about 4 MB at most unless a single one is larger."""
    batch: list[Mapping[str, Any]] = []
    size_bytes = 0
    for block in blocks:
        body = plain(block)
        length = len(encoded(body))
        if batch and (len(batch) >= BLOCKS_MAX or size_bytes + length > BYTES_MAX):
            yield batch
            batch, size_bytes = [], 0
        batch.append(body)
        size_bytes += length
    if batch:
        yield batch

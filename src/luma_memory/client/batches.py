"""Splits any number of blocks into requests of a limited size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from luma_memory.client.calls import encoded, plain
from luma_memory.protocol.blocks import NewBlockBody

# Enough to amortize a request's own cost, few enough that the response takes some tenths of a
# second and the request can be repeated cheaply.
BLOCKS_MAX: Final = 200
BYTES_MAX: Final = 4_000_000


def in_batches(
    blocks: Iterable[NewBlockBody | Mapping[str, Any]],
) -> Iterator[list[Mapping[str, Any]]]:
    """Lists of 1 to 200 blocks, of at most about 4 MB unless a single block is larger."""
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

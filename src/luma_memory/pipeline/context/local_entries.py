"""Entries this process has seen, kept in memory to save the round trip to Redis.

They are checked against the scope's version like every entry, so an outdated copy may exist here
but is never served.
"""

from __future__ import annotations

from contextlib import suppress

from cachetools import LRUCache

from luma_memory.domain.cache import CacheKey
from luma_memory.pipeline.context.context_entry import Entry

# Overhead of an entry and of each of its blocks, besides their texts, measured with tracemalloc:
# 490 and 660; and of their JSON, which is rendered once and kept as long (api.rendered): 600 and
# 280.
_ENTRY_BYTES = 1_100
_BLOCK_BYTES = 980


class LocalEntries:
    """At most this many bytes of entries, least recently used evicted first; 0 keeps none."""

    def __init__(self, *, size_bytes_max: int) -> None:
        self._entries: LRUCache[CacheKey, Entry] = LRUCache(size_bytes_max, getsizeof=_size_bytes)

    def find(self, key: CacheKey) -> Entry | None:
        return self._entries.get(key)

    def keep(self, key: CacheKey, entry: Entry) -> None:
        self.drop(key)
        # An entry larger than the whole limit is not kept.
        with suppress(ValueError):
            self._entries[key] = entry

    def drop(self, key: CacheKey) -> None:
        """Drop an entry if it exists."""
        self._entries.pop(key, None)

    def drop_owner(self, owner: str) -> None:
        """Drop all entries of an owner."""
        for key in [key for key in self._entries if key.owner == owner]:
            self.drop(key)


def _size_bytes(entry: Entry) -> int:
    blocks = entry.context.blocks
    texts = len(entry.context.text) + sum(len(block.content) for block in blocks)
    # Three bytes per character for entry and JSON together: most take two, some eight.
    return _ENTRY_BYTES + _BLOCK_BYTES * len(blocks) + 3 * texts

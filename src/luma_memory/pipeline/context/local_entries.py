"""Local copies of cache entries, which save the round trip to Redis.

They are checked against the scope's version like every entry, so no outdated copy is returned.
"""

from __future__ import annotations

from collections import OrderedDict

from luma_memory.domain.cache import CacheKey
from luma_memory.pipeline.context.context_entry import Entry

# Overhead of an entry and of each block without their texts, by tracemalloc: 490 and 660;
# and of their rendered JSON, which lives as long (api.rendered): 600 and 280.
_ENTRY_BYTES = 1_100
_BLOCK_BYTES = 980


class LocalEntries:
    """An LRU cache limited in bytes; 0 stores nothing."""

    def __init__(self, *, size_bytes_max: int) -> None:
        self._size_bytes_max = size_bytes_max
        self._entries: OrderedDict[CacheKey, Entry] = OrderedDict()
        self._size_bytes = 0

    def find(self, key: CacheKey) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def keep(self, key: CacheKey, entry: Entry) -> None:
        self.drop(key)
        self._entries[key] = entry
        self._size_bytes += _size_bytes(entry)
        while self._size_bytes > self._size_bytes_max:
            self.drop(next(iter(self._entries)))

    def drop(self, key: CacheKey) -> None:
        """Remove an entry, if present."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size_bytes -= _size_bytes(entry)

    def drop_owner(self, owner: str) -> None:
        """Drop all entries of an owner."""
        for key in [key for key in self._entries if key.owner == owner]:
            self.drop(key)


def _size_bytes(entry: Entry) -> int:
    blocks = entry.context.blocks
    texts = len(entry.context.text) + sum(len(block.content) for block in blocks)
    # Three bytes per character, in both forms: most take two, some eight.
    return _ENTRY_BYTES + _BLOCK_BYTES * len(blocks) + 3 * texts

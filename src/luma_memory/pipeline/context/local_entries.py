"""Entries this process has seen, ready to be served: what spares the way to Redis and back.

They are checked against the scope's version like every entry, so a copy here can be outdated but
never be served as if it were not.
"""

from __future__ import annotations

from contextlib import suppress

from cachetools import LRUCache

from luma_memory.domain.cache import CacheKey
from luma_memory.pipeline.context.context_entry import Entry

# Of an entry and of each of its blocks, beside their texts, measured with tracemalloc: 490 and 660;
# and of the JSON that is written of them once and kept as long (api.rendered): 600 and 280.
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
        # An entry larger than all of the space is not kept.
        with suppress(ValueError):
            self._entries[key] = entry

    def drop(self, key: CacheKey) -> None:
        """Forget an entry; harmless when there is none."""
        self._entries.pop(key, None)

    def drop_owner(self, owner: str) -> None:
        """Drop all entries of an owner."""
        for key in [key for key in self._entries if key.owner == owner]:
            self.drop(key)


def _size_bytes(entry: Entry) -> int:
    blocks = entry.context.blocks
    texts = len(entry.context.text) + sum(len(block.content) for block in blocks)
    # Three bytes a character, kept and written: most have two, some eight.
    return _ENTRY_BYTES + _BLOCK_BYTES * len(blocks) + 3 * texts

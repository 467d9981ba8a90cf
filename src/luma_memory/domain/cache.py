"""Names of cache entries, and the state of a cache."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from luma_memory.domain.scope import Scope

EntryKind = Literal["context", "embedding", "erasure"]
KeyPart: TypeAlias = str | int | float | bool | None

_DIGEST_BYTES = 16
_OWNERS_KEPT = 4_096


@dataclass(frozen=True, slots=True)
class CacheKey:
    """The name of one entry. Holds digests only: no text and no id of a user reaches a cache."""

    kind: EntryKind
    owner: str  # hexadecimal digest of the scope, or of the model
    digest: str  # hexadecimal, of everything else that changes the value

    def __str__(self) -> str:
        return f"{self.kind}:{self.owner}:{self.digest}"


@functools.lru_cache(_OWNERS_KEPT)
def context_owner(scope: Scope) -> str:
    """The owner of every key of a scope."""
    return _digest([scope.project_id, scope.user_id])


def context_key(scope: Scope, parts: Sequence[KeyPart]) -> CacheKey:
    """The key of a scope's result. parts: everything the result depends on, in a fixed order."""
    return CacheKey("context", context_owner(scope), _digest(parts))


def erasure_key(owner: str) -> CacheKey:
    """The key of the marker of an erased scope."""
    return CacheKey("erasure", owner, _digest([]))


def embedding_key(model: str, text: str) -> CacheKey:
    """The key of the vector of a question."""
    return CacheKey("embedding", _digest([model]), _digest([text]))


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """The state of a cache."""

    backend: Literal["redis", "memory"]
    connected: bool
    keys_count: int | None  # None: the cache is unavailable
    memory_used_bytes: int | None


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """Lookups that found an entry, and lookups that did not."""

    hits: int = 0
    misses: int = 0

    def __add__(self, other: CacheCounts) -> CacheCounts:
        return CacheCounts(self.hits + other.hits, self.misses + other.misses)

    @property
    def hit_rate(self) -> float | None:
        """0..1, None without any lookup."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else None


def _digest(parts: Sequence[KeyPart]) -> str:
    """Different parts have different digests: type, length and value of each part are hashed."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        # Text in requests is validated before; in our own text a lone surrogate would raise.
        data = repr(part).encode("utf-8", "backslashreplace")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()

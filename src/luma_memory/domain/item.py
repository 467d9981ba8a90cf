"""Items: blocks that are written and read by a name, each with a JSON value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from luma_memory.domain.block import PassageText
from luma_memory.domain.item_filters import ItemFilter
from luma_memory.domain.scope import Scope

LABELS_MAX: Final = 16
LABEL_CHARACTERS_MAX: Final = 128
KEY_CHARACTERS_MAX: Final = 256
VALUE_BYTES_MAX: Final = 256 * 1024
OPERATIONS_MAX: Final = 1_000

# Which text of a value is searched: JSON paths, all of it, or none.
ItemIndex: TypeAlias = "Sequence[str] | bool"
WriteOutcome = Literal["created", "replaced", "deleted", "missing", "exists", "stale", "reused"]
ItemOrder = Literal["newest", "oldest"]


@dataclass(frozen=True, slots=True)
class ItemName:
    """What an item is written and read by; unique within a scope."""

    namespace: tuple[str, ...]  # 1 to 16 labels of 1 to 128 characters
    key: str  # 1 to 256 characters

    @property
    def id(self) -> UUID:
        """A digest of the name, as short as an index needs it."""
        # As JSON, so that different names never have the same encoding.
        name = json.dumps([*self.namespace, self.key]).encode()
        return UUID(bytes=hashlib.sha256(name).digest()[:16])


@dataclass(frozen=True, slots=True)
class ItemTag:
    """One state of one item: its block, which is another after a deletion, and its revision."""

    id: UUID
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item as it is stored."""

    id: UUID
    name: ItemName
    value: Any
    revision: int
    position: int  # rises in the order in which the scope's items were created
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    score: float | None = None  # of a search by meaning, 0..1

    @property
    def tag(self) -> ItemTag:
        return ItemTag(self.id, self.revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What must hold for a write; of nothing: it always takes place."""

    is_absent: bool = False
    exists: bool = False
    tag: ItemTag | None = None
    never: bool = False  # a tag that is none of ours


ALWAYS: Final = Condition()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestKey:
    """An idempotency key, and the SHA-256 of the request it came with."""

    key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PutItem:
    """Create or replace an item."""

    name: ItemName
    value: Any
    index: ItemIndex = True
    ttl_seconds: float | None = None
    refresh_on_read: bool = False
    condition: Condition = ALWAYS
    request: RequestKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteItem:
    """Delete an item."""

    name: ItemName
    condition: Condition = ALWAYS
    request: RequestKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetItem:
    """Read an item. refresh_ttl: begin its time to live anew; None: as it was written with."""

    name: ItemName
    refresh_ttl: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchItems:
    """Items of namespaces that begin with a prefix; in their order, or by meaning."""

    prefix: tuple[str, ...] = ()
    is_exact: bool = False
    query: str | None = None
    filter: ItemFilter = ()
    limit: int = 10
    offset: int = 0
    order: ItemOrder = "newest"
    after: int | None = None  # a position: only items behind it in the order
    refresh_ttl: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListNamespaces:
    """Namespaces in use. `*` in a prefix or suffix is any one label."""

    prefix: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()
    max_depth: int | None = None
    limit: int = 100
    offset: int = 0


ItemWrite: TypeAlias = PutItem | DeleteItem
ItemRead: TypeAlias = GetItem | SearchItems | ListNamespaces
ItemOperation: TypeAlias = ItemWrite | ItemRead


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedWrite:
    """A write with what the store needs for it."""

    write: ItemWrite
    changed_by: str
    id: UUID  # of the block, if the item is new
    content: str = ""
    passages: Sequence[PassageText] = ()


@dataclass(frozen=True, slots=True)
class PreparedWrites:
    """Writes of one caller, carried out in order and together."""

    scope: Scope
    writes: Sequence[PreparedWrite]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a write; the item's state where it was created or replaced."""

    outcome: WriteOutcome
    id: UUID | None = None
    revision: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Items in order; `next_after` continues the list, None at its end and with a query."""

    items: Sequence[Item]
    next_after: int | None = None
    degraded: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class NamespacePage:
    """Namespaces in alphabetical order."""

    namespaces: Sequence[Sequence[str]]
    has_more: bool


OperationResult: TypeAlias = "Written | Item | ItemPage | NamespacePage | None"

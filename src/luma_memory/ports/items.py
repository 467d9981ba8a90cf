"""Items: blocks that are written and read by a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from luma_memory.domain.item import (
    GetItem,
    Item,
    ItemPage,
    ListNamespaces,
    NamespacePage,
    PreparedWrites,
    SearchItems,
    Written,
)
from luma_memory.domain.scope import Scope


class ItemStore(Protocol):
    """The items of all scopes. All methods raise StoreUnavailable; none returns an expired item."""

    async def write(self, requests: Sequence[PreparedWrites]) -> Sequence[Sequence[Written]]:
        """Carry out writes in one statement, in order; an outcome each.

        Raises StoreContended, soon, while another transaction writes for one of the scopes.
        """
        ...

    async def read(self, scope: Scope, reads: Sequence[GetItem]) -> Sequence[Item | None]:
        """The items in order; None for those that are not there."""
        ...

    async def read_by_id(
        self, scope: Scope, ids: Sequence[UUID], *, refresh_ttl: bool | None
    ) -> Sequence[Item | None]:
        """The items of these blocks, in order; None for those that are not there."""
        ...

    async def page(self, scope: Scope, search: SearchItems) -> ItemPage:
        """Items in their order; the query is not looked at."""
        ...

    async def namespaces(self, scope: Scope, request: ListNamespaces) -> NamespacePage:
        """Namespaces in use, each once."""
        ...

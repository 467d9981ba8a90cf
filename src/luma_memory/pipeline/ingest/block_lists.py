"""List blocks by filter over one scope or several, and delete what a filter chooses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import Final
from uuid import UUID

from luma_memory.concurrency.retries import retry_until
from luma_memory.domain.block import Block
from luma_memory.domain.errors import StoreContended
from luma_memory.domain.scope import Scope
from luma_memory.ports.block_lists import (
    BlockChoice,
    BlockListStore,
    GroupKind,
    GroupPage,
    NumberedPage,
)

# Blocks of one transaction: their user's other writes wait for it, some tens of milliseconds.
DELETED_AT_ONCE: Final = 50
# A job of the user may be completing concurrently, which takes milliseconds.
RETRY_SECONDS: Final = 20.0


class BlockLists:
    """All methods raise StoreUnavailable. user_id: the only user whose blocks count; None: any."""

    def __init__(self, store: BlockListStore) -> None:
        self._store = store

    async def find(
        self, project_id: str, ids: Sequence[UUID], *, user_id: str | None
    ) -> Sequence[Block | None]:
        """The project's blocks in order of the ids; None for those that are missing or foreign."""
        found = {
            block.id: block for block in await self._store.find(project_id, ids, user_id=user_id)
        }
        return [found.get(one) for one in ids]

    async def page(self, choice: BlockChoice, *, offset: int, limit: int) -> NumberedPage:
        """Up to `limit` of the chosen blocks after the first `offset`, newest first."""
        return await self._store.page(choice, offset=offset, limit=limit)

    async def groups(
        self, project_id: str, *, user_id: str | None, offset: int, limit: int
    ) -> GroupPage:
        """Users, agents, applications and runs that have blocks, by kind and name."""
        return await self._store.groups(project_id, user_id=user_id, offset=offset, limit=limit)

    async def delete(self, scope: Scope, ids: Sequence[UUID]) -> int:
        """Delete blocks with all that refers to them; returns how many there were.

        In batches: an interrupted deletion has deleted some of them, and can be repeated.
        """
        deleted = 0
        for start in range(0, len(ids), DELETED_AT_ONCE):
            deleted += await self._delete_batch(scope, ids[start : start + DELETED_AT_ONCE])
        return deleted

    async def delete_chosen(self, choice: BlockChoice) -> int:
        """Delete what a choice contains, also what is stored meanwhile; returns how many."""
        return await self._drain(lambda: self._store.ids(choice, limit=DELETED_AT_ONCE))

    async def delete_group(
        self, project_id: str, kind: GroupKind, name: str, *, user_id: str | None
    ) -> int:
        """Delete all blocks of an agent, an application or a run; returns how many."""
        return await self._drain(
            lambda: self._store.ids_of_group(
                project_id, kind, name, user_id=user_id, limit=DELETED_AT_ONCE * 20
            )
        )

    async def with_replaced(self, scope: Scope, block_id: UUID) -> Sequence[UUID]:
        """A block, and those that it superseded, directly or through another one."""
        return [block_id, *await self._store.replaced_by(scope, block_id)]

    async def _drain(self, some: Callable[[], Awaitable[Sequence[tuple[Scope, UUID]]]]) -> int:
        deleted = 0
        while keys := await some():
            for scope, of_scope in groupby(keys, key=lambda key: key[0]):
                deleted += await self.delete(scope, [block_id for _, block_id in of_scope])
        return deleted

    async def _delete_batch(self, scope: Scope, ids: Sequence[UUID]) -> int:
        return await retry_until(
            lambda: self._store.delete(scope, ids),
            retry_on=StoreContended,
            timeout_seconds=RETRY_SECONDS,
        )

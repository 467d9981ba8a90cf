"""Lists that range over users, merged: each partition contributes at most one page.

A partition that does not respond makes the whole list unavailable: without its users it would be
wrong.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TypeVar
from uuid import UUID

from luma_memory.domain.block import Block
from luma_memory.domain.block_selection import FINGERPRINTS, BlockSelection, SelectedBlocks
from luma_memory.domain.scope import Scope
from luma_memory.domain.user import ListedUser, UserSort
from luma_memory.partitions.router import Parts, Routed
from luma_memory.ports.block_lists import (
    BlockChoice,
    BlockGroup,
    BlockListStore,
    GroupKind,
    GroupPage,
    NumberedPage,
)
from luma_memory.ports.block_selections import BlockSelectionStore, Chosen
from luma_memory.ports.blocks import BlockPage
from luma_memory.ports.user_lists import UserListStore, UserPage, UserPlace

RowT = TypeVar("RowT")
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
# Groups of one partition that are read to be merged with those of others.
GROUPS_MAX: Final = 10_000
_KINDS: Final[Sequence[GroupKind]] = ("user", "agent", "app", "run")


async def page_of_users(
    routed: Routed[UserListStore],
    project_id: str,
    *,
    user_id: str | None,
    prefix: str | None,
    sort: UserSort,
    after: UserPlace | None,
    limit: int,
) -> UserPage:
    async def page(store: UserListStore) -> UserPage:
        return await store.page(
            project_id, user_id=user_id, prefix=prefix, sort=sort, after=after, limit=limit
        )

    if user_id is not None:
        return await routed.of(Scope(project_id, user_id), page)
    pages = await routed.all(page)
    by_id: Callable[[ListedUser], Any] = _by_activity if sort != "user_id" else _by_id
    users = list(islice(heapq.merge(*(one.users for one in pages), key=by_id), limit))
    found = sum(len(one.users) for one in pages)
    has_more = found > limit or any(one.next_place is not None for one in pages)
    return UserPage(users, _place(users[-1]) if has_more and users else None)


def _by_id(user: ListedUser) -> str:
    return user.user_id  # compared by code points, as the database does


def _by_activity(user: ListedUser) -> tuple[float, str]:
    # The hour of an activity, by which partitions sort first, follows from its time.
    return -(user.user.last_ingest_at or _LONG_AGO).timestamp(), user.user_id


def _place(user: ListedUser) -> UserPlace:
    at = user.user.last_ingest_at
    hour = None if at is None else at.replace(minute=0, second=0, microsecond=0)
    return UserPlace(hour, at, user.user_id)


async def find_blocks(
    routed: Routed[BlockListStore], project_id: str, ids: Sequence[UUID], *, user_id: str | None
) -> Sequence[Block]:
    async def find(store: BlockListStore) -> Sequence[Block]:
        return await store.find(project_id, ids, user_id=user_id)

    if user_id is not None:
        return await routed.of(Scope(project_id, user_id), find)
    return [block for found in await routed.all(find) for block in found]


async def page_of_choice(
    routed: Routed[BlockListStore], choice: BlockChoice, *, offset: int, limit: int
) -> NumberedPage:
    async def read(positions: Parts) -> NumberedPage:
        parts = _choices(choice, positions)
        if len(parts) <= 1:
            number = next(iter(parts), 0)
            return await routed.at(
                number, lambda store: store.page(choice, offset=offset, limit=limit)
            )
        pages = [
            await routed.at(number, _chosen_page(part, offset + limit))
            for number, part in parts.items()
        ]
        blocks = heapq.merge(*(page.blocks for page in pages), key=lambda b: b.id, reverse=True)
        return NumberedPage(
            list(islice(blocks, offset, offset + limit)), sum(page.count for page in pages)
        )

    return await routed.with_parts(list(choice.scopes), read)


def _chosen_page(part: BlockChoice, limit: int) -> Callable[[BlockListStore], Any]:
    return lambda store: store.page(part, offset=0, limit=limit)


async def ids_of_choice(
    routed: Routed[BlockListStore], choice: BlockChoice, *, limit: int
) -> Sequence[tuple[Scope, UUID]]:
    async def read(positions: Parts) -> Sequence[tuple[Scope, UUID]]:
        found: list[tuple[Scope, UUID]] = []
        for number, part in _choices(choice, positions).items():
            if len(found) < limit:
                found += await routed.at(number, _chosen_ids(part, limit - len(found)))
        return found

    return await routed.with_parts(list(choice.scopes), read)


def _chosen_ids(part: BlockChoice, limit: int) -> Callable[[BlockListStore], Any]:
    return lambda store: store.ids(part, limit=limit)


def _choices(choice: BlockChoice, parts: Parts) -> dict[int, BlockChoice]:
    scopes = list(choice.scopes)
    return {
        number: replace(choice, scopes={scopes[n]: choice.scopes[scopes[n]] for n in positions})
        for number, positions in parts.items()
    }


async def ids_of_group(
    routed: Routed[BlockListStore],
    project_id: str,
    kind: GroupKind,
    name: str,
    *,
    user_id: str | None,
    limit: int,
) -> Sequence[tuple[Scope, UUID]]:
    async def ids(store: BlockListStore) -> Sequence[tuple[Scope, UUID]]:
        return await store.ids_of_group(project_id, kind, name, user_id=user_id, limit=limit)

    if user_id is not None:
        return await routed.of(Scope(project_id, user_id), ids)
    return _first(await routed.all(ids), limit)


async def groups(
    routed: Routed[BlockListStore],
    project_id: str,
    *,
    user_id: str | None,
    offset: int,
    limit: int,
) -> GroupPage:
    """An agent, an application or a run may have blocks of users in several partitions."""
    if user_id is not None:
        return await routed.of(
            Scope(project_id, user_id),
            lambda store: store.groups(project_id, user_id=user_id, offset=offset, limit=limit),
        )
    pages = await routed.all(
        lambda store: store.groups(project_id, user_id=None, offset=0, limit=GROUPS_MAX)
    )
    found: dict[tuple[GroupKind, str], BlockGroup] = {}
    for group in (group for page in pages for group in page.groups):
        key = (group.kind, group.name)
        found[key] = _together(found[key], group) if key in found else group
    listed = sorted(found.values(), key=lambda group: (_KINDS.index(group.kind), group.name))
    return GroupPage(listed[offset : offset + limit], len(listed))


def _together(one: BlockGroup, other: BlockGroup) -> BlockGroup:
    return replace(
        one,
        block_count=one.block_count + other.block_count,
        first_at=min(one.first_at, other.first_at),
        last_at=max(one.last_at, other.last_at),
    )


async def page_of_selection(
    routed: Routed[BlockSelectionStore],
    selection: BlockSelection,
    *,
    before: UUID | None,
    limit: int,
) -> BlockPage:
    async def page(store: BlockSelectionStore) -> BlockPage:
        return await store.page(selection, before=before, limit=limit)

    if selection.user_id is not None:
        return await routed.of(Scope(selection.project_id, selection.user_id), page)
    pages = await routed.all(page)
    # A partition has reported all of its blocks down to there; older ones of others come later.
    frontier = max((one.next_before for one in pages if one.next_before is not None), default=None)
    blocks = [
        block
        for block in heapq.merge(*(one.blocks for one in pages), key=lambda b: b.id, reverse=True)
        if frontier is None or block.id >= frontier
    ]
    if len(blocks) > limit:
        return BlockPage(blocks[:limit], blocks[limit - 1].id)
    return BlockPage(blocks, frontier)


async def chosen(
    routed: Routed[BlockSelectionStore],
    selection: BlockSelection,
    *,
    through: UUID | None,
    limit: int,
) -> Chosen:
    async def choose(store: BlockSelectionStore) -> Chosen:
        return await store.chosen(selection, through=through, limit=limit)

    if selection.user_id is not None:
        return await routed.of(Scope(selection.project_id, selection.user_id), choose)
    parts = await routed.all(choose)
    wholes = [part.whole for part in parts]
    newest = [whole.through for whole in wholes if whole.through is not None]
    return Chosen(
        SelectedBlocks(
            sum(whole.count for whole in wholes),
            max(newest, default=None),
            sum(whole.fingerprint for whole in wholes) % FINGERPRINTS,
        ),
        _first([part.first for part in parts], limit),
    )


def _first(rows: Iterable[Sequence[RowT]], limit: int) -> list[RowT]:
    return list(islice((row for found in rows for row in found), limit))

"""Lists of blocks by filter, over one owner or several, and their deletion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from luma_memory.domain.block import Block
from luma_memory.domain.filters import Filter
from luma_memory.domain.scope import Scope

# What blocks are grouped by: their user, or a property that blocks of several users may share.
GroupKind = Literal["user", "agent", "app", "run"]


@dataclass(frozen=True, slots=True)
class BlockChoice:
    """Which blocks of which scopes of one project; None as a filter is all of a scope's."""

    scopes: Mapping[Scope, Filter | None]
    include_expired: bool = False
    include_superseded: bool = True


@dataclass(frozen=True, slots=True)
class NumberedPage:
    """Some of the chosen blocks, newest first, and how many there are in all."""

    blocks: Sequence[Block]
    count: int


@dataclass(frozen=True, slots=True)
class BlockGroup:
    """The blocks of one user, agent, application or run."""

    kind: GroupKind
    name: str
    block_count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class GroupPage:
    """Some groups, and how many there are in all."""

    groups: Sequence[BlockGroup]
    count: int


class BlockListStore(Protocol):
    """All methods raise StoreUnavailable. user_id: the only user they may see; None for any of the
    project."""

    async def find(
        self, project_id: str, ids: Sequence[UUID], *, user_id: str | None
    ) -> Sequence[Block]:
        """The blocks with these ids, in any order; foreign and missing ids yield none alike."""
        ...

    async def page(self, choice: BlockChoice, *, offset: int, limit: int) -> NumberedPage:
        """One page of the chosen blocks."""
        ...

    async def ids(self, choice: BlockChoice, *, limit: int) -> Sequence[tuple[Scope, UUID]]:
        """Some of the chosen blocks."""
        ...

    async def ids_of_group(
        self, project_id: str, kind: GroupKind, name: str, *, user_id: str | None, limit: int
    ) -> Sequence[tuple[Scope, UUID]]:
        """Some blocks of an agent, an application or a run, of all users. Reads every block."""
        ...

    async def replaced_by(self, scope: Scope, block_id: UUID) -> Sequence[UUID]:
        """The blocks that this one superseded, and those that they superseded."""
        ...

    async def groups(
        self, project_id: str, *, user_id: str | None, offset: int, limit: int
    ) -> GroupPage:
        """Users, agents, applications and runs that have blocks. Reads every block."""
        ...

    async def delete(self, scope: Scope, ids: Sequence[UUID]) -> int:
        """Delete blocks of one scope with all that refers to them, in one transaction; how many
        there were. Raises StoreContended."""
        ...

"""Lists of a project's users, and of a user's sessions and terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from luma_memory.domain.scope import Scope
from luma_memory.domain.user import ListedUser, Session, TermProfile, UserSort


@dataclass(frozen=True, slots=True)
class UserPlace:
    """Where a list of users continues: after this one."""

    active_hour: datetime | None  # None: before any hour
    last_activity_at: datetime | None
    user_id: str


@dataclass(frozen=True, slots=True)
class UserPage:
    """Some users; `next_place` continues the list, None at its end."""

    users: Sequence[ListedUser]
    next_place: UserPlace | None


@dataclass(frozen=True, slots=True)
class SessionPlace:
    """Where a list of sessions continues: after this one."""

    last_created_at: datetime
    session_id: str


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions; `next_place` continues the list, None at its end."""

    sessions: Sequence[Session]
    next_place: SessionPlace | None


class UserListStore(Protocol):
    """All methods raise StoreUnavailable."""

    async def page(
        self,
        project_id: str,
        *,
        user_id: str | None,
        prefix: str | None,
        sort: UserSort,
        after: UserPlace | None,
        limit: int,
    ) -> UserPage:
        """Users whose id begins with the prefix, in code points: the last active first, or by id.

        user_id: the only user that is listed; None for any.
        """
        ...

    async def sessions(
        self, scope: Scope, *, after: SessionPlace | None, limit: int, prefix: str | None = None
    ) -> SessionPage:
        """Sessions by their last block, newest first. Reads every block of the user.

        prefix: of the session's id, in code points; None for all.
        """
        ...

    async def terms(self, scope: Scope, *, limit: int) -> TermProfile:
        """The most frequent tags of the newest 10,000 blocks; on a tie, the latest first."""
        ...

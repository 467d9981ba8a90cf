"""Users' own settings."""

from __future__ import annotations

from luma_memory.domain.errors import Invalid
from luma_memory.domain.scope import Scope
from luma_memory.domain.user import TermProfile, User, UserSort
from luma_memory.domain.weeks import is_time_zone
from luma_memory.ports.accounts import UserStore
from luma_memory.ports.user_lists import (
    SessionPage,
    SessionPlace,
    UserListStore,
    UserPage,
    UserPlace,
)


class Users:
    """Read and change the settings of users; list users, their sessions and their terms."""

    def __init__(self, store: UserStore, lists: UserListStore) -> None:
        self._store = store
        self._lists = lists

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
        """Users whose id begins with the prefix. user_id: the only one that is listed."""
        return await self._lists.page(
            project_id, user_id=user_id, prefix=prefix, sort=sort, after=after, limit=limit
        )

    async def sessions(
        self, scope: Scope, *, after: SessionPlace | None, limit: int, prefix: str | None = None
    ) -> SessionPage:
        """Sessions of a user, the one with the newest block first."""
        return await self._lists.sessions(scope, prefix=prefix, after=after, limit=limit)

    async def terms(self, scope: Scope, *, limit: int) -> TermProfile:
        """The most frequent tags of a user's newest blocks."""
        return await self._lists.terms(scope, limit=limit)

    async def read(self, scope: Scope) -> User:
        """The settings of a user; an unknown user has the defaults."""
        return await self._store.read(scope)

    async def set_time_zone(self, scope: Scope, time_zone: str) -> User:
        """Set the time zone of the user's weeks.

        Raises Invalid (code time_zone_unknown) for a name that is not in the IANA database.
        """
        if not is_time_zone(time_zone):
            raise Invalid(
                "This time zone is not in the IANA database; an example is Europe/Lisbon",
                code="time_zone_unknown",
                field="time_zone",
            )
        return await self._store.set_time_zone(scope, time_zone)

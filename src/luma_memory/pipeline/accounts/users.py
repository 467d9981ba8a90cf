"""Users' own settings."""

from __future__ import annotations

from luma_memory.domain.errors import Invalid
from luma_memory.domain.scope import Scope
from luma_memory.domain.user import User
from luma_memory.domain.weeks import is_time_zone
from luma_memory.ports.accounts import UserStore


class Users:
    """Read and change the settings of users."""

    def __init__(self, store: UserStore) -> None:
        self._store = store

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

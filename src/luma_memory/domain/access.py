"""Who asks, and what they may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from luma_memory.domain.errors import Forbidden
from luma_memory.domain.scope import DEFAULT_PROJECT, Scope

Permission = Literal["ingest", "read", "admin"]
EVERY_PERMISSION: Sequence[Permission] = get_args(Permission)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whose credentials were checked: they name the project, and nothing else does."""

    project_id: str
    permissions: frozenset[Permission]
    user_id: str | None = None  # the only user they may ask for; None: any of the project
    name: str = "local"  # what limits are counted by and changes are signed with; never a secret

    def check_may(self, permission: Permission) -> None:
        """Raises Forbidden (code permission_missing)."""
        if permission not in self.permissions:
            raise Forbidden(
                f"This needs the permission `{permission}`, which these credentials do not have",
                code="permission_missing",
            )

    def scope(self, user_id: str) -> Scope:
        """The scope of a user they may ask for. Raises Forbidden (code user_not_allowed)."""
        if self.user_id is not None and user_id != self.user_id:
            raise Forbidden(
                "These credentials are for one user, and not for this one", code="user_not_allowed"
            )
        return Scope(self.project_id, user_id)

    def narrowed(self, user_id: str | None) -> str | None:
        """The user to narrow a question about the project to; None for all of its users.

        Raises as `scope`.
        """
        return self.user_id if user_id is None else self.scope(user_id).user_id


# Whoever reaches a service that has no keys and listens on loopback only.
ANONYMOUS = Caller(DEFAULT_PROJECT, frozenset(EVERY_PERMISSION))


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored: everything but the key."""

    prefix: str  # the key's own beginning; unique, no secret
    project_id: str
    user_id: str | None
    permissions: frozenset[Permission]
    name: str | None
    created_at: datetime
    last_used_at: datetime | None = None  # to the minute
    revoked_at: datetime | None = None

    @property
    def caller(self) -> Caller:
        return Caller(self.project_id, self.permissions, self.user_id, f"key {self.prefix}")

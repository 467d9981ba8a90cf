"""Callers, their permissions, and API keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from luma_memory.domain.errors import Forbidden, PermissionMissing
from luma_memory.domain.scope import DEFAULT_PROJECT, Scope

Permission = Literal["ingest", "read", "admin"]
EVERY_PERMISSION: Sequence[Permission] = get_args(Permission)
# Every key begins with it, for scanners that look for secrets.
KEY_MARKER: Final = "lmk_"
_KEY: Final = "key"
# The name of every end user that an access token identifies.
END_USER_CALLER: Final = "access token"
# An access token that names one of these scopes is limited to those it names.
OAUTH_SCOPES: Final[Mapping[str, Permission]] = {"memory:read": "read", "memory:write": "ingest"}


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. The project is determined by the credentials alone."""

    project_id: str
    permissions: frozenset[Permission]
    user_id: str | None = None  # the only user they may access; None: any user of the project
    name: str = "local"  # identifies the caller in rate limits and revisions; never a secret

    @property
    def prefix(self) -> str | None:
        """Of the caller's API key; None for other credentials."""
        start, _, prefix = self.name.partition(" ")
        return prefix if start == _KEY and prefix.startswith(KEY_MARKER) else None

    def check_may(self, permission: Permission) -> None:
        """Raises PermissionMissing."""
        if permission not in self.permissions:
            raise PermissionMissing(permission)

    def scope(self, user_id: str) -> Scope:
        """The scope of a user. Raises Forbidden (code user_not_allowed)."""
        if self.user_id is not None and user_id != self.user_id:
            raise Forbidden(
                "These credentials are limited to another user", code="user_not_allowed"
            )
        return Scope(self.project_id, user_id)

    def check_sees_installation(self) -> None:
        """Check access to numbers over all users. Raises Forbidden (code user_not_allowed)."""
        if self.user_id is not None:
            raise Forbidden(
                "These credentials are for one user, and these numbers cover all users",
                code="user_not_allowed",
            )

    def check_operates_installation(self) -> None:
        """Check the right to change what all projects share, as the queue. Raises Forbidden
        (user_not_allowed,
        project_not_allowed)."""
        self.check_sees_installation()
        if self.project_id != DEFAULT_PROJECT:
            raise Forbidden(
                f"All projects share this: it needs credentials of the project {DEFAULT_PROJECT}",
                code="project_not_allowed",
            )

    def narrowed(self, user_id: str | None) -> str | None:
        """The user to restrict a query over the project to; None for all of its users.

        Raises as `scope`.
        """
        return self.user_id if user_id is None else self.scope(user_id).user_id


# What an end user may do with their own memory.
END_USER_PERMISSIONS: frozenset[Permission] = frozenset({"ingest", "read"})


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A verified access token: its user and what it permits."""

    subject: str
    permissions: frozenset[Permission]


# The caller of a service that has no keys and listens on loopback only.
ANONYMOUS = Caller(DEFAULT_PROJECT, frozenset(EVERY_PERMISSION))


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key, without its secret part."""

    prefix: str  # the first part of the key; unique and not secret
    project_id: str
    user_id: str | None
    permissions: frozenset[Permission]
    name: str | None
    created_at: datetime
    last_used_at: datetime | None = None  # accurate to the minute
    revoked_at: datetime | None = None

    @property
    def caller(self) -> Caller:
        return Caller(self.project_id, self.permissions, self.user_id, f"{_KEY} {self.prefix}")

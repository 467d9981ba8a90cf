"""Create, list and revoke API keys."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Collection, Sequence
from typing import Final

from luma_memory.domain.access import KEY_MARKER, ApiKey, Caller, Permission
from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import Conflict, Invalid, NotFound
from luma_memory.ports.accounts import KeyFilter, KeyPage, KeyPlace, KeyStore, StoredKey

# A marker for secret scanners, the lookup prefix, then 256 random bits.
_FORM: Final = re.compile(r"(lmk_[a-z2-7]{12})_[A-Za-z0-9_-]{43}")
_SECRET_BYTES: Final = 32


def prefix_of(credentials: str) -> str | None:
    """The prefix of credentials that have the form of a key, else None."""
    form = _FORM.fullmatch(credentials)
    return form[1] if form else None


def hash_of(credentials: str) -> bytes:
    """SHA-256. Slow hashes protect passwords; a key has 256 random bits."""
    return hashlib.sha256(credentials.encode("utf-8", "surrogateescape")).digest()


class Keys:
    """All methods raise StoreUnavailable."""

    def __init__(self, store: KeyStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(
        self,
        permissions: Collection[Permission],
        *,
        project_id: str,
        user_id: str | None = None,
        name: str | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its text, which is not stored and cannot be shown again.

        Raises Invalid without a permission.
        """
        if not permissions:
            raise Invalid("A key needs at least one permission", code="permissions_missing")
        prefix = KEY_MARKER + base64.b32encode(secrets.token_bytes(8))[:12].decode().lower()
        text = f"{prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        key = ApiKey(prefix, project_id, user_id, frozenset(permissions), name, self._clock.now())
        return await self._store.create(StoredKey(key, hash_of(text))), text

    async def create_for(
        self,
        caller: Caller,
        permissions: Collection[Permission],
        *,
        user_id: str | None,
        name: str | None,
        is_open: bool,
    ) -> tuple[ApiKey, str]:
        """As `create`, for a caller, who cannot grant more than they have.

        is_open: callers need no credentials, because there are no keys yet. Raises Forbidden
        (permission_missing, user_not_allowed), and Conflict (first_key_not_admin) for a first key
        that no further one could be created with.
        """
        for permission in permissions:
            caller.check_may(permission)
        user_id = caller.narrowed(user_id)
        if is_open and (user_id is not None or "admin" not in permissions):
            raise Conflict(
                "After the first key, every request needs one: the first needs the permission"
                " `admin` and no user, or no other could be created",
                code="first_key_not_admin",
            )
        return await self.create(
            permissions, project_id=caller.project_id, user_id=user_id, name=name
        )

    async def of_caller(self, caller: Caller) -> ApiKey | None:
        """The key that a caller has; None for a caller with other credentials or none."""
        if caller.prefix is None:
            return None
        stored = await self._store.find(caller.prefix)
        return None if stored is None else stored.key

    async def page(self, which: KeyFilter, *, after: KeyPlace | None, limit: int) -> KeyPage:
        """Keys, newest first."""
        return await self._store.page(which, after=after, limit=limit)

    async def revoke_for(self, caller: Caller, prefix: str) -> ApiKey:
        """As `revoke`, a key that the caller may see. Raises NotFound, also for any other."""
        stored = await self._store.find(prefix)
        if stored is None or not _is_visible(stored.key, caller):
            raise NotFound("There is no key with this prefix", code="key_not_found")
        return await self.revoke(prefix)

    async def list(self, *, project_id: str | None) -> Sequence[ApiKey]:
        """Every key, revoked ones included, oldest first; of one project, or of all."""
        return await self._store.list(project_id=project_id)

    async def revoke(self, prefix: str) -> ApiKey:
        """Revoke a key permanently, by its prefix or its full text. Raises NotFound."""
        revoked = await self._store.revoke(prefix_of(prefix) or prefix)
        if revoked is None:
            raise NotFound("There is no key with this prefix", code="key_not_found")
        return revoked


def _is_visible(key: ApiKey, caller: Caller) -> bool:
    return key.project_id == caller.project_id and caller.user_id in (None, key.user_id)

"""API keys, tokens, users, prices and usage."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from luma_memory.domain.access import AccessToken, ApiKey
from luma_memory.domain.enrichment import ModelCall
from luma_memory.domain.scope import Scope
from luma_memory.domain.usage import PriceTable, Spent, UsageEntry, UsageFilter
from luma_memory.domain.user import User


class Prices(Protocol):
    """Prices of models."""

    def cost_usd(self, call: ModelCall) -> Decimal | None:
        """US dollars; None where no price is known."""
        ...

    def knows(self, model: str) -> bool:
        """Whether there is a price for a model ("vendor/model")."""
        ...

    @property
    def table(self) -> PriceTable: ...


class UsageStore(Protocol):
    """The usage of all scopes. All methods raise StoreUnavailable."""

    async def add(self, entries: Sequence[UsageEntry]) -> Collection[Scope]:
        """Add to the counts, without waiting for locked users.

        Returns the scopes whose users' rows another transaction has locked: their entries were not
        added and are to be added later.
        """
        ...

    async def spent(self, keys: Sequence[tuple[Scope, date]]) -> Sequence[Spent]:
        """The usage of each scope on that day, in order of the keys."""
        ...

    async def lines(self, which: UsageFilter, *, limit: int) -> Sequence[UsageEntry]:
        """Day, operation and model, newest day first; scopes are added up unless one is named."""
        ...


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key with the SHA-256 of its full text."""

    key: ApiKey
    key_hash: bytes


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Keys of a project, or of one of its users."""

    project_id: str
    user_id: str | None
    include_revoked: bool


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a list of keys continues: after this one."""

    created_at: datetime
    prefix: str


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Some keys, newest first; `next_place` continues the list, None at its end."""

    keys: Sequence[ApiKey]
    next_place: KeyPlace | None


class KeyStore(Protocol):
    """API keys. All methods raise StoreUnavailable."""

    async def create(self, stored: StoredKey) -> ApiKey:
        """Store a new key; it as it is stored."""
        ...

    async def list(self, *, project_id: str | None) -> Sequence[ApiKey]:
        """Every key, also revoked ones, oldest first; of one project, or of all."""
        ...

    async def page(self, which: KeyFilter, *, after: KeyPlace | None, limit: int) -> KeyPage:
        """Keys, newest first."""
        ...

    async def revoke(self, prefix: str) -> ApiKey | None:
        """Revoke a key for good; None if there is none. Idempotent."""
        ...

    async def find(self, prefix: str) -> StoredKey | None:
        """The key of that prefix, also a revoked one."""
        ...

    async def any_exists(self) -> bool:
        """Whether there ever was a key, revoked ones included."""
        ...

    async def note_used(self, prefixes: Collection[str]) -> None:
        """These keys were used just now."""
        ...


class TokenVerifier(Protocol):
    """Verifies access tokens that another issuer gives to end users."""

    async def verify(self, token: str) -> AccessToken:
        """The token's content. Raises Unauthenticated, or ProviderUnavailable."""
        ...

    async def close(self) -> None:
        """Free all resources. Idempotent."""
        ...


class UserStore(Protocol):
    """Users' own settings. All methods raise StoreUnavailable."""

    async def read(self, scope: Scope) -> User:
        """The user; an unknown one is returned with the defaults they would start with."""
        ...

    async def set_time_zone(self, scope: Scope, time_zone: str) -> User:
        """A missing user is created. Raises Invalid for a zone PostgreSQL does not know."""
        ...

"""API keys, tokens, users, prices and usage."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Protocol

from luma_memory.domain.access import AccessToken, ApiKey
from luma_memory.domain.enrichment import ModelCall
from luma_memory.domain.scope import Scope
from luma_memory.domain.usage import PriceTable, Spent, UsageEntry, UsageFilter
from luma_memory.domain.user import User


class Prices(Protocol):
    """What calls cost."""

    def cost_usd(self, call: ModelCall) -> Decimal | None:
        """US dollars; None where no price is known."""
        ...

    def knows(self, model: str) -> bool:
        """Whether there is a price for a model ("vendor/model")."""
        ...

    @property
    def table(self) -> PriceTable: ...


class UsageStore(Protocol):
    """The account of all scopes. All methods raise StoreUnavailable."""

    async def add(self, entries: Sequence[UsageEntry]) -> Collection[Scope]:
        """Add to what is counted, without waiting for locked users.

        Returns the scopes whose users' rows another transaction has locked: their entries were not
        added and are to be added later.
        """
        ...

    async def spent(self, keys: Sequence[tuple[Scope, date]]) -> Sequence[Spent]:
        """What each scope took on that day, in order of the keys."""
        ...

    async def lines(self, which: UsageFilter, *, limit: int) -> Sequence[UsageEntry]:
        """Day, operation and model, newest day first; scopes are added up unless one is named."""
        ...


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key with the SHA-256 of all of it."""

    key: ApiKey
    key_hash: bytes


class KeyStore(Protocol):
    """API keys. All methods raise StoreUnavailable."""

    async def create(self, stored: StoredKey) -> ApiKey:
        """Store a new key; it as it is stored."""
        ...

    async def list(self, *, project_id: str | None) -> Sequence[ApiKey]:
        """Every key, also revoked ones, oldest first; of one project, or of all."""
        ...

    async def revoke(self, prefix: str) -> ApiKey | None:
        """End a key for good; None when there is none. Repeating it changes nothing."""
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
    """Access tokens that another issuer gives to end users."""

    async def verify(self, token: str) -> AccessToken:
        """The token's content. Raises Unauthenticated, or ProviderUnavailable."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


class UserStore(Protocol):
    """Users' own settings. All methods raise StoreUnavailable."""

    async def read(self, scope: Scope) -> User:
        """The user; one who is not there is answered as they would be."""
        ...

    async def set_time_zone(self, scope: Scope, time_zone: str) -> User:
        """From now on; the user is made if need be. Raises Invalid for one unknown there."""
        ...

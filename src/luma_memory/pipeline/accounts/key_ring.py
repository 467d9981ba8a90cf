"""Authenticates callers; keys are cached for less than a minute.

Failed attempts, with an unknown prefix or a wrong secret, are counted per address. Above the limit,
an address gets a rate-limit error instead of the verdict on its credentials. Valid keys are not
limited, so a client that shares the address of an attacker is not affected.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, TypeVar

from luma_memory.concurrency.deadline import within
from luma_memory.concurrency.token_buckets import TokenBuckets
from luma_memory.domain.access import ANONYMOUS, END_USER_CALLER, EVERY_PERMISSION, Caller
from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError, StoreUnavailable, Unauthenticated
from luma_memory.domain.scope import DEFAULT_PROJECT
from luma_memory.pipeline.accounts.keys import hash_of, prefix_of
from luma_memory.pipeline.accounts.rate_limits import check_rate
from luma_memory.ports.accounts import KeyStore, StoredKey, TokenVerifier

ResultT = TypeVar("ResultT")

# A cached key is checked again after the first time and trusted until the second: even a process
# without its database rejects a key that was revoked a minute ago.
FRESH_SECONDS = 20.0
TRUSTED_SECONDS = 50.0
# A hanging database is not queried again for every request.
RETRY_SECONDS = 2.0
# A request with a cached key may be served from the context cache even while the database hangs.
LOOK_UP_SECONDS = 0.5
# A request with any other key cannot be served without the database, so it waits for a busy one as
# other statements do; that one hangs is detected below, for all statements.
FIRST_LOOK_UP_SECONDS = 5.0
# After the first key is created, callers without a key are rejected this soon.
OPEN_SECONDS = 1.0
KEYS_MAX = 10_000
ATTEMPTS_PER_MINUTE = 20
# From all addresses together: behind a proxy, a client can name a new address in each request.
ATTEMPTS_OF_ALL_PER_MINUTE = 200
# Lookups of keys that are not cached, from all addresses: limits the database load of attacks.
LOOK_UPS_PER_MINUTE = 3_000
_TOO_MANY = "too_many_attempts"
NOTE_SECONDS = 30.0
_NEVER: Final = float("-inf")


@dataclass(slots=True)
class _Known:
    stored: StoredKey
    checked_at: float  # monotonic
    tried_at: float


class KeyRing:
    """Authenticates the callers of one process.

    admin_key: an additional key with every permission on the default project. tokens: verifies
    end users' access tokens. open_without_keys: callers need no credentials until the first key is
    created. required: False disables authentication.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        admin_key: str | None,
        tokens: TokenVerifier | None,
        open_without_keys: bool,
        required: bool,
        clock: Clock,
    ) -> None:
        self._store = store
        self._admin_hash = hash_of(admin_key) if admin_key is not None else None
        self._tokens = tokens
        self._open_without_keys = open_without_keys
        self._required = required
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._looking: dict[str, asyncio.Task[StoredKey | None]] = {}
        self._attempts = TokenBuckets(ATTEMPTS_PER_MINUTE, monotonic=clock.monotonic)
        self._all_attempts = TokenBuckets(ATTEMPTS_OF_ALL_PER_MINUTE, monotonic=clock.monotonic)
        self._look_ups = TokenBuckets(LOOK_UPS_PER_MINUTE, monotonic=clock.monotonic)
        self._used: set[str] = set()
        self._keys_exist = False
        self._checked_at = _NEVER
        self._first_check = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def required(self) -> bool:
        """Whether credentials are required, now or once there are keys."""
        return self._required

    async def is_open(self) -> bool:
        """Whether callers need no credentials, because no key exists. Raises StoreUnavailable."""
        if not self._required:
            return True
        if not self._open_without_keys or self._keys_exist:
            return False
        if self._checked_at == _NEVER:
            # All wait for the first check: before its end, no caller is known to need no key.
            async with self._first_check:
                if self._checked_at == _NEVER:
                    check = _in_time(self._store.any_exists(), FIRST_LOOK_UP_SECONDS)
                    self._keys_exist = await check
                    self._checked_at = self._clock.monotonic()
        elif (now := self._clock.monotonic()) - self._checked_at > OPEN_SECONDS:
            # Set before the query, so that one request runs it and the others continue.
            self._checked_at = now
            with contextlib.suppress(StoreUnavailable):
                self._keys_exist = await _in_time(self._store.any_exists(), LOOK_UP_SECONDS)
        return not self._keys_exist

    def note_created(self) -> None:
        """A key exists now: this process requires credentials from the next request on."""
        self._keys_exist = True

    async def has_any(self) -> bool:
        """Whether any credentials can be valid. Raises StoreUnavailable."""
        is_configured = self._admin_hash is not None or self._tokens is not None
        return is_configured or await self._store.any_exists()

    async def caller(self, credentials: str | None, *, address: str) -> Caller:
        """The caller with these credentials.

        Raises Unauthenticated (the same for malformed, revoked and unknown ones), QuotaExceeded for
        an address with too many failures, StoreUnavailable and ProviderUnavailable.
        """
        if await self.is_open():
            return ANONYMOUS
        if credentials is None:
            raise Unauthenticated(
                "Send credentials: Authorization: Bearer <key>, or X-API-Key",
                code="credentials_missing",
            )
        if self._admin_hash and hmac.compare_digest(hash_of(credentials), self._admin_hash):
            return Caller(DEFAULT_PROJECT, frozenset(EVERY_PERMISSION), name="admin key")
        if (prefix := prefix_of(credentials)) is not None:
            return await self._of_key(credentials, prefix, address)
        if self._tokens is not None and credentials.count(".") == 2:
            return await self._of_token(self._tokens, credentials, address)
        self._count_failure(address)
        raise _refused()

    async def start(self) -> None:
        """Start recording when keys are used. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._note_often(), name="key-ring")

    async def close(self) -> None:
        """Record the remaining uses. Idempotent; harmless before start."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self._note()
        if self._tokens is not None:
            await self._tokens.close()

    async def _of_key(self, credentials: str, prefix: str, address: str) -> Caller:
        known = self._known.get(prefix)
        if known is None and prefix not in self._looking:
            check_rate(self._look_ups, "all", "Too many requests with unknown keys", code=_TOO_MANY)
        stored = await self._stored(prefix, known)
        right = stored is not None and hmac.compare_digest(hash_of(credentials), stored.key_hash)
        if stored is None or not right or stored.key.revoked_at is not None:
            self._count_failure(address)
            raise _refused()
        self._used.add(prefix)
        return stored.key.caller

    def _count_failure(self, address: str) -> None:
        check_rate(
            self._attempts,
            address,
            "Too many failed authentications from this address",
            code=_TOO_MANY,
        )
        check_rate(self._all_attempts, "all", "Too many failed authentications", code=_TOO_MANY)

    async def _of_token(self, tokens: TokenVerifier, token: str, address: str) -> Caller:
        try:
            verified = await tokens.verify(token)
        except Unauthenticated:
            self._count_failure(address)
            raise
        return Caller(DEFAULT_PROJECT, verified.permissions, verified.subject, END_USER_CALLER)

    async def _stored(self, prefix: str, known: _Known | None) -> StoredKey | None:
        now = self._clock.monotonic()
        if known is not None:
            if now - known.checked_at < FRESH_SECONDS:
                self._known.move_to_end(prefix)
                return known.stored
            trusted = now - known.checked_at < TRUSTED_SECONDS
            if trusted and now - known.tried_at < RETRY_SECONDS:
                return known.stored
            known.tried_at = now
            try:
                return await self._look_up(prefix)
            except StoreUnavailable:
                if trusted:
                    return known.stored
                raise
        return await self._look_up(prefix)

    async def _look_up(self, prefix: str) -> StoredKey | None:
        """The stored key; concurrent requests for it share one lookup."""
        task = self._looking.get(prefix)
        if task is None:
            task = self._looking[prefix] = asyncio.create_task(self._find(prefix))
            task.add_done_callback(lambda _task: self._looking.pop(prefix, None))
        return await asyncio.shield(task)

    async def _find(self, prefix: str) -> StoredKey | None:
        checked_at = self._clock.monotonic()
        seconds = LOOK_UP_SECONDS if prefix in self._known else FIRST_LOOK_UP_SECONDS
        stored = await _in_time(self._store.find(prefix), seconds)
        if stored is None:
            self._known.pop(prefix, None)
            return None
        self._known[prefix] = _Known(stored, checked_at, checked_at)
        self._known.move_to_end(prefix)
        while len(self._known) > KEYS_MAX:
            self._known.popitem(last=False)
        return stored

    async def _note_often(self) -> None:
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            await self._note()

    async def _note(self) -> None:
        used, self._used = self._used, set()
        if used:
            # A lost record of the last use is not worth an error.
            with contextlib.suppress(LumaMemoryError):
                await self._store.note_used(used)


async def _in_time(look_up: Awaitable[ResultT], seconds: float) -> ResultT:
    try:
        return await within(look_up, seconds)
    except TimeoutError:
        raise StoreUnavailable("PostgreSQL does not respond in time") from None


def _refused() -> Unauthenticated:
    return Unauthenticated("These credentials are invalid")

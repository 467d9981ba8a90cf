"""Who asks? Keys are looked up once, kept for a moment, and forgotten within a minute.

A guess has to name a prefix that nobody here knows, or a known one with the wrong rest: both are
counted by address, and an address that guesses on is not even told that it is wrong. Good keys are
not held up by it: whoever shares an address with a guesser goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from luma_memory.concurrency.deadline import within
from luma_memory.concurrency.token_buckets import TokenBuckets
from luma_memory.domain.access import ANONYMOUS, EVERY_PERMISSION, Caller
from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError, StoreUnavailable, Unauthenticated
from luma_memory.domain.scope import DEFAULT_PROJECT
from luma_memory.pipeline.accounts.keys import hash_of, prefix_of
from luma_memory.pipeline.accounts.rate_limits import check_rate
from luma_memory.ports.accounts import KeyStore, StoredKey, TokenVerifier

ResultT = TypeVar("ResultT")

# Looked at again after this long, trusted no longer than that: also a process that lost its
# database lets nobody in whose key was revoked a minute ago.
FRESH_SECONDS = 20.0
TRUSTED_SECONDS = 50.0
# A database that hangs is not asked again for every request.
RETRY_SECONDS = 2.0
# Whoever waits at the door has a context to get from the cache, also while the database hangs.
LOOK_UP_SECONDS = 0.5
# The first key closes the door this soon.
OPEN_SECONDS = 1.0
KEYS_MAX = 10_000
ATTEMPTS_PER_MINUTE = 20
# Of keys that this process does not know, whoever shows them: what guessing may cost the database.
LOOK_UPS_PER_MINUTE = 3_000
_TOO_MANY = "too_many_attempts"
NOTE_SECONDS = 30.0


@dataclass(slots=True)
class _Known:
    stored: StoredKey
    checked_at: float  # monotonic
    tried_at: float


class KeyRing:
    """The callers of one process.

    admin_key: one more key, with every permission on the default project. tokens: who checks
    end users' access tokens. open_without_keys: whoever comes may do everything, as long as there
    was never a key. required: False for no check at all.
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
        self._look_ups = TokenBuckets(LOOK_UPS_PER_MINUTE, monotonic=clock.monotonic)
        self._used: set[str] = set()
        self._keys_exist = False
        self._asked_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    @property
    def required(self) -> bool:
        """Whether anybody is asked for credentials, now or as soon as there are keys."""
        return self._required

    async def is_open(self) -> bool:
        """Whether nobody needs credentials, because there are none. Raises StoreUnavailable."""
        if not self._required:
            return True
        if not self._open_without_keys or self._keys_exist:
            return False
        now = self._clock.monotonic()
        if now - self._asked_at > OPEN_SECONDS:
            # Before the answer, so that one request asks and the others go on.
            last, self._asked_at = self._asked_at, now
            try:
                self._keys_exist = await _in_time(self._store.any_exists())
            except StoreUnavailable:
                if last == float("-inf"):
                    self._asked_at = last
                    raise
        return not self._keys_exist

    async def has_any(self) -> bool:
        """Whether there is any way to be let in. Raises StoreUnavailable."""
        given = self._admin_hash is not None or self._tokens is not None
        return given or await self._store.any_exists()

    async def caller(self, credentials: str | None, *, address: str) -> Caller:
        """Whose credentials these are.

        Raises Unauthenticated (bad, revoked and unknown ones are told alike), QuotaExceeded for an
        address that guesses, StoreUnavailable and ProviderUnavailable.
        """
        if await self.is_open():
            return ANONYMOUS
        if credentials is None:
            raise Unauthenticated(
                "Say who you are: Authorization: Bearer <key>, or X-API-Key",
                code="credentials_missing",
            )
        if self._admin_hash and hmac.compare_digest(hash_of(credentials), self._admin_hash):
            return Caller(DEFAULT_PROJECT, frozenset(EVERY_PERMISSION), name="admin key")
        if (prefix := prefix_of(credentials)) is not None:
            return await self._of_key(credentials, prefix, address)
        if self._tokens is not None and credentials.count(".") == 2:
            return await self._of_token(self._tokens, credentials, address)
        self._count_guess(address)
        raise _refused()

    async def start(self) -> None:
        """Begin to note which keys are used. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._note_often(), name="key-ring")

    async def close(self) -> None:
        """Note what is left. Idempotent; harmless before start."""
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
            check_rate(self._look_ups, "all", "Too many unknown keys are coming in", code=_TOO_MANY)
        stored = await self._stored(prefix, known)
        right = stored is not None and hmac.compare_digest(hash_of(credentials), stored.key_hash)
        if stored is None or not right or stored.key.revoked_at is not None:
            self._count_guess(address)
            raise _refused()
        self._used.add(prefix)
        return stored.key.caller

    def _count_guess(self, address: str) -> None:
        check_rate(
            self._attempts, address, "Too many wrong credentials came from here", code=_TOO_MANY
        )

    async def _of_token(self, tokens: TokenVerifier, token: str, address: str) -> Caller:
        try:
            subject = await tokens.subject(token)
        except Unauthenticated:
            self._count_guess(address)
            raise
        return Caller(DEFAULT_PROJECT, frozenset({"ingest", "read"}), subject, "access token")

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
        """The key as it is stored; all who want it at once share the look-up."""
        task = self._looking.get(prefix)
        if task is None:
            task = self._looking[prefix] = asyncio.create_task(self._find(prefix))
            task.add_done_callback(lambda _task: self._looking.pop(prefix, None))
        return await asyncio.shield(task)

    async def _find(self, prefix: str) -> StoredKey | None:
        asked_at = self._clock.monotonic()
        stored = await _in_time(self._store.find(prefix))
        if stored is None:
            self._known.pop(prefix, None)
            return None
        self._known[prefix] = _Known(stored, asked_at, asked_at)
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
            # When a key was used last is worth no alarm.
            with contextlib.suppress(LumaMemoryError):
                await self._store.note_used(used)


async def _in_time(look_up: Awaitable[ResultT]) -> ResultT:
    try:
        return await within(look_up, LOOK_UP_SECONDS)
    except TimeoutError:
        raise StoreUnavailable("PostgreSQL does not answer in time") from None


def _refused() -> Unauthenticated:
    return Unauthenticated("These credentials are not known here")
